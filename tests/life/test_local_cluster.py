"""`LocalCluster`: it lives as long as its owner, keeps its folder or removes it, and says why it cannot start."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import sqlite3
import sys
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from aistore import LocalCluster
from aistore.local import FolderInUseError, ServerStartError
from aistore.server import spawn
from aistore.server.folder import FolderError, ServedFolder, find_server
from calling import Caller, where
from programs import target_pids
from store_truth import content_sizes, problems

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aistore.sdk.types import Smap
    from aistore.server.settings import ServerSettings
    from aistore.server.spawn import Started
    from programs import Program

    Run = Callable[..., Program]
    Wait = Callable[[Callable[[], object], str], None]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/v1/health", timeout=10) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def test_temporary_cluster_leaves_nothing_behind(temp_base: Path) -> None:
    with LocalCluster() as cluster:
        assert answers(cluster.url)
        assert cluster.path.parent == temp_base
        assert repr(cluster) == f"<LocalCluster {cluster.url} on {cluster.path}>"
        url = cluster.url
    assert not answers(url)
    assert list(temp_base.iterdir()) == []
    assert repr(cluster) == "<LocalCluster stopped>"


def test_a_temporary_cluster_of_targets_keeps_its_content_over_a_restart() -> None:
    with LocalCluster(targets=2) as cluster:
        bucket = cluster.client().bucket("b").create()
        bucket.object("o").get_writer().put_content(b"kept")
        cluster.restart()
        assert cluster.client().bucket("b").object("o").get_reader().read_all() == b"kept"


def test_a_folder_of_ones_own_is_kept(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "data") as cluster:
        cluster.client().bucket("kept").create().object("a").get_writer().put_content(b"1")
    with LocalCluster(tmp_path / "data") as cluster:
        assert cluster.client().bucket("kept").object("a").get_reader().read_all() == b"1"


def test_plain_object() -> None:
    cluster = LocalCluster()
    with pytest.raises(RuntimeError, match="not running"):
        _ = cluster.url
    assert cluster.start() is cluster
    with pytest.raises(RuntimeError, match="running already"):
        cluster.start()
    path = cluster.path
    cluster.stop()
    cluster.stop()
    assert not path.exists()


def test_restart_keeps_url_and_contents() -> None:
    with LocalCluster() as cluster:
        url, pid = cluster.url, cluster.pid
        cluster.client().bucket("b").create().object("a").get_writer().put_content(b"1")
        cluster.restart()
        assert cluster.url == url
        assert cluster.pid != pid
        assert cluster.client().bucket("b").object("a").get_reader().read_all() == b"1"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port that is bound cannot be shared")
def test_nobody_else_is_given_the_port_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(settings: ServerSettings) -> Started:
        with socket.socket() as somebody, pytest.raises(OSError, match="in use"):
            somebody.bind(("127.0.0.1", settings.port))
        return spawn.start(settings)

    with LocalCluster() as cluster:
        monkeypatch.setattr("aistore.local.cluster.start", start)
        cluster.restart()
        assert answers(cluster.url)


def test_restart_after_the_server_was_killed() -> None:
    with LocalCluster() as cluster:
        cluster.client().bucket("b").create().object("a").get_writer().put_content(b"1")
        url = cluster.url
        os.kill(cluster.pid, signal.SIGKILL)
        cluster.restart()
        assert cluster.url == url
        assert cluster.client().bucket("b").object("a").get_reader().read_all() == b"1"


def test_second_server_on_a_folder_is_refused_and_told_of_the_first() -> None:
    with LocalCluster() as cluster:
        with pytest.raises(FolderInUseError) as caught:
            LocalCluster(cluster.path).start()
        assert (caught.value.pid, caught.value.url) == (cluster.pid, cluster.url)
        assert f"process {cluster.pid} at {cluster.url}" in str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        assert answers(cluster.url)


OWNER = """
import os, sys
from aistore import LocalCluster
cluster = LocalCluster(*sys.argv[1:]).start()
print(cluster.path, cluster.url, flush=True)
sys.stdin.read()
"""


def test_server_dies_with_its_killed_owner(program: Run, wait_until: Wait, tmp_path: Path) -> None:
    owner = program(OWNER, tmp_path / "data")
    _, url = owner.line().split()
    assert answers(url)
    owner.kill()
    wait_until(lambda: find_server(tmp_path / "data") is None, "the server's end")
    assert not answers(url)


def test_temporary_folder_goes_with_its_killed_owner(program: Run, wait_until: Wait, temp_base: Path) -> None:
    owner = program(OWNER)
    owner.line()
    owner.kill()
    wait_until(lambda: list(temp_base.iterdir()) == [], "an empty temporary folder")


def test_server_ends_with_an_owner_that_forgot_to_stop_it(program: Run, temp_base: Path) -> None:
    owner = program(OWNER)
    _, url = owner.line().split()
    assert owner.finish() == 0
    assert not answers(url)
    assert list(temp_base.iterdir()) == []


def test_forked_child_does_not_keep_the_server_alive(program: Run, wait_until: Wait, tmp_path: Path) -> None:
    code = """
import os, sys, time
from aistore import LocalCluster
cluster = LocalCluster(sys.argv[1]).start()
child = os.fork()
if child == 0:
    time.sleep(600)
print(child, flush=True)
sys.stdin.read()
"""
    owner = program(code, tmp_path / "data")
    child = int(owner.line())
    try:
        owner.kill()
        wait_until(lambda: find_server(tmp_path / "data") is None, "the server's end")
        os.kill(child, 0)  # the child still runs
    finally:
        os.kill(child, signal.SIGKILL)


def test_forked_child_does_not_stop_its_parents_server(program: Run) -> None:
    code = """
import os, sys
from aistore import LocalCluster
with LocalCluster() as cluster:
    child = os.fork()
    if child == 0:
        cluster.stop()
        sys.exit()  # runs what runs at exit
    os.waitpid(child, 0)
    print(cluster.url, cluster.path.exists(), flush=True)
    sys.stdin.read()
"""
    owner = program(code)
    url, there = owner.line().split()
    assert there == "True"
    assert answers(url)


def test_folder_of_an_owner_and_server_that_were_both_killed_goes_with_the_next_start(
    program: Run, wait_until: Wait, temp_base: Path
) -> None:
    owner = program(OWNER)
    path = temp_base / os.path.basename(owner.line().split()[0])  # noqa: PTH119  # the program's own spelling of the path
    found = find_server(path)
    assert found is not None
    assert found.pid is not None
    os.kill(found.pid, signal.SIGSTOP)  # so that it cannot clean up once its owner is gone
    owner.kill()
    os.kill(found.pid, signal.SIGKILL)
    wait_until(lambda: find_server(path) is None, "the server's end")
    assert path.exists()
    with LocalCluster() as running, LocalCluster():
        assert not path.exists()
        assert answers(running.url)


def test_somebody_elses_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ServerStartError, match=r"not an AIStore data folder and not empty \(it holds thesis.tex\)"):
        LocalCluster(tmp_path).start()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_folder_of_an_authn_server_is_none_for_data_and_the_other_way_round(tmp_path: Path) -> None:
    ServedFolder(tmp_path / "authn", of_authn=True).close()
    (tmp_path / "authn/authn.db").touch()
    ServedFolder(tmp_path / "data").close()
    (tmp_path / "data/catalog.db").touch()
    (tmp_path / "data/authn").mkdir()
    (tmp_path / "data/authn/authn.db").touch()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("**/*")}
    for of_authn in (True, False):
        with pytest.raises(FolderError, match=f"ais serve {tmp_path}/data --authn local"):
            ServedFolder(tmp_path / "data/authn", of_authn=of_authn)
    with pytest.raises(ServerStartError, match="ais authn serve"):
        LocalCluster(tmp_path / "authn").start()
    with pytest.raises(FolderError, match="--authn local"):
        ServedFolder(tmp_path / "data", of_authn=True)
    with pytest.raises(FolderError, match="name another one for data"):
        ServedFolder(tmp_path / "authn")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("**/*")} == before
    ServedFolder(tmp_path / "authn", of_authn=True).close()


def test_folder_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with LocalCluster(tmp_path):
        pass
    (tmp_path / "format").write_text(json.dumps({"format": 1000}))
    with pytest.raises(ServerStartError, match="has format 1000, made by a newer aistore-py"):
        LocalCluster(tmp_path).start()


@pytest.mark.parametrize("table", ["open_block", "usage", "job"])
def test_a_catalog_that_is_damaged_further_back_is_named(tmp_path: Path, table: str) -> None:
    with LocalCluster(tmp_path):
        pass
    path = tmp_path / "catalog.db"
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    with pytest.raises(ServerStartError, match=r"cannot open the catalog .*malformed"):
        LocalCluster(tmp_path).start()


def test_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerStartError, match=rf"cannot serve on 127.0.0.1:{port}: address already in use"):
            LocalCluster(port=port).start()


def test_start_that_crashes_shows_the_log(tmp_path: Path) -> None:
    with LocalCluster(tmp_path):
        pass
    for path in tmp_path.glob("catalog*"):
        path.unlink()
    (tmp_path / "catalog.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(ServerStartError) as caught:
        LocalCluster(tmp_path).start()
    assert "not a database" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match="give others its url"):
        pickle.dumps(LocalCluster())


def addresses(smap: Smap) -> dict[str, str]:
    """Where each target of a cluster map answers, by id."""
    return {name: node.public_net.direct_url for name, node in smap.tmap.items() if node.public_net}


def test_several_targets_answer_and_end_with_the_gateway(wait_until: Wait) -> None:
    with LocalCluster(targets=3) as cluster:
        smap = cluster.client().cluster().get_info()
        urls = set(addresses(smap).values())
        assert len(urls) == 3
        assert cluster.url not in urls
        assert all(answers(url) for url in urls)
        os.kill(cluster.pid, signal.SIGKILL)
        wait_until(lambda: not any(answers(url) for url in urls), "the end of the targets")


def test_target_that_dies_comes_back_at_the_same_place(wait_until: Wait) -> None:
    with LocalCluster(targets=2) as cluster:
        client = cluster.client()
        before = client.cluster().get_info()
        client.bucket("b").create()
        names = [f"o{i}" for i in range(20)]
        for name in names:
            client.bucket("b").object(name).get_writer().put_content(name.encode())
        os.kill(target_pids(cluster)[next(iter(before.tmap))], signal.SIGKILL)
        wait_until(lambda: int(client.cluster().get_info().version) >= int(before.version) + 2, "its return to the map")
        after = client.cluster().get_info()
        assert addresses(after) == addresses(before)
        for name in names:
            assert client.bucket("b").object(name).get_reader().read_all() == name.encode()


class HalfPut:
    """A PUT to the target that owns the object, of which one half was sent."""

    def __init__(self, call: Caller, name: str, content: bytes) -> None:
        place = urlsplit(call.redirected("PUT", where("b", name)))
        assert place.hostname and place.port
        self.port = place.port
        self._rest = content[len(content) // 2 :]
        self._socket = socket.create_connection((place.hostname, place.port))
        head = f"PUT {place.path}?{place.query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        self._socket.sendall(head.encode() + content[: len(content) // 2])

    def finish(self) -> bytes:
        """Send the rest; the first line of the answer."""
        with self._socket:
            self._socket.sendall(self._rest)
            return self._socket.makefile("rb").readline()

    def close(self) -> None:
        self._socket.close()


def test_what_a_dead_target_left_unfinished_is_removed_beside_the_others(wait_until: Wait) -> None:
    content = bytes(range(256)) * 10_000
    with LocalCluster(targets=2) as cluster, Caller(cluster.url) as call:
        call.make_bucket("b")
        stored = {f"s{n}": bytes([n]) * 100_000 for n in range(20)}
        for name, body in stored.items():
            assert call.put("b", name, body).status == 200
        puts: list[HalfPut] = []
        while len(puts) < 12 or len({put.port for put in puts}) < 2:  # chance says which target owns what
            puts.append(HalfPut(call, f"o{len(puts)}", content))
        wait_until(lambda: len(content_sizes(cluster.path)) == len(stored) + len(puts), "all uploads to begin")
        smap = cluster.client().cluster().get_info()
        dead = next(iter(smap.tmap))
        port = urlsplit(addresses(smap)[dead]).port
        os.kill(target_pids(cluster)[dead], signal.SIGKILL)
        living = [put for put in puts if put.port != port]
        wait_until(
            lambda: len(content_sizes(cluster.path)) == len(stored) + len(living),
            "the removal of what it left unfinished",
        )
        for put in puts:
            if put in living:
                assert put.finish() == b"HTTP/1.1 200 OK\r\n"
            put.close()
        wait_until(lambda: len(cluster.client().cluster().get_info().tmap) == 2, "its return to the map")
        with Caller(cluster.url) as again:  # no connection of the dead target's
            for name, body in stored.items():
                assert again.get("b", name).body == body
            for number, put in enumerate(puts):
                got = again.get("b", f"o{number}")
                assert (got.status, got.body == content) == ((200, True) if put in living else (404, False))
        assert problems(cluster.path, recovered=False) == []
