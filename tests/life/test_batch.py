"""Batches while the world changes: servers restarted, objects overwritten and deleted, slow readers."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from requests.exceptions import ChunkedEncodingError

from aistore import AsyncClient, LocalCluster
from aistore.sdk.batch.errors import BatchIncomplete
from aistore.sdk.errors import AISError
from archives import tar
from programs import target_pids
from waiting import until

if TYPE_CHECKING:
    from aistore.sdk import Bucket

MIB = 1 << 20


def content_of(number: int, version: int, size: int) -> bytes:
    return (number * 7 + version).to_bytes(4, "big") * (size // 4)


def fill(bucket: Bucket, count: int, size: int, version: int = 0) -> list[str]:
    names = [f"o-{number:04}" for number in range(count)]
    for number, name in enumerate(names):
        bucket.object(name).get_writer().put_content(content_of(number, version, size))
    return names


@pytest.mark.parametrize("targets", [1, 3])
def test_a_server_that_is_killed_in_the_middle_of_a_batch(tmp_path: Path, targets: int) -> None:
    with LocalCluster(tmp_path / "data", targets=targets) as cluster, cluster.client() as client:
        bucket = client.bucket("batched").create()
        names = fill(bucket, 60, MIB)
        items = client.batch(names, bucket=bucket).get()
        got = [next(items) for _ in range(5)]
        if targets == 1:
            assert cluster.pid
            os.kill(cluster.pid, signal.SIGKILL)
            cluster.restart()
        else:
            for pid in target_pids(cluster).values():
                os.kill(pid, signal.SIGKILL)
        got += items
        assert [info.obj_name for info, _ in got] == names
        assert all(content == content_of(number, 0, MIB) for number, (_, content) in enumerate(got))


def test_objects_that_are_overwritten_and_deleted_meanwhile(cluster: LocalCluster) -> None:
    with cluster.client() as client:
        bucket = client.bucket("batch-changing").create(exist_ok=True)
        names = fill(bucket, 40, MIB)
        items = client.batch(names, bucket=bucket).get()
        got = [next(items)]
        fill(bucket, 30, MIB, version=1)
        for name in names[30:]:
            bucket.object(name).delete()
        got += items
        assert [info.obj_name for info, _ in got] == names
        for number, (info, content) in enumerate(got):
            versions = [content_of(number, version, MIB) for version in (0, 1)]
            assert content in versions if not info.err_msg else number >= 30
        bucket.delete()


def test_members_of_more_archives_than_are_kept_open(cluster: LocalCluster) -> None:
    with cluster.client() as client:
        bucket = client.bucket("batch-shards").create(exist_ok=True)
        shards = [f"s-{number:02}.tar" for number in range(40)]
        for name in shards:
            members = [(f"{n}", f"{name} {n}".encode() * 1000) for n in range(3)]
            bucket.object(name).get_writer().put_content(tar(members))
        batch = client.batch(bucket=bucket, streaming_get=False)
        wanted = [(name, n) for n in range(3) for name in shards]
        for name, n in wanted:
            batch.add(name, archpath=f"{n}")
        assert [content for _, content in batch.get()] == [f"{name} {n}".encode() * 1000 for name, n in wanted]
        bucket.delete()


def test_what_comes_before_an_entry_that_fails_arrives(cluster: LocalCluster) -> None:
    with cluster.client() as client:
        bucket = client.bucket("batch-failing").create(exist_ok=True)
        names = fill(bucket, 2, 6 * MIB)
        got = []
        with pytest.raises(BatchIncomplete) as caught:
            for _, content in client.batch([*names, "none"], bucket=bucket, cont_on_err=False).get():
                got.append(content)
        assert got == [content_of(number, 0, 6 * MIB) for number in range(2)]
        assert caught.value.entries == ["batch-failing/none"]
        bucket.delete()


def test_content_that_is_gone_stops_no_entry_before_it(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "data", durability="relaxed") as cluster, cluster.client() as client:
        bucket = client.bucket("batched").create()
        names = fill(bucket, 6, MIB)
        files = sorted((tmp_path / "data" / "content").rglob("*" + "[0-9a-f]" * 16))
        assert len(files) == len(names)
        files[-1].unlink()
        raw = client.batch(names, bucket=bucket).get(raw=True)
        got = bytearray()
        with pytest.raises(ChunkedEncodingError):
            while piece := raw.read(tarfile.BLOCKSIZE):
                got += piece
        assert len(got) == 5 * (MIB + tarfile.BLOCKSIZE)
        assert all(content_of(number, 0, MIB) in got for number in range(5))


def test_a_slow_reader_costs_no_memory(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "data", durability="relaxed") as cluster, cluster.client() as client:
        bucket = client.bucket("batched").create()
        names = fill(bucket, 192, MIB)
        for mime in (".tar", ".zip"):
            before = _peak(cluster.pid or 0)
            with client.batch(names, bucket=bucket, output_format=mime).get(raw=True) as raw:
                received = len(raw.read(MIB))
                while piece := raw.read(MIB):
                    received += len(piece)
            assert received > 192 * MIB
            assert _peak(cluster.pid or 0) - before < 48 * MIB
        before = _peak(cluster.pid or 0)
        with client.batch(names, bucket=bucket, streaming_get=False).get(raw=True) as raw:
            received = sum(map(len, iter(lambda: raw.read(MIB), b"")))
        assert received > 192 * MIB
        assert _peak(cluster.pid or 0) - before < 48 * MIB
        until(lambda: not [*(tmp_path / "data").glob("batch-*"), *(tmp_path / "data" / "work").iterdir()])


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("memory is told by /proc")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def test_readers_that_go_away_leave_nothing_open(cluster: LocalCluster) -> None:
    descriptors = Path(f"/proc/{cluster.pid}/fd")
    if not descriptors.exists():
        pytest.skip("descriptors are told by /proc")
    with cluster.client() as client:
        bucket = client.bucket("batch-dropped").create(exist_ok=True)
        names = fill(bucket, 64, MIB)

        def files() -> list[str]:
            found = []
            for one in descriptors.iterdir():
                try:
                    found.append(str(one.readlink()))
                except OSError:  # closed at this moment
                    continue
            return [one for one in found if re.search("/content/.*/[0-9a-f]{16}$", one)]

        for _ in range(8):
            items = client.batch(names, bucket=bucket).get()
            next(items)
            del items
        until(lambda: not files())
        bucket.delete()


def test_stopping_the_job_ends_its_batches(tmp_path: Path) -> None:
    # In a cluster of its own: jobs of a kind are stopped together.
    with LocalCluster(tmp_path / "data", durability="relaxed") as cluster, cluster.client() as client:
        bucket = client.bucket("batch-stopped").create(exist_ok=True)
        names = fill(bucket, 64, MIB)
        raw = client.batch(names, bucket=bucket).get(raw=True)
        raw.read(MIB)
        client.job(job_kind="get-batch").abort()
        with pytest.raises(ChunkedEncodingError):
            while raw.read(MIB):
                pass
        bucket.delete()


def test_the_asyncio_face(cluster: LocalCluster) -> None:
    async def main() -> None:
        async with AsyncClient(cluster.url) as client:
            bucket = await client.bucket("batch-asyncio").create(exist_ok=True)
            await asyncio.gather(*(bucket.object(name).get_writer().put_content(name.encode()) for name in "abc"))

            async def one() -> list[bytes]:
                batch = client.batch(["a", "none", "b"], bucket=bucket).add(bucket.object("c"), start=0, length=1)
                assert (len(batch), repr(batch)) == (4, "Batch(objects=4, format=.tar)")
                return [content async for _, content in await batch.get()]

            assert await asyncio.gather(*(one() for _ in range(20))) == [[b"a", b"", b"b", b"c"]] * 20
            async with await client.batch("a", bucket=bucket).get(raw=True) as raw:
                assert len(await raw.read()) > tarfile.BLOCKSIZE
            items = await client.batch(["a", "b"], bucket=bucket).get()
            assert (await anext(aiter(items)))[1] == b"a"
            del items
            with pytest.raises(AISError):
                await client.batch("none", bucket=bucket, cont_on_err=False).get()
            with pytest.raises(BatchIncomplete):
                async for _ in await client.batch(["a", "none"], bucket=bucket, cont_on_err=False).get():
                    pass
            await bucket.delete()

    asyncio.run(main())
