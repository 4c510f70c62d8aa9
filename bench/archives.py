"""Archives: objects into one TAR against GNU tar over files, and members of a large TAR."""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from aistore import LocalCluster
from bench import server
from bench.report import Row

MEMBERS = 10_000
MEMBER_BYTES = 100 * 1024
# The large TAR has as many pairs: a member of 4 KiB, which is read, and one that is a hole of nearly a megabyte.
PAIRS = 10_240
PAIR_BYTES = 1 << 20
READ_BYTES = 4096


def archives(quick: bool) -> list[Row]:
    """Both rows; `quick` archives a tenth."""
    return [_create(MEMBERS // 10 if quick else MEMBERS), _member_of_large()]


def _create(count: int) -> Row:
    ours, theirs = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(Path(folder) / "data", durability="relaxed") as cluster,
    ):
        files = Path(folder) / "files"
        files.mkdir()
        bucket = cluster.client().bucket("archives").create()
        rest = os.urandom(MEMBER_BYTES - 8)

        def make(i: int) -> None:
            content = i.to_bytes(8, "big") + rest
            (files / f"{i:05}").write_bytes(content)
            bucket.object(f"o/{i:05}").get_writer().put_content(content)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(make, range(count)))
        before = server.resident_mib(cluster.pid or 0)
        for _ in range(3):
            ours.append(_archive(cluster, count))
            out = Path(folder) / "files.tar"
            began = time.perf_counter()
            subprocess.run(["tar", "-cf", str(out), "-C", str(files), "."], check=True)
            theirs.append(time.perf_counter() - began)
            out.unlink()
        more = server.peak_mib(cluster.pid or 0) - before
    a, b = min(ours), min(theirs)
    return Row(
        f"archive {count:,} x 100 KiB into one TAR", f"{a:.2f} s", "", 0, "at least 0.6 of GNU tar, under 64 MiB",
        b / a >= 0.6 and more < 64, f"GNU tar over files {b:.2f} s: {b / a:.2f} of it; memory {more:.0f} MiB more",
    )  # fmt: skip


def _archive(cluster: LocalCluster, count: int) -> float:
    """Seconds from the request until the archive is there."""
    bucket = cluster.client().bucket("archives")
    name = f"{time.time_ns()}.tar"
    began = time.perf_counter()
    bucket.objects(obj_template="o/").archive(name)
    while not bucket.list_all_objects(prefix=name):
        time.sleep(0.005)
    took = time.perf_counter() - began
    assert bucket.list_all_objects(prefix=name)[0].size >= count * MEMBER_BYTES
    bucket.object(name).delete()
    return took


def _member_of_large() -> Row:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        code = (
            "import sys; from pathlib import Path; from bench.archives import fill_here; fill_here(Path(sys.argv[1]))"
        )
        subprocess.run([sys.executable, "-c", code, str(data)], check=True)
        with LocalCluster(data, durability="relaxed") as cluster:
            connection = http.client.HTTPConnection(urlsplit(cluster.url).netloc)
            first = _read_member(connection, PAIRS - 1)
            places = (*range(0, PAIRS, PAIRS // 100), PAIRS - 1)
            again = sorted(_read_member(connection, i) for i in places)
            connection.close()
    worst = again[-2] * 1e3  # one of a hundred may meet something else
    return Row(
        "second read of a member of a 10 GiB TAR", f"{worst:.2f} ms", "", 0, "under 2 ms", worst < 2,
        f"4 KiB, p99 over {len(again)} places, median {again[len(again) // 2] * 1e3:.2f} ms; the first read makes the index: {first * 1e3:.0f} ms",
    )  # fmt: skip


def _read_member(connection: http.client.HTTPConnection, i: int) -> float:
    """Seconds that reading a member takes."""
    began = time.perf_counter()
    connection.request("GET", f"/v1/objects/large/large.tar?archpath=d/{i:08}")
    answer = connection.getresponse()
    content = answer.read()
    took = time.perf_counter() - began
    assert content == b"%0*d" % (READ_BYTES, i), content[:100]
    return took


def fill_here(folder: Path) -> None:
    """Put a TAR of 10 GiB, nearly all holes, into bucket `large` of a data folder that nobody serves."""
    from aistore.server.archive.reading import tar_header
    from aistore.server.archive.tar import BLOCK
    from aistore.server.folder import ServedFolder
    from aistore.server.store.store import Store
    from aistore.wire.names import BucketId
    from aistore.wire.props import BucketProps, pack

    async def run() -> None:
        store = Store(folder, "relaxed")
        await store.open()
        bucket = await store.create_bucket(BucketId("ais", "", "", "large"), lambda _: pack(BucketProps()))
        upload = await store.content.create()
        for i in range(PAIRS):
            small = tar_header(f"d/{i:08}", READ_BYTES, 0) + b"%0*d" % (READ_BYTES, i)
            hole = tar_header(f"d/{i:08}.hole", PAIR_BYTES - len(small) - BLOCK, 0)
            os.pwrite(upload.fd, small + hole, i * PAIR_BYTES)
        upload.size = PAIRS * PAIR_BYTES + 2 * BLOCK
        os.ftruncate(upload.fd, upload.size)
        upload.finish()
        await store.put(bucket, "large.tar", upload, "none", "")
        await store.close()

    shutil.rmtree(folder, ignore_errors=True)
    served = ServedFolder(folder)
    asyncio.run(run())
    served.close()
