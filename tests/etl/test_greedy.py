"""Transformers that take all there is: memory, files, processes, the disk, the log."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aistore import LocalCluster
from aistore.http1.payload import BytesPayload
from aistore.wire.etl import KEY_VARIABLE, WS_ARGS, WS_PATH
from calling import Caller
from disks import small_disk_at
from etl_rest import Etl, acting, files_of, framework, listens, payload_of, ports_of, processes_of
from store_truth import problems
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

HTTP, FAST = "HTTPMultiThreadedServer", "FastAPIServer"
MIB = 1 << 20


def greedy(kind: str) -> str:
    """The payload of one that takes what its arguments say."""

    class Greedy(framework(kind)):  # type: ignore[misc]  # the framework is found at run time
        def transform(self, data: Any, path: str, etl_args: str) -> bytes:
            import subprocess
            import sys
            import tempfile
            import time

            word, _, rest = etl_args.partition(" ")
            if word == "memory":
                return b"%d" % len(bytes(int(rest)))
            if word == "files":
                held: list[int] = []
                try:
                    while len(held) < 200_000:
                        held.append(os.open(os.devnull, os.O_RDONLY))
                except OSError as error:
                    print("took", len(held), error, flush=True)
                    time.sleep(float(rest))
                finally:
                    for fd in held:
                        os.close(fd)
                return b"%d" % len(held)
            if word == "double-fork":
                for _ in range(20):
                    code = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(1000)\n    os._exit(0)"
                    subprocess.run([sys.executable, "-S", "-c", code], check=True)
            if word == "disk":
                with tempfile.NamedTemporaryFile(delete=False) as file:
                    while True:
                        file.write(bytes(1 << 20))
            if word == "larger":
                return bytes(data) * 4
            if word == "print":
                sys.stdout.write("z" * int(rest))
                sys.stdout.flush()
                time.sleep(1000)
            return bytes(data.upper())

    return payload_of(Greedy)


@pytest.mark.parametrize("kind", [HTTP, FAST])
def test_memory(etl: Etl, src: str, kind: str) -> None:
    """What is over its limit fails in the transformer, which goes on."""
    etl.started(greedy(kind), env={"NUM_WORKERS": "1"}, resources={"limits": {"memory": "512Mi"}})
    got = etl.get(src, "a.txt", f"memory {1 << 30}")
    assert got.status == 500
    assert str(got.error["message"]).startswith("ETL error: ")
    assert etl.get(src, "a.txt").body == b"CONTENT OF A.TXT"
    assert etl.get(src, "a.txt", f"memory {1 << 20}").body == b"%d" % (1 << 20)


def test_the_kernel_would_end_it_before_the_server(etl: Etl, etl_cluster: LocalCluster) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux chooses by a score")
    before = processes_of(etl_cluster)
    etl.started(acting(FAST), env={"NUM_WORKERS": "1"})
    (score,) = {_score(pid) for pid in processes_of(etl_cluster) - before if _command(pid).endswith("bootstrap")}
    assert score == 1000
    assert _score(etl_cluster.pid) < 1000


def _score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def _command(pid: int) -> str:
    text = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    return "bootstrap" if "sdk.etl.webserver.bootstrap" in text else text


def test_files(etl: Etl, src: str, etl_cluster: LocalCluster) -> None:
    """While it has no descriptor left for a connection, others are told in time; afterwards it goes on."""
    etl.started(greedy(HTTP), obj_timeout="2s")
    hungry = threading.Thread(target=_ask, args=(etl_cluster.url, etl.name, src, "files 1.5"))
    hungry.start()
    until(lambda: "took " in etl.log)
    got = etl.get(src, "b.txt")
    assert got.status in (200, 400)
    if got.status == 400:
        assert "took " in str(got.error["message"])
    hungry.join()
    until(lambda: etl.get(src, "a.txt").body == b"CONTENT OF A.TXT")
    assert etl_cluster_answers(etl, src)


def etl_cluster_answers(etl: Etl, src: str) -> bool:
    return etl.call.get(src, "a.txt").body == b"content of a.txt"


def _ask(url: str, name: str, bucket: str, args: str) -> None:
    with Caller(url) as call:
        Etl(call, name).get(bucket, "a.txt", args)


def test_results_over_websockets_that_memory_has_no_room_for(etl: Etl, src: str, etl_cluster: LocalCluster) -> None:
    pytest.importorskip("websockets")
    if sys.platform != "linux":
        pytest.skip("only Linux shows the key of a transformer")
    from aistore.server.etl.exchange import Answer, NoConnection
    from aistore.server.etl.sockets import Sockets

    etl.started(greedy(FAST), "ws", env={"NUM_WORKERS": "1"})
    url = f"http://127.0.0.1:{ports_of(etl_cluster)[-1]}"
    variables = [Path(f"/proc/{pid}/environ").read_text().split("\0") for pid in processes_of(etl_cluster)]
    key = next(one.partition("=")[2] for all_ in variables for one in all_ if one.startswith(f"{KEY_VARIABLE}="))

    async def ask(size: int) -> Answer:
        sockets = Sockets(url, key, largest=2 * MIB)
        try:
            said = json.dumps({WS_ARGS: "larger", WS_PATH: "x"}).encode()
            return await sockets.ask(said, BytesPayload(bytes(size)), 60, empty=False)
        finally:
            sockets.close()

    assert asyncio.run(ask(MIB // 2)).data == bytes(2 * MIB)
    with pytest.raises(NoConnection, match="its result has more than 2 MiB"):
        asyncio.run(ask(MIB // 2 + 1))


def test_large_objects_over_websockets_by_value(etl: Etl, src: str) -> None:
    etl.started(greedy(FAST), "ws", env={"NUM_WORKERS": "1"})
    assert etl.call.put(src, "large", b"x" * 20_000_000).status == 200
    assert etl.get(src, "large", more="&latest-ver=true").body == b"X" * 20_000_000


@pytest.mark.parametrize("how", ["DELETE", "POST"])
def test_processes_that_hide(etl: Etl, src: str, etl_cluster: LocalCluster, how: str) -> None:
    """Forked twice, in sessions of their own, of a parent that is gone: they end with the ETL."""
    before = processes_of(etl_cluster)
    etl.started(greedy(HTTP))
    assert etl.get(src, "a.txt", "double-fork").status == 200
    hidden = processes_of(etl_cluster) - before
    assert len(hidden) > 20
    assert etl.ask(how, "/stop" if how == "POST" else "").status == 200
    assert not [pid for pid in hidden if Path(f"/proc/{pid}").exists()]
    assert not [one for one in files_of(etl_cluster) if one.startswith(etl.name)]


def test_megabytes_without_a_newline(etl: Etl, src: str, etl_cluster: LocalCluster) -> None:
    """The log stays small, and what the caller is told of it too."""
    etl.started(greedy(HTTP), obj_timeout="4s")
    got = etl.get(src, "a.txt", "print 9000000")
    assert got.status == 400
    message = str(got.error["message"])
    assert "context deadline exceeded" in message
    assert message.endswith("z" * 1000)
    assert len(message) < 5000
    (folder,) = (etl_cluster.path / "etl").glob(f"{etl.name}-*")
    assert sum(one.stat().st_size for one in folder.glob("log*")) <= 2 << 20


def test_megabytes_before_it_is_ready(etl: Etl, etl_cluster: LocalCluster) -> None:
    before = processes_of(etl_cluster)
    got = etl.runs([sys.executable, "-c", "print('z' * 5_000_000, end=''); raise SystemExit('no model')"])
    assert got.status == 400
    assert "no model" in str(got.error["message"])
    assert len(got.body) < 6000
    assert processes_of(etl_cluster) <= before


def test_one_that_listens_elsewhere(etl: Etl, etl_cluster: LocalCluster) -> None:
    """It is told where it has to listen, and its port is free again."""
    code = (
        "import os, socket, time\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "print('listens-on', listener.getsockname()[1], os.environ['AIS_ETL_PORT'], flush=True)\n"
        "time.sleep(1000)"
    )
    before = processes_of(etl_cluster)
    got = etl.runs([sys.executable, "-c", code], init_timeout="3s")
    assert got.status == 400
    message = str(got.error["message"])
    assert "context deadline exceeded" in message
    elsewhere, wanted = map(int, re.findall(r"listens-on (\d+) (\d+)", message)[0])
    assert f"asked at http://127.0.0.1:{wanted}/health" in message
    assert not listens(elsewhere)
    assert not listens(wanted)
    assert processes_of(etl_cluster) <= before


# -- a disk that is full -------------------------------------------------------------------------------------------


@pytest.fixture(params=[1, 3])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalCluster]:
    """A cluster on a disk of 96 MiB."""
    with (
        small_disk_at(tmp_path / "disk", 96) as disk,
        LocalCluster(disk / "data", durability="relaxed", targets=request.param) as started,
    ):
        yield started


def test_a_disk_that_an_offline_transform_fills(small: LocalCluster) -> None:
    """The job ends as aborted, nothing half-made is left, and there is room again."""
    size = 3_000_000
    with Caller(small.url) as call, Etl(call) as etl, Etl(call) as four:
        call.make_bucket("src")
        call.make_bucket("dst")
        for i in range(7):  # whose results do not fit, also when they are made one after the other
            assert call.put("src", f"o{i}", b"%08d" % i + bytes(size - 8)).status == 200
        etl.started(greedy(HTTP))
        four.started(larger())
        for dst in ("dst", "new"):
            job = four.bucket("src", dst, coer=True)
            said = four.wait(job)
            assert said["aborted"]
            assert "out of space: the disk with the data folder is full" in said["err"]
            assert {one["ecode"] for one in four.errors(job.body.decode())} == {507}
        assert "new" not in json.loads(call("GET", "/v1/buckets", b'{"action":"list"}').body)
        assert call.put("src", "x", bytes(60 * MIB)).status == 507
        for name in call.names("dst"):
            i = int(name[1:])
            assert call.get("dst", name).body == (b"%08d" % i + bytes(size - 8)) * 4
        assert call.get("src", "o3").body == b"%08d" % 3 + bytes(size - 8)
        assert etl.get("src", "o3").status == 200
        assert four.stage == "Running"
        assert call.action("DELETE", "/v1/buckets/dst", "destroy-bck").status == 200
        until(lambda: call.put("src", "x", bytes(10 * MIB)).status == 200)
    small.stop()
    assert problems(small.path) == []


def larger() -> str:
    class Larger(framework(HTTP)):  # type: ignore[misc]  # the framework is found at run time
        def transform(self, data: Any, path: str, etl_args: str) -> bytes:
            return bytes(data) * 4

    return payload_of(Larger)


def endless() -> str:
    class Endless(framework(HTTP)):  # type: ignore[misc]  # the framework is found at run time
        def transform_stream(self, reader: Any, path: str, etl_args: str) -> Iterator[bytes]:
            if path.endswith("good"):
                yield b"good"
                return
            while True:
                yield bytes(1 << 20)

    return payload_of(Endless)


def test_an_answer_without_end(small: LocalCluster) -> None:
    """It is given up where it fills the disk, and what was written of it is gone."""
    with Caller(small.url) as call, Etl(call) as etl:
        call.make_bucket("src")
        for name in ("a", "good"):
            assert call.put("src", name, b"abc").status == 200
        etl.started(endless())
        assert etl.copy("src/a", "src/x").status == 507
        assert call.get("src", "x").status == 404
        assert etl.wait(etl.bucket("src", "dst"))["aborted"]
        until(lambda: call.put("src", "b", bytes(20 * MIB)).status == 200)
        assert etl.get("src", "good").body == b"good"
    small.stop()
    assert problems(small.path) == []


def test_a_disk_that_a_transformer_fills_itself(small: LocalCluster) -> None:
    """It is told so, the server goes on, and with the ETL its files go."""
    with Caller(small.url) as call, Etl(call) as etl:
        call.make_bucket("src")
        assert call.put("src", "a", b"abc").status == 200
        etl.started(greedy(HTTP))
        got = etl.get("src", "a", "disk")
        assert got.status == 500
        assert "No space left" in str(got.error["message"])
        assert call.put("src", "b", bytes(10 * MIB)).status == 507
        assert call.get("src", "a").body == b"abc"
        assert etl.get("src", "a").body == b"ABC"
        assert etl.ask("DELETE").status == 200
        assert files_of(small) == []
        until(lambda: call.put("src", "b", bytes(10 * MIB)).status == 200)
