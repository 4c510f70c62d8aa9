"""Folders of this machine that an embedded cluster takes in from where they lie."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from aistore import AsyncClient, Client, LocalCluster
from aistore.sdk.errors import AISError
from aistore.sdk.transfer import Reason
from answering import answering, client_of
from peer import Peer
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.sdk import Bucket
    from aistore.sdk.transfer import Moved

SMALL, LARGE = b"small" * 100, os.urandom(300_000)
_FICLONE = 0x40049409


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "files")


def fill(root: Path) -> Path:
    (root / "sub").mkdir(parents=True)
    (root / "small").write_bytes(SMALL)
    (root / "sub" / "large").write_bytes(LARGE)
    (root / "link").symlink_to("small")
    return root


def objects_in(bucket: Bucket) -> dict[str, bytes]:
    return {entry.name: bucket.object(entry.name).get_reader().read_all() for entry in bucket.list_objects_iter()}


@pytest.fixture(params=["cluster", "cluster3"])
def anywhere(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """A bucket of one node, and of three targets."""
    cluster: LocalCluster = request.getfixturevalue(request.param)
    with cluster.client() as client:
        made = client.bucket(f"import-{uuid.uuid4().hex[:8]}").create()
        yield made
        made.delete()


def test_a_folder_is_taken_in_and_what_is_unchanged_is_skipped(anywhere: Bucket, folder: Path) -> None:
    dry = anywhere.import_folder(folder, "p/", dry_run=True)
    assert (dry.moved, dry.skipped, objects_in(anywhere)) == (2, 1, {})
    first = anywhere.import_folder(folder, "p/")
    assert (first.moved, first.skipped, first.failed, first.bytes) == (2, 1, 0, len(SMALL) + len(LARGE))
    assert first.how.keys() - {"reflink"} <= {"copy", "inline"}
    assert first.left_out == (Reason("link", "a symbolic link"),)
    assert objects_in(anywhere) == {"p/small": SMALL, "p/sub/large": LARGE}
    assert anywhere.object("p/sub/large").head().checksum_value != ""
    assert anywhere.import_folder(str(folder), "p/").moved == 0
    (folder / "small").write_bytes(b"S" * len(SMALL))
    assert anywhere.import_folder(folder, "p/", "sm*").moved == 1
    assert objects_in(anywhere)["p/small"] == b"S" * len(SMALL)


def test_links_are_made_when_they_are_asked_for_and_the_files_stay_their_owners(tmp_path: Path, folder: Path) -> None:
    with LocalCluster(tmp_path / "data") as cluster, cluster.client() as client:
        bucket = client.bucket("b").create()
        summary = bucket.import_folder(folder, link=True)
        assert summary.how in ({"inline": 1, "link": 1}, {"inline": 1, "reflink": 1})
        large = folder / "sub" / "large"
        assert large.stat().st_nlink == 1 + summary.how.get("link", 0)
        with bucket.object("sub/large").get_writer().as_file() as file:
            file.write(b"more")
        assert objects_in(bucket)["sub/large"] == LARGE + b"more"
        assert large.read_bytes() == LARGE
        bucket.import_folder(folder, link=True)
        cluster.restart()
        assert objects_in(bucket)["sub/large"] == LARGE
        bucket.delete()
        until(lambda: large.stat().st_nlink == 1)  # what a destroyed bucket held is removed afterwards
        cluster.restart()
    assert large.read_bytes() == LARGE
    assert large.stat().st_nlink == 1
    assert [name for name in os.listdir(tmp_path / "data") if name.startswith("import")] == []  # noqa: PTH208 (names)


def shares_blocks(folder: Path) -> bool:
    one, two = folder / "one", folder / "two"
    one.write_bytes(b"x" * 8192)
    try:
        with one.open("rb") as source, two.open("wb") as to:
            fcntl.ioctl(to.fileno(), _FICLONE, source.fileno())
    except OSError:
        return False
    return True


def test_blocks_are_shared_where_the_file_system_can(tmp_path: Path) -> None:
    base = Path(os.environ.get("AIS_TEST_REFLINK_DIR", str(tmp_path))) / uuid.uuid4().hex
    base.mkdir()
    if not shares_blocks(base):
        pytest.skip("no file system that shares blocks: name a folder on Btrfs or XFS in AIS_TEST_REFLINK_DIR")
    folder = fill(base / "files")
    with LocalCluster(base / "data") as cluster, cluster.client() as client:
        bucket = client.bucket("b").create()
        assert bucket.import_folder(folder).how == {"inline": 1, "reflink": 1}
        with (folder / "sub" / "large").open("r+b") as file:
            file.write(b"changed in place")
        assert objects_in(bucket)["sub/large"] == LARGE


def test_a_client_that_shows_nothing_gets_nothing(cluster: LocalCluster, bucket: Bucket, folder: Path) -> None:
    proof = f"import-{'0' * 32}"
    path = cluster.path / proof

    def ask(proof: str) -> None:
        value = {"src": str(folder / "small"), "obj": "stolen", "ovw": True, "imp": "reflink", "proof": proof}
        bucket.client.request(
            "POST",
            f"objects/{bucket.name}",
            data=json.dumps({"action": "promote", "value": value}),
            params=bucket.qparam,
        )

    for wrong in ("", proof, "../x", "server.log", "import-x"):
        with pytest.raises(AISError, match="does not show"):
            ask(wrong)
    path.symlink_to(cluster.path / "server.log")
    with pytest.raises(AISError, match="does not show"):
        ask(proof)
    path.unlink()
    path.write_bytes(b"")
    other = path.with_name("other")
    other.hardlink_to(path)
    with pytest.raises(AISError, match="does not show"):
        ask(proof)
    other.unlink()
    assert objects_in(bucket) == {}
    ask(proof)
    path.unlink()
    assert objects_in(bucket) == {"stolen": SMALL}


def test_a_cluster_that_is_not_embedded_is_told_apart(folder: Path) -> None:
    """As a production cluster, and one of another user: its folder cannot be found or is not ours."""
    for answer in (b'{"confdir": "/etc/ais"}', b'{"confdir": "relative"}', b"{}", b"no JSON"):
        with Peer(answering(lambda _, answer=answer: (200, answer))) as peer:  # type: ignore[misc]  # bound to this turn
            with pytest.raises(ValueError, match=r"sync\(source=...\) or bucket.put_files"):
                client_of(peer).bucket("b").import_folder(folder)
            assert {received.method for received in peer.requests} == {"HEAD", "GET"}


def test_a_stranger_cannot_have_the_server_of_another_folder_shown(
    cluster: LocalCluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be told what to show that one, which then gives it any file of this user."""
    made: list[str] = []
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        made.append(path.name)
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    answer = json.dumps({"confdir": str(cluster.path)}).encode()
    with Peer(answering(lambda _: (200, answer))) as peer:
        with pytest.raises(ValueError, match=r"sync\(source=...\) or bucket.put_files"):
            client_of(peer).bucket("b").import_folder(folder)
        assert {received.method for received in peer.requests} == {"HEAD", "GET"}
    assert not [name for name in made if name.startswith("import-")]


def test_a_cluster_is_itself_also_when_it_is_called_localhost(
    cluster: LocalCluster, bucket: Bucket, folder: Path
) -> None:
    with Client(cluster.url.replace("127.0.0.1", "localhost")) as client:
        assert client.bucket(bucket.name).import_folder(folder).moved == 2


def test_the_asyncio_face(cluster: LocalCluster, bucket: Bucket, folder: Path) -> None:
    async def run() -> int:
        async with AsyncClient(cluster.url) as client:
            return (await client.bucket(bucket.name).import_folder(folder)).moved

    assert asyncio.run(run()) == 2
    assert objects_in(bucket) == {"small": SMALL, "sub/large": LARGE}


def test_a_server_that_is_killed_while_it_imports_keeps_what_is_whole_and_harms_no_file(tmp_path: Path) -> None:
    contents = {f"{i:03}": os.urandom(20_000) for i in range(200)}
    (tmp_path / "files").mkdir()
    for name, content in contents.items():
        (tmp_path / "files" / name).write_bytes(content)
    with LocalCluster(tmp_path / "data", durability="relaxed") as cluster, cluster.client() as client:
        bucket = client.bucket("b").create()
        seen = 0

        def kill(_: Moved) -> None:
            nonlocal seen
            seen += 1
            if seen == 20:
                os.kill(cluster.pid, signal.SIGKILL)

        with pytest.raises(requests.ConnectionError):
            bucket.import_folder(tmp_path / "files", link=True, on_each=kill)
        cluster.restart()
        there = objects_in(bucket)
        assert len(there) >= 20
        assert there.items() <= contents.items()
        stored = [path for path in (tmp_path / "data" / "content").rglob("*") if path.is_file()]
        assert len(stored) == len(there)
        assert bucket.import_folder(tmp_path / "files", link=True).moved == len(contents) - len(there)
        assert objects_in(bucket) == contents
        bucket.delete()
        cluster.restart()
    assert {path.name: path.read_bytes() for path in (tmp_path / "files").iterdir()} == contents
