"""Sums of pieces: made while content is written or read, kept with it, and compared as often as is said."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import xxhash

from aistore.server.store import pieces
from aistore.server.store.errors import ContentDamaged
from aistore.server.store.page_cache import RWF_NOWAIT
from aistore.server.store.pieces import PIECE, Pieces, PieceSums
from store_truth import bucket_id, make_bucket, opened, problems, put, put_part, row_of, upload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from aistore.server.store.rows import ObjectRow
    from aistore.server.store.store import Store

CONTENT = random.Random(1).randbytes(3 * PIECE + 77)


def sums_by_hand(data: bytes) -> bytes:
    return b"".join(xxhash.xxh3_64_digest(data[at : at + PIECE]) for at in range(0, len(data), PIECE))


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, len(CONTENT)])
def test_sums_do_not_depend_on_how_content_comes(size: int) -> None:
    for seed in range(20):
        rng, sums, at = random.Random(seed), PieceSums(), 0
        while at < size:
            step = rng.choice((1, 1000, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, rng.randrange(1, 4 * PIECE)))
            sums.update(memoryview(CONTENT)[at : min(size, at + step)])
            at = min(size, at + step)
        assert (sums.size, b"".join(page for _, page in sums.pages())) == (size, sums_by_hand(CONTENT[:size]))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    return path


def test_what_is_noted_holds_until_the_file_is_written_to_or_an_hour_is_over(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "_OF_A_PAGE", 2)  # so that these are two pages
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    sums = PieceSums()
    sums.update(CONTENT)
    rows = {7 << 20 | page: data for page, data in sums.pages()}
    assert list(rows) == [7 << 20, 7 << 20 | 1]
    those = Pieces(rows.get)
    fd = os.open(file, os.O_RDWR)
    try:
        stamp = os.fstat(fd).st_mtime_ns
        assert those.wrong(7, len(CONTENT), fd, PIECE - 1, 2) == ""
        assert those.known(7, stamp, 5, 2 * PIECE - 5)
        assert not those.known(7, stamp, 5, 2 * PIECE)
        assert not those.known(7, stamp + 1, 5, 10)
        assert those.wrong(7, len(CONTENT), fd, 0, len(CONTENT)) == ""
        assert those.known(7, stamp, 0, len(CONTENT))
        now += 3601
        assert not those.known(7, stamp, 0, 1)

        os.pwrite(fd, bytes([CONTENT[-1] ^ 1]), len(CONTENT) - 1)
        assert those.wrong(7, len(CONTENT), fd, 0, 3 * PIECE) == ""
        wrong = those.wrong(7, len(CONTENT), fd, 3 * PIECE, 1)
        assert wrong.startswith(f"bytes {3 * PIECE}-{len(CONTENT) - 1}: xxh3(")
        assert not those.known(7, os.fstat(fd).st_mtime_ns, 3 * PIECE, 1)
        os.ftruncate(fd, len(CONTENT) - 1)
        assert "bytes, not" in those.wrong(7, len(CONTENT), fd, 0, 1)
    finally:
        os.close(fd)


def test_notes_do_not_grow_without_end(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_NOTES_MAX", 3)
    those = Pieces(lambda _: sums_by_hand(CONTENT))
    fd = os.open(file, os.O_RDONLY)
    try:
        stamp = os.fstat(fd).st_mtime_ns
        for content in range(5):
            assert those.wrong(content, len(CONTENT), fd, 0, 1) == ""
        assert [those.known(content, stamp, 0, 1) for content in range(5)] == [False, False, True, True, True]
    finally:
        os.close(fd)


def test_parts_in_any_order_and_of_any_size_have_sums(tmp_path: Path) -> None:
    cuts = {"usual": (PIECE, PIECE, PIECE, 77), "odd": (100, 2 * PIECE, PIECE - 23)}

    async def main() -> None:
        async with opened(tmp_path) as store:
            bucket = await make_bucket(store)
            for name, sizes in cuts.items():
                for kind in ("xxhash2", "none", "crc32c"):
                    upload_id = await store.uploads.begin(bucket, name + kind)
                    at, parts = 0, []
                    for number, size in enumerate(sizes, 1):
                        parts.append((number, CONTENT[at : at + size]))
                        at += size
                    for number, data in reversed(parts):
                        await put_part(store, upload_id, number, data)
                    numbers = [number for number, _ in parts]
                    row = await store.uploads.complete(bucket, name + kind, upload_id, numbers, kind, versioned=True)
                    kept = store.catalog.read("SELECT sums FROM sums WHERE id = ?", (row.content << 20,)).fetchone()
                    assert kept == (sums_by_hand(CONTENT[:at]),)

    asyncio.run(main())
    assert problems(tmp_path) == []


def test_content_without_sums_gets_them_when_all_of_it_is_found_good(tmp_path: Path) -> None:
    """A folder of the format before."""

    async def before() -> None:
        async with opened(tmp_path) as store:
            bucket = await make_bucket(store)
            await put(store, bucket, "o", CONTENT, in_file=True)

    asyncio.run(before())
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as db:
        db.executescript("DROP TABLE sums; ALTER TABLE part DROP COLUMN sum; PRAGMA user_version=6")

    async def after() -> None:
        async with opened(tmp_path) as store:
            bucket = store.bucket(bucket_id("b"))
            assert bucket is not None
            row = row_of(store)
            current = store.open_current(bucket, row)
            assert current is not None
            fd = current[1]
            try:
                verifier = store.verifier
                assert await verifier.check_part(row, fd, 0, 10) > 0
                assert verifier.read_now(row, fd, 0, 10) == CONTENT[:10]
                await verifier.check_file(row, fd)
                await store.catalog.submit(lambda _: None)
                assert store.catalog.read("SELECT sums FROM sums").fetchall() == [(sums_by_hand(CONTENT),)]
                with store.content.path(row.content).open("r+b") as written:
                    written.seek(2 * PIECE)
                    written.write(bytes([CONTENT[2 * PIECE] ^ 64]))
                assert verifier.read_now(row, fd, 2 * PIECE - 5, 5) == CONTENT[2 * PIECE - 5 : 2 * PIECE]
                with pytest.raises(ContentDamaged, match=f"bytes {2 * PIECE}-"):
                    verifier.read_now(row, fd, 2 * PIECE + 9, 1)
                with pytest.raises(ContentDamaged):
                    store.open_current(bucket, row)
            finally:
                os.close(fd)
            await store.delete(bucket, ["o"])

    asyncio.run(after())
    assert problems(tmp_path) == []


class Disk:
    """Where reading brings more into memory than was asked for, and the question whether bytes are there does so too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, late: bool) -> None:
        self.cold = False
        self._late = late  # the answer to the question comes when the disk has been read
        self._waited = 0
        self._read = os.preadv
        monkeypatch.setattr(os, "preadv", self.preadv)
        monkeypatch.setattr(time, "perf_counter_ns", lambda: self._waited)

    def preadv(self, fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        cold, self.cold = self.cold, False
        if cold and flags:
            if not self._late:
                raise BlockingIOError
            self._waited += 10_000_000
        return self._read(fd, buffers, offset, 0)


async def read_now(store: Store, row: ObjectRow, fd: int, offset: int, length: int) -> None:
    assert store.verifier.read_now(row, fd, offset, length) in (None, CONTENT[offset : offset + length])


async def check_part(store: Store, row: ObjectRow, fd: int, offset: int, length: int) -> None:
    await store.verifier.check_part(row, fd, offset, length)


async def check_in_thread(store: Store, row: ObjectRow, fd: int, offset: int, length: int) -> None:
    store.verifier.checker(row)(fd, offset, length)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.skipif(not RWF_NOWAIT, reason="this system cannot tell what is in memory")
@pytest.mark.parametrize("asked", [read_now, check_part, check_in_thread])
@pytest.mark.parametrize("whole", [True, False])
def test_what_the_system_reads_ahead_is_compared_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Callable[..., Awaitable[None]], *, whole: bool, late: bool
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            bucket = await make_bucket(store)
            row = await put(store, bucket, "o", CONTENT, in_file=True)
            fd = os.open(store.content.path(row.content), os.O_RDWR)
            try:
                verifier, before = store.verifier, os.fstat(fd)
                disk = Disk(monkeypatch, late=late)
                if whole:
                    await verifier.check_file(row, fd)
                else:
                    await verifier.check_pieces(row, fd, 0, row.size)
                assert not verifier.wants(row, fd)
                os.pwrite(fd, bytes([CONTENT[2 * PIECE] ^ 64]), 2 * PIECE)  # as a disk does: nobody wrote to the file
                os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
                disk.cold = True
                await asked(store, row, fd, 0, 100)
                assert verifier.wants(row, fd)
                with pytest.raises(ContentDamaged, match=f"bytes {2 * PIECE}-"):
                    verifier.read_now(row, fd, 2 * PIECE + 9, 1)
            finally:
                os.close(fd)

    asyncio.run(main())


def test_what_is_written_elsewhere_than_in_order_keeps_no_sums(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            bucket = await make_bucket(store)
            made = await upload(store, CONTENT[: 2 * PIECE])
            assert made.sums is not None
            made.size += 1  # as after `write_at`
            with made.path.open("ab") as file:
                file.write(b"x")
            row = await store.put(bucket, "o", made, "none", "")
            assert store.catalog.read("SELECT count(*) FROM sums").fetchone() == (0,)
            assert row.size == 2 * PIECE + 1

    asyncio.run(main())
    assert problems(tmp_path) == []
