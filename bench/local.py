"""Many objects of local buckets: copy, rename, delete; and one large object in parts."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from aistore import LocalCluster
from bench import server
from bench.report import Row

if TYPE_CHECKING:
    from collections.abc import Callable

OBJECTS = 100_000
OBJECT_BYTES = 10 * 1024
PART_BYTES = 8 << 20
PARTS = 128
WORKERS = 8
ROUNDS = 3


def local(quick: bool) -> list[Row]:
    """All rows; `quick` has a tenth of the objects."""
    return [*_many(OBJECTS // 10 if quick else OBJECTS), *_parts()]


# -- many objects --------------------------------------------------------------------------------------------------


def _many(count: int) -> list[Row]:
    copies, reads, renames, deletes = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        code = "import sys; from pathlib import Path; from bench.local import fill_here; fill_here(Path(sys.argv[1]), int(sys.argv[2]))"
        subprocess.run([sys.executable, "-c", code, str(data), str(count)], check=True)
        with LocalCluster(data, durability="relaxed") as cluster:
            client, pid = cluster.client(), cluster.pid or 0
            source = client.bucket("many")
            for i in range(ROUNDS):
                before, cpu = _bytes_read(pid), server.cpu_seconds(pid)
                copy = client.bucket(f"copy-{i}")
                copies.append((_timed(lambda: _wait(cluster, source.copy(copy))), server.cpu_seconds(pid) - cpu))  # noqa: B023 (called at once)
                reads.append(_bytes_read(pid) - before)
                assert int(copy.info()[1]["ObjCount"]["obj_count_present"]) == count
                renames.append(_timed(lambda: copy.rename(f"renamed-{i}")))  # noqa: B023 (called at once)
            for i in range(ROUNDS):
                # Only what has no copy gives its room back.
                files = _files(data)
                victim = source if i == ROUNDS - 1 else client.bucket(f"renamed-{i}")
                if victim is source:
                    client.bucket(f"renamed-{i}").delete()
                cpu = server.cpu_seconds(pid)
                deletes.append(_timed(lambda: _delete(cluster, victim.name, data)))  # noqa: B023 (called at once)
            deleting = server.cpu_seconds(pid) - cpu
            assert files == count and _files(data) == 0, (files, _files(data))
            assert victim.list_all_objects() == []
    took, cpu = min(copies)
    worst, slowest = max(reads), max(renames)
    last = deletes[-1]
    return [
        Row(
            f"copy a bucket of {count:,} x 10 KiB", f"{count / took:,.0f}/s", "", 0, "at least 20,000/s, no content read",
            count / took >= 20_000 and worst < count * OBJECT_BYTES / 20,
            f"server CPU {cpu / count * 1e6:.1f} us each; all reads, of the catalog too, {worst / 1e6:.0f} MB of {count * OBJECT_BYTES / 1e6:,.0f} MB",
        ),
        Row("rename that bucket", f"{slowest * 1e3:.1f} ms", "", 0, "under 50 ms", slowest < 0.05, f"slowest of {ROUNDS}"),
        Row(
            f"delete {count:,} by prefix, until the files are gone", f"{count / last:,.0f}/s", "", 0, "at least 20,000/s",
            count / last >= 20_000, f"server CPU {deleting / count * 1e6:.1f} us each; of objects that share content with a copy {count / min(deletes[:-1]):,.0f}/s",
        ),
    ]  # fmt: skip


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _wait(cluster: LocalCluster, job_id: str) -> None:
    """Wait until a job has ended; `Job.wait` would look once in some tenths of a second."""
    job = cluster.client().job(job_id)
    while not (status := job.status()).end_time:
        time.sleep(0.01)
    assert not status.err, status.err


def _delete(cluster: LocalCluster, bucket: str, data: Path) -> None:
    _wait(cluster, cluster.client().bucket(bucket).objects(obj_template="o/").delete())
    with closing(sqlite3.connect(f"file:{data / 'catalog.db'}?mode=ro", uri=True)) as db:
        while db.execute("SELECT 1 FROM garbage LIMIT 1").fetchone():
            time.sleep(0.01)


def _files(data: Path) -> int:
    """Number of content files."""
    return sum(len(files) for _, _, files in os.walk(data / "content"))


def _bytes_read(pid: int) -> int:
    """Bytes that a process has read by system calls, wherever they came from."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["rchar"])


def fill_here(folder: Path, count: int) -> None:
    """Put `count` objects of 10 KiB into bucket `many` of a data folder that nobody serves."""
    from aistore.server.folder import ServedFolder
    from aistore.server.store.store import Store
    from aistore.wire.checksum import digest
    from aistore.wire.names import BucketId
    from aistore.wire.props import BucketProps, pack

    content = os.urandom(OBJECT_BYTES)
    checksum = digest("xxhash2", content)

    async def run() -> None:
        store = Store(folder, "relaxed")
        await store.open()
        bucket = await store.create_bucket(BucketId("ais", "", "", "many"), lambda _: pack(BucketProps()))
        for start in range(0, count, 1000):
            batch = []
            for i in range(start, start + 1000):
                upload = await store.content.create()
                upload.write(content)
                upload.finish()
                batch.append(store.put(bucket, f"o/{i // 1000:03}/{i:06}.bin", upload, "xxhash2", checksum))
            await asyncio.gather(*batch)
        await store.close()

    shutil.rmtree(folder, ignore_errors=True)
    served = ServedFolder(folder)
    asyncio.run(run())
    served.close()


# -- in parts ------------------------------------------------------------------------------------------------------


def _parts() -> list[Row]:
    single, parted = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gib"
        block = os.urandom(1 << 20)
        with path.open("wb") as file:
            for _ in range(PARTS * PART_BYTES >> 20):
                file.write(block)
        with LocalCluster(Path(folder) / "data", durability="relaxed") as cluster:
            cluster.client().bucket("parts").create()
            for _ in range(ROUNDS):
                single.append(_sent(cluster.url, path, "put_whole"))
                before = server.peak_mib(cluster.pid or 0)
                parted.append(_sent(cluster.url, path, "put_in_parts"))
                after = server.peak_mib(cluster.pid or 0)
    a, b = min(parted)[0], min(single)[0]
    client = max(peak for _, peak in parted)
    return [
        Row(
            f"multipart 1 GiB, {WORKERS} workers", f"{a:.2f} s", "", 0, "no slower than one PUT, under 128 MiB", a <= b and max(client, after) < 128,
            f"one PUT {b:.2f} s; peak memory of client {client:.0f} MiB, of server {after:.0f} MiB ({before:.0f} before)",
        )
    ]  # fmt: skip


def _sent(url: str, path: Path, how: str) -> tuple[float, float]:
    """Seconds that sending a file took, and the peak memory of the process that sent it (MiB)."""
    code = f"import sys; from bench.local import {how}; {how}(sys.argv[1], sys.argv[2])"
    command = [sys.executable, "-c", code, url, str(path)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(out[0]), float(out[1])


def put_whole(url: str, path: str) -> None:
    """Send a file in one PUT; prints seconds and peak memory."""
    from aistore.sdk import Client

    target = Client(url).bucket("parts").object("gib")
    _report(_timed(lambda: target.get_writer().put_file(path)))


def put_in_parts(url: str, path: str) -> None:
    """Send a file in parts, some at a time; prints seconds and peak memory."""
    from aistore.sdk import Client

    target = Client(url).bucket("parts").object("gib")

    def send() -> None:
        upload = target.multipart_upload().create()
        writers = [upload.add_part(number) for number in range(1, PARTS + 1)]
        buffers: SimpleQueue[bytearray] = SimpleQueue()  # one for each worker
        with (
            ThreadPoolExecutor(WORKERS, initializer=lambda: buffers.put(bytearray(PART_BYTES))) as threads,
            Path(path).open("rb") as file,
        ):

            def part(index: int) -> None:
                buffer = buffers.get()
                os.preadv(file.fileno(), [buffer], index * PART_BYTES)
                writers[index].put_content(buffer)
                buffers.put(buffer)

            list(threads.map(part, range(PARTS)))
        upload.complete()

    _report(_timed(send))


def _report(seconds: float) -> None:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / (1 << 20))
