"""What a start finds after crashes, and what it refuses."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from aistore.http1.message import FilePart
from aistore.server.store import content, schema
from aistore.server.store.errors import BucketGone, ContentMissing, StoreCorrupt
from aistore.server.store.pieces import PieceSums
from aistore.server.store.purging import purge_dropped
from aistore.server.store.schema import CATALOG_VERSION
from aistore.server.store.store import Store
from aistore.server.store.work import WorkBusy
from store_truth import (
    bucket_id,
    crash_copy,
    make_bucket,
    open_descriptors,
    opened,
    problems,
    put,
    read,
    settle,
    upload,
)
from waiting import DEADLINE

if TYPE_CHECKING:
    from pathlib import Path


def content_files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "content").glob("*/*"))


def test_a_crash_leaves_nothing_of_unfinished_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "_BLOCK", 4)

    async def main() -> None:
        async with opened(tmp_path / "a") as store:
            bucket = await make_bucket(store)
            slow = await store.content.create()
            slow.write(b"a slow upload, begun before the others")
            for i in range(20):  # several blocks
                await put(store, bucket, f"o{i}", b"content", in_file=True)
            finished = await upload(store, b"finished, but not in the catalog")
            crash_copy(tmp_path / "a", tmp_path / "b")
            slow.abandon()
            finished.abandon()
        assert len(content_files(tmp_path / "b")) == 22
        async with opened(tmp_path / "b") as store:
            await settle(store)
            bucket_again = store.bucket(bucket_id("b"))
            assert bucket_again is not None
            assert [read(store, bucket_again, f"o{i}") for i in range(20)] == [b"content"] * 20
            assert len(content_files(tmp_path / "b")) == 20

    asyncio.run(main())
    assert problems(tmp_path / "a") == []
    assert problems(tmp_path / "b") == []


def test_starts_do_not_look_at_what_was_stored_before(tmp_path: Path) -> None:
    """Start-up must not grow with what is stored: only blocks that were open are compared, and empty folders do not pile up."""

    async def main() -> None:
        async with opened(tmp_path) as store:
            await put(store, await make_bucket(store), "o", b"content", in_file=True)
        (block,) = (tmp_path / "content").glob("*")
        stranger = block / f"{(int(block.name, 16) + 1) * content._BLOCK - 1:016x}"
        for _ in range(3):
            async with opened(tmp_path) as store:
                open_blocks = store.catalog.read("SELECT count(*) FROM block WHERE open = 1").fetchone()[0]
                assert open_blocks == 1
                stranger.write_bytes(b"in a closed block, so nobody looks")
        assert stranger.exists()
        assert len(list((tmp_path / "content").glob("*"))) <= 2

    asyncio.run(main())


def test_foreign_files_in_the_content_folder_are_left_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path / "a") as store:
            await put(store, await make_bucket(store), "o", b"content", in_file=True)
            crash_copy(tmp_path / "a", tmp_path / "b")
        foreign = next((tmp_path / "b" / "content").glob("*")) / ".DS_Store"
        foreign.write_bytes(b"of the Finder")
        async with opened(tmp_path / "b"):
            assert foreign.exists()

    asyncio.run(main())


def test_deletes_in_a_destroyed_bucket_leave_no_totals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delete that was on its way shares the commit with the end of the purge."""

    async def later(_: Store) -> None:
        pass

    async def main() -> None:
        async with opened(tmp_path) as store:
            bucket = await make_bucket(store)
            await put(store, bucket, "o", b"content", in_file=True)
            monkeypatch.setattr("aistore.server.store.store.purge_dropped", later)
            await store.destroy_bucket(bucket.id)
            purging = asyncio.ensure_future(purge_dropped(store))
            await asyncio.gather(store.delete(bucket, ["o"]), purging)
            await settle(store)
            assert store.objects == 0

    asyncio.run(main())
    assert problems(tmp_path) == []


def test_a_destroyed_bucket_is_purged_after_a_crash(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path / "a") as store:
            bucket = await make_bucket(store)
            for i in range(5):
                await put(store, bucket, f"s{i}", b"small")
                await put(store, bucket, f"l{i}", b"large", in_file=True)
            await store.destroy_bucket(bucket.id)
            crash_copy(tmp_path / "a", tmp_path / "b")
            again = await make_bucket(store)
            assert again.bid != bucket.bid
            assert read(store, again, "s1") is None
            with pytest.raises(BucketGone):
                await put(store, bucket, "late", b"into the destroyed bucket", in_file=True)
            await settle(store)
            assert (store.objects, store.bytes) == (0, 0)
        async with opened(tmp_path / "b") as store:
            await settle(store)
            assert (store.objects, store.bytes) == (0, 0)
            assert content_files(tmp_path / "b") == []

    asyncio.run(main())
    assert problems(tmp_path / "a") == []
    assert problems(tmp_path / "b") == []


def test_flushing_is_whole_at_every_crash(tmp_path: Path) -> None:
    """A session that was not flushed goes on; one that was is gone, and cannot change the object any more."""

    async def main() -> None:
        async with opened(tmp_path / "a") as store:
            bucket = await make_bucket(store)
            name, size = store.work.start(b"appended", -1, PieceSums()), 8
            made = await store.content.create()
            store.work.give_to(made, name, size)
            crash_copy(tmp_path / "a", tmp_path / "before")
            await store.put(bucket, "o", made, "none", "")
            crash_copy(tmp_path / "a", tmp_path / "after")
            store.work.remove(name)
        async with opened(tmp_path / "before") as store:
            assert content_files(tmp_path / "before") == []
            with store.work.open(name, size) as fd:
                assert os.pread(fd, 100, 0) == b"appended"
        async with opened(tmp_path / "after") as store:
            assert not store.work.exists(name)
            found = store.bucket(bucket_id("b"))
            assert found is not None
            assert read(store, found, "o") == b"appended"

    asyncio.run(main())
    for folder in ("a", "before", "after"):
        assert problems(tmp_path / folder) == []


def test_flushing_is_whole_when_a_process_dies_beside_others(tmp_path: Path) -> None:
    """As after a crash of all of them; a session that a process is flushing is left to it."""

    async def main() -> None:
        async with opened(tmp_path, shared=True) as one, opened(tmp_path, shared=True, primary=False) as two:
            bucket = await make_bucket(one)
            flushed, cut_off, flushing = (two.work.start(b"appended", -1, PieceSums()) for _ in range(3))
            with two.work.open(flushing, 8):
                for name in (flushed, cut_off, flushing):
                    made = await two.content.create()
                    two.work.give_to(made, name, 8)
                    if name != cut_off:
                        await one.put(bucket, name, made, "none", "")
                with pytest.raises(WorkBusy), one.work.open(cut_off, 8):  # nobody knows yet what became of it
                    pass
                await two.content.close()  # as when it dies
                one.other_process_died()
                deadline = time.monotonic() + DEADLINE
                while one.work.exists(flushed):
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.001)
                assert one.work.exists(flushing)
                with one.work.open(cut_off, 8) as fd:
                    assert os.pread(fd, 100, 0) == b"appended"
            assert read(one, bucket, flushed) == b"appended"

    asyncio.run(main())
    assert problems(tmp_path) == []


def test_recovery_waits_for_processes_of_the_server_before(tmp_path: Path) -> None:
    """Targets outlive a gateway that was killed until their last request is answered; their uploads are no leftovers."""

    async def main() -> None:
        async with opened(tmp_path) as store:
            bucket = await make_bucket(store)
            late = await upload(store, b"of a target that still runs")
            second = Store(tmp_path, "relaxed", shared=True)
            opening = asyncio.ensure_future(second.open())
            await asyncio.wait([opening], timeout=0.3)
            assert not opening.done()
            await store.put(bucket, "o", late, "none", "")
        await asyncio.wait_for(opening, DEADLINE)
        try:
            again = second.bucket(bucket_id("b"))
            assert again is not None
            assert read(second, again, "o") == b"of a target that still runs"
        finally:
            await second.close()

    asyncio.run(main())
    assert problems(tmp_path) == []


def test_a_store_that_is_closed_holds_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        before = open_descriptors()
        async with opened(tmp_path, "strict") as store:
            await put(store, await make_bucket(store), "o", b"content", in_file=True)
        assert not open_descriptors() - before
        with (tmp_path / "catalog.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    asyncio.run(main())


def fill(root: Path, backup: bool = False) -> None:
    async def main() -> None:
        async with opened(root) as store:
            bucket = await make_bucket(store)
            await put(store, bucket, "small", b"small")
            await put(store, bucket, "large", b"large", in_file=True)
            if backup:
                store.catalog.back_up(root / "catalog.backup.db")
            await put(store, bucket, "later", b"later", in_file=True)

    asyncio.run(main())


@pytest.mark.parametrize("damage", [b"not a database " * 100, b"", None])
def test_a_damaged_or_lost_catalog_is_refused_and_the_copy_named(tmp_path: Path, damage: bytes | None) -> None:
    fill(tmp_path, backup=True)
    catalog = tmp_path / "catalog.db"
    if damage is None:
        catalog.unlink()
    else:
        catalog.write_bytes(damage)
    with pytest.raises(
        StoreCorrupt, match=r"catalog\.backup\.db.*remove catalog\.db, catalog\.db-wal and catalog\.db-shm"
    ):
        Store(tmp_path, "relaxed")
    assert len(content_files(tmp_path)) == 2


def test_going_back_to_the_copy(tmp_path: Path) -> None:
    """What was stored by then is there, and new content does not get in the way of files that came later."""
    fill(tmp_path, backup=True)
    for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "catalog.backup.db", tmp_path / "catalog.db")

    async def main() -> None:
        for _ in range(2):
            async with opened(tmp_path) as store:
                bucket = store.bucket(bucket_id("b"))
                assert bucket is not None
                assert read(store, bucket, "small") == b"small"
                assert read(store, bucket, "large") == b"large"
                assert read(store, bucket, "later") is None
                await put(store, bucket, "new", b"new", in_file=True)
                assert read(store, bucket, "new") == b"new"

    asyncio.run(main())


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as db:
        db.execute(f"PRAGMA user_version={CATALOG_VERSION + 1}")
    with pytest.raises(
        StoreCorrupt, match=rf"newer version \(format {CATALOG_VERSION + 1}, this one knows {CATALOG_VERSION}\)"
    ):
        Store(tmp_path, "relaxed")


def test_a_folder_of_format_1_is_migrated(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as db:
        db.executescript(schema._FORMAT_1)
        db.executescript("""
            INSERT INTO bucket VALUES (1, 'ais', '', '', 'b', x'');
            INSERT INTO small VALUES (1, 2, x'7477696365'), (2, 1, x'6f6e6365');
            INSERT INTO object VALUES (1, 'a', 5, 0, 1, 'none', '', '1', 7, 7, NULL), (1, 'b', 5, 0, 1, 'none', '', '1', 7, 7, NULL),
                (1, 'c', 4, 0, 2, 'none', '', '1', 7, 7, NULL);
            INSERT INTO usage VALUES (1, 3, 14);
            PRAGMA user_version=1;
        """)

    async def main() -> None:
        async with opened(tmp_path) as store:
            bucket = store.bucket(bucket_id("b"))
            assert bucket is not None
            assert [read(store, bucket, name) for name in "abc"] == [b"twice", b"twice", b"once"]
            assert (store.objects, store.bytes) == (3, 9)
            await store.delete(bucket, ["a", "c"])
            assert read(store, bucket, "b") == b"twice"
            await store.delete(bucket, ["b"])
            assert (store.objects, store.bytes) == (0, 0)

    asyncio.run(main())
    assert problems(tmp_path) == []


def test_a_foreign_database_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as db:
        db.execute("CREATE TABLE mine (x)")
    with pytest.raises(StoreCorrupt, match="not a catalog of aistore-py"):
        Store(tmp_path, "relaxed")


def test_a_catalog_whose_making_was_cut_off_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"")
    fill(tmp_path)
    assert problems(tmp_path) == []


def test_content_that_somebody_removed_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path)
    for path in (tmp_path / "content").glob("*/*"):
        path.unlink()

    async def main() -> None:
        async with opened(tmp_path) as store:
            bucket = store.bucket(bucket_id("b"))
            assert bucket is not None
            with pytest.raises(ContentMissing, match="missing from the data folder"):
                read(store, bucket, "large")
            assert read(store, bucket, "small") == b"small"
            await put(store, bucket, "large", b"again", in_file=True)
            assert read(store, bucket, "large") == b"again"

    asyncio.run(main())


def test_stale_work_goes_after_a_day(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            old = store.work.start(b"old", -1, PieceSums())
            new = store.work.start(b"new", -1, PieceSums())
            long_ago = time.time() - 25 * 3600
            os.utime(tmp_path / "work" / old, (long_ago, long_ago))
            store.work.remove_stale()
            assert (store.work.exists(old), store.work.exists(new)) == (False, True)

    asyncio.run(main())


def test_a_large_upload_is_removed_beside_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes long to free gigabytes, and nobody else is to wait for that."""
    threads: list[int] = []
    real = os.unlink

    def unlink(path: object, **options: object) -> None:
        threads.append(threading.get_ident())
        real(path, **options)  # type: ignore[arg-type]  # passed on as it came

    async def main() -> None:
        async with opened(tmp_path) as store:
            monkeypatch.setattr(os, "unlink", unlink)
            for size in (1000, 64 << 20):
                upload = await store.content.create(size)
                upload.write(b"some of it")
                upload.abandon()
                upload.abandon()
        assert store.content.pending == 0

    asyncio.run(main())
    assert [thread == threading.get_ident() for thread in threads if thread] == [True, False]
    assert content_files(tmp_path) == []
    assert problems(tmp_path) == []


def test_a_large_file_that_was_deleted_while_it_was_sent_is_closed_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: dict[int, int] = {}
    real = os.close

    def close(fd: int) -> None:
        closed.setdefault(fd, threading.get_ident())  # others may use its number again
        real(fd)

    async def main() -> None:
        parts = []
        for size, deleted in ((1000, True), (64 << 20, False), (64 << 20, True)):
            path = tmp_path / f"{size}{deleted}"
            path.touch()
            os.truncate(path, size)
            parts.append(FilePart(os.open(path, os.O_RDONLY), 0, size))
            if deleted:
                path.unlink()
        numbers = [part.fd for part in parts]
        with monkeypatch.context() as patched:
            patched.setattr(os, "close", close)
            for part in parts:
                part.close()
            while not closed.keys() >= set(numbers):  # noqa: ASYNC110 (the thread does not tell)
                await asyncio.sleep(0.001)
        assert [closed[fd] == threading.get_ident() for fd in numbers] == [True, True, False]

    asyncio.run(main())
