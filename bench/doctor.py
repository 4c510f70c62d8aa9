"""The scrub of a data folder, and what reading pays for looking at checksums."""

from __future__ import annotations

import asyncio
import http.client
import os
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aistore import LocalCluster
from aistore.server.doctor import DOCUMENTS, Patient
from aistore.server.store.store import Store
from aistore.wire.checksum import digest
from aistore.wire.names import BucketId
from bench.report import Row

if TYPE_CHECKING:
    from aistore.server.store.findings import Findings

OBJECTS = 100_000
KIB = 1024
LARGE = 1 << 30
_PIECE = os.urandom(1 << 20)


def doctor(quick: bool) -> list[Row]:
    """All rows; `quick` takes a tenth."""
    objects, large = (OBJECTS // 10, LARGE // 8) if quick else (OBJECTS, LARGE)
    with tempfile.TemporaryDirectory() as folder:
        small, big = Path(folder) / "small", Path(folder) / "big"
        before = os.umask(0o077)  # as a server does
        try:
            asyncio.run(_fill_small(small, objects))
            asyncio.run(_fill_big(big, large))
            (big / "format").write_text('{"format": 1}\n')
        finally:
            os.umask(before)
        rows = []
        for full, what, gate in ((True, "all read", 20_000), (False, "content not read", 20_000)):
            found, seconds = _examined(small, full=full)
            assert not found.unrepaired and found.objects == objects
            rate = objects / seconds
            text = f"ais doctor, {objects:,} objects of 1 KiB, {what}"
            rows.append(Row(text, f"{rate:,.0f}/s", "", 0, f"{gate:,}/s", rate > gate))
        found, seconds = _examined(big, full=True)
        assert not found.unrepaired
        rate = found.bytes / seconds / 1e9
        rows.append(Row(f"ais doctor, an object of {large >> 20} MiB", f"{rate:.2f} GB/s", "", 0, "1 GB/s", rate > 1))
        return [*rows, _compared(big, large)]


def _examined(root: Path, *, full: bool) -> tuple[Findings, float]:
    """The best of three."""
    times = []
    for _ in range(3):
        with Patient(root) as patient:
            began = time.perf_counter()
            found = patient.examine(full=full, repair=False)
            times.append(time.perf_counter() - began)
    return found, min(times)


def _compared(root: Path, size: int) -> Row:
    """A GET of a large object, the first, which compares its checksum, against later ones."""
    first, later = [], []
    for _ in range(3):
        with LocalCluster(root, durability="relaxed", etl=False) as cluster:
            first.append(_get(cluster, size))
            later += [_get(cluster, size) for _ in range(3)]
    ratio = min(first) / min(later)
    ours = f"{ratio:.2f}x ({min(first):.2f} s, {min(later):.2f} s)"
    return Row(f"GET of {size >> 20} MiB that is compared with its checksum", ours, "", 0, "at most 2x", ratio < 2)


def _get(cluster: LocalCluster, size: int) -> float:
    url = urlsplit(cluster.url)
    buffer = memoryview(bytearray(1 << 20))
    with closing(http.client.HTTPConnection(url.hostname or "", url.port)) as connection:
        began = time.perf_counter()
        connection.request("GET", "/v1/objects/b/large")
        answer = connection.getresponse()
        got = 0
        while count := answer.readinto(buffer):
            got += count
        assert got == size
        return time.perf_counter() - began


async def _fill_small(root: Path, objects: int) -> None:
    store = Store(root, "relaxed")
    await store.open()
    bucket = await store.create_bucket(BucketId("ais", "", "", "b"), DOCUMENTS.make_props)
    for start in range(0, objects, 1000):
        contents = [number.to_bytes(8, "big") * (KIB // 8) for number in range(start, min(start + 1000, objects))]
        puts = [
            store.put(bucket, f"{start + i:08}", data, "xxhash2", digest("xxhash2", data))
            for i, data in enumerate(contents)
        ]
        await asyncio.gather(*puts)
    await store.close()


async def _fill_big(root: Path, size: int) -> None:
    from xxhash import xxh64

    store = Store(root, "relaxed")
    await store.open()
    bucket = await store.create_bucket(BucketId("ais", "", "", "b"), DOCUMENTS.make_props)
    upload = await store.content.create(size)
    hasher = xxh64()
    for _ in range(size // len(_PIECE)):
        upload.write(_PIECE)
        hasher.update(_PIECE)
    upload.finish()
    await store.put(bucket, "large", upload, "xxhash2", hasher.hexdigest())
    await store.close()
