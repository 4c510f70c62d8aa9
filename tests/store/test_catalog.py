"""What the catalog promises of changes that share a commit."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from aistore.server.store import catalog
from aistore.server.store.errors import StoreBroken, StoreClosed, StoreError, StoreFull
from store_truth import bucket_id, make_bucket, opened, problems, put, read, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from aistore.server.store.catalog import Transaction
    from aistore.server.store.schema import Durability
    from aistore.server.store.store import Store

MODES: list[tuple[Durability, bool]] = [("strict", False), ("relaxed", False), ("relaxed", True)]


INSERT = "INSERT INTO meta VALUES (?, ?)"


def set_meta(key: str, value: str = "x") -> Callable[[Transaction], str]:
    def change(tx: Transaction) -> str:
        tx.execute(INSERT, (key, value))
        return key

    return change


def refuse(error: Exception, *, after_writing: bool) -> Callable[[Transaction], None]:
    def change(tx: Transaction) -> None:
        if after_writing:
            tx.execute("INSERT INTO meta VALUES ('half', 'done')")
            tx.count(1, 1000, 1000)
            tx.after(lambda: pytest.fail("follows a change that was refused"))
        raise error

    return change


def keys(store: Store) -> set[str]:
    return {key for (key,) in store.catalog.read("SELECT key FROM meta")} - {"created"}


@pytest.mark.parametrize(("durability", "shared"), MODES)
@pytest.mark.parametrize("after_writing", [False, True])
@pytest.mark.parametrize("error", [StoreError("no"), ValueError("a defect"), StopIteration()])
def test_a_change_that_fails_is_alone(
    tmp_path: Path, durability: Durability, shared: bool, after_writing: bool, error: Exception
) -> None:
    async def main() -> None:
        async with opened(tmp_path, durability, shared=shared) as store:
            totals = store.objects, store.bytes
            undone: list[str] = []
            bad = refuse(error, after_writing=after_writing)
            results = await asyncio.gather(
                store.catalog.submit(set_meta("one")),
                store.catalog.submit(bad, lambda: undone.append("bad")),
                store.catalog.submit(set_meta("two"), lambda: undone.append("two")),
                store.catalog.submit(bad),
                store.catalog.submit(set_meta("three")),
                return_exceptions=True,
            )
            assert [results[0], results[2], results[4]] == ["one", "two", "three"]
            expected = RuntimeError if isinstance(error, StopIteration) else type(error)
            assert isinstance(results[1], expected)
            assert isinstance(results[3], expected)
            assert undone == ["bad"]
            assert keys(store) == {"one", "two", "three"}
            assert (store.objects, store.bytes) == totals

    asyncio.run(main())


@pytest.mark.parametrize(("durability", "shared"), MODES)
def test_a_failed_commit_fails_its_batch_and_no_other(tmp_path: Path, durability: Durability, shared: bool) -> None:
    async def main() -> None:
        async with opened(tmp_path, durability, shared=shared) as store:
            bucket = await make_bucket(store)
            await put(store, bucket, "o", b"old")
            writer = store.catalog._writer
            pages = writer.execute("PRAGMA page_count").fetchone()[0]
            writer.execute(f"PRAGMA max_page_count={pages}")  # SQLite itself says that the disk is full
            undone: list[int] = []
            results = await asyncio.gather(
                store.put(bucket, "o", b"new", "none", ""),
                *(store.catalog.submit(set_meta(f"k{i}", "v" * 4000), partial(undone.append, i)) for i in range(9)),
                store.delete(bucket, ["o"]),
                return_exceptions=True,
            )
            assert all(isinstance(result, StoreFull) for result in results), results
            assert undone == list(range(9))
            assert read(store, bucket, "o") == b"old"
            assert keys(store) == set()
            # what needs no room goes on at once, the rest when there is room
            assert await store.delete(bucket, ["o"]) == [("o", 3)]
            writer.execute("PRAGMA max_page_count=1000000")
            assert await store.catalog.submit(set_meta("k", "v" * 4000)) == "k"

    asyncio.run(main())
    assert problems(tmp_path) == []


class Failing(sqlite3.Connection):
    """A connection on which the next of some statements can be made to fail."""

    failing: set[str]

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql in getattr(self, "failing", ()):
            self.failing.discard(sql)
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *args)


@pytest.mark.parametrize(("durability", "shared"), MODES)
@pytest.mark.parametrize("failing", [{INSERT}, {INSERT, "ROLLBACK"}, {"BEGIN IMMEDIATE"}])
def test_the_writer_survives_failures(
    tmp_path: Path, durability: Durability, shared: bool, failing: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=Failing, **options))

    async def main() -> None:
        async with opened(tmp_path, durability, shared=shared) as store:
            writer = store.catalog._writer
            assert isinstance(writer, Failing)
            writer.failing = set(failing)
            with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
                await store.catalog.submit(set_meta("lost"))
            assert await store.catalog.submit(set_meta("kept")) == "kept"
            assert keys(store) == {"kept"}

    asyncio.run(main())


@pytest.mark.parametrize(("durability", "shared"), MODES)
@pytest.mark.parametrize("failing", [{"COMMIT"}, {"COMMIT", "ROLLBACK"}])
def test_a_commit_that_fails_is_the_last(
    tmp_path: Path, durability: Durability, shared: bool, failing: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=Failing, **options))

    async def main() -> None:
        async with opened(tmp_path, durability, shared=shared) as store:
            await store.catalog.submit(set_meta("kept"))
            writer = store.catalog._writer
            assert isinstance(writer, Failing)
            writer.failing = set(failing)
            changes = [store.catalog.submit(set_meta("lost"))]
            await asyncio.sleep(0)
            if not store.catalog.broken:  # it is queued
                changes.append(store.catalog.submit(set_meta("next")))
            for outcome in await asyncio.gather(*changes, return_exceptions=True):
                assert isinstance(outcome, StoreBroken)
            with pytest.raises(StoreBroken, match=r"\(disk I/O error\).*start the server again"):
                store.catalog.submit(set_meta("more"))
            assert keys(store) == {"kept"}
        async with opened(tmp_path, durability) as store:
            await store.catalog.submit(set_meta("again"))
            assert keys(store) == {"kept", "again"}

    asyncio.run(main())


@pytest.mark.parametrize(("durability", "shared"), MODES)
def test_whoever_waits_may_be_cancelled(tmp_path: Path, durability: Durability, shared: bool) -> None:
    async def main() -> None:
        async with opened(tmp_path, durability, shared=shared) as store:
            bucket = await make_bucket(store)

            async def write(name: str) -> None:
                await put(store, bucket, name, b"content", in_file=True)

            for turns in range(6):  # cancelled before, while and after the change is made
                name = f"o{turns}"
                upload_made = asyncio.ensure_future(write(name))
                for _ in range(turns):
                    await asyncio.sleep(0)
                upload_made.cancel()
                other = store.put(bucket, f"other{turns}", b"", "none", "")
                await asyncio.gather(upload_made, return_exceptions=True)
                await other
                if store.lookup(bucket, name) is None:  # cancelled before the store had it
                    assert turns < 2
                else:
                    assert read(store, bucket, name) == b"content"
            await settle(store)
            assert store.content.pending == 0

    asyncio.run(main())
    assert problems(tmp_path) == []


def test_a_follow_up_that_fails_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def change(tx: Transaction) -> str:
        tx.after(lambda: 1 // 0)
        return set_meta("a")(tx)

    async def main() -> None:
        async with opened(tmp_path) as store:
            a, b = await asyncio.gather(store.catalog.submit(change), store.catalog.submit(set_meta("b")))
            assert (a, b) == ("a", "b")
            assert await store.catalog.submit(set_meta("c")) == "c"

    asyncio.run(main())
    assert "ZeroDivisionError" in caplog.text


def test_changes_share_commits(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "strict") as store:
            before = store.catalog.commits
            await asyncio.gather(*(store.catalog.submit(set_meta(f"k{i}")) for i in range(500)))
            assert store.catalog.commits - before < 50  # two, unless others have the processor meanwhile
            assert len(keys(store)) == 500

    asyncio.run(main())


def test_nothing_is_taken_after_close(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            last = store.catalog.submit(set_meta("last"))
        assert await last == "last"
        with pytest.raises(StoreClosed):
            store.catalog.submit(set_meta("later"))

    asyncio.run(main())


def test_a_backup_ends_while_writes_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path / "data", "relaxed") as store:
            bucket = await make_bucket(store)
            await asyncio.gather(*(store.put(bucket, f"o{i:05}", b"x" * 4000, "none", "") for i in range(3000)))
            stop = threading.Event()
            loop = asyncio.get_running_loop()

            def back_up() -> None:
                try:
                    store.catalog.back_up(tmp_path / "copy.db")
                finally:
                    loop.call_soon_threadsafe(stop.set)

            copying = loop.run_in_executor(None, back_up)
            written = 0
            while not stop.is_set():
                await store.put(bucket, f"during{written}", b"y", "none", "")
                written += 1
            await copying
            assert written > 0

    asyncio.run(main())
    with closing(sqlite3.connect(tmp_path / "copy.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM object WHERE name < 'p' AND name >= 'o'").fetchone() == (3000,)
    assert not (tmp_path / "copy.db.part").exists()


def test_a_backup_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path / "data") as store:
            bucket = await make_bucket(store)
            await asyncio.gather(*(store.put(bucket, f"o{i}", b"x" * 8000, "none", "") for i in range(3000)))
            store.catalog.prepare_to_close()
            with pytest.raises(StoreClosed):
                store.catalog.back_up(tmp_path / "copy.db")

    asyncio.run(main())
    assert list(tmp_path.glob("copy*")) == []


def test_props_of_a_bucket_change_in_turn(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            bucket = await make_bucket(store)
            results = await asyncio.gather(
                store.set_bucket_props(bucket, lambda props: props + b"1"),
                store.set_bucket_props(bucket, lambda props: bytes([1 // 0])),
                store.set_bucket_props(bucket, lambda props: props + b"2"),
                store.put(bucket, "o", b"data", "none", ""),
                return_exceptions=True,
            )
            assert isinstance(results[1], ZeroDivisionError)
            now = store.bucket(bucket_id("b"))
            assert now is not None
            assert now.props == b"props %d12" % bucket.bid
            assert read(store, now, "o") == b"data"
            assert bucket.stale

    asyncio.run(main())


@pytest.mark.parametrize("shared", [False, True])
def test_the_log_stays_small_under_steady_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool) -> None:
    monkeypatch.setattr(catalog, "_CHECKPOINT_BYTES", 1 << 20)

    async def main() -> None:
        async with opened(tmp_path, shared=shared) as store:
            bucket = await make_bucket(store)
            written = [0]

            async def write(writer: int) -> None:
                while written[0] < 30_000_000:  # of content; the log takes more
                    await store.put(bucket, f"o{writer}", bytes(8000), "none", "")
                    written[0] += 8000

            await asyncio.gather(*(write(writer) for writer in range(8)))

    log = tmp_path / "catalog.db-wal"
    asyncio.run(watch(main(), log))


async def watch(work: Coroutine[object, object, None], log: Path) -> None:
    """Fail if the log grows to a fraction of what was written while the work goes on."""
    task = asyncio.ensure_future(work)
    largest = 0
    while not task.done():
        await asyncio.wait([task], timeout=0.005)
        with suppress(FileNotFoundError):
            largest = max(largest, log.stat().st_size)  # noqa: ASYNC240 (one system call)
    task.result()
    assert 1 << 20 <= largest < 20 << 20
