"""Failing the n-th call to the system or the catalog, for n = 1, 2, 3... until the operation succeeds.

After each failure the operation was made or it was not, whole; the store can be used, or after a failed commit says that it has to be
started again, and can be used then; and nothing superfluous lies on the disk.
"""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from aistore.server.store import content
from aistore.server.store.copying import copy_objects, move_object
from aistore.server.store.errors import StoreBroken, StoreFull
from aistore.server.store.pieces import PieceSums
from aistore.server.store.work import WorkBusy
from faults import FAULTS, Faults, inject
from store_truth import bucket_id, crash_copy, make_bucket, opened, problems, put, put_part, read, settle, upload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from aistore.server.store.content import Upload
    from aistore.server.store.rows import Bucket
    from aistore.server.store.schema import Durability
    from aistore.server.store.store import Store


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    monkeypatch.setattr(content, "_BLOCK", 4)
    return inject(monkeypatch)


async def put_small(store: Store, bucket: Bucket) -> None:
    await put(store, bucket, "o", b"new small")


async def put_large(store: Store, bucket: Bucket) -> None:
    await put(store, bucket, "o", b"new large", in_file=True)


async def put_over_large(store: Store, bucket: Bucket) -> None:
    await put(store, bucket, "large", b"over", in_file=True)


async def put_many_large(store: Store, bucket: Bucket) -> None:
    """Over the end of a block."""
    contents: list[Upload] = []
    try:
        for _ in range(3):
            contents.append(await upload(store, b"many"))
    except BaseException:
        for one in contents:
            one.abandon()
        raise
    results = await asyncio.gather(
        *(store.put(bucket, f"m{i}", one, "none", "") for i, one in enumerate(contents)), return_exceptions=True
    )
    failures = [result for result in results if isinstance(result, BaseException)]
    assert len(failures) in (0, 3)  # one batch
    if failures:
        raise failures[0]


async def delete(store: Store, bucket: Bucket) -> None:
    await store.delete(bucket, ["small", "large", "none"])


async def copy(store: Store, bucket: Bucket) -> None:
    await copy_objects(store, bucket, bucket, [("large", "small"), ("large", "new")], "xxhash2")


async def move(store: Store, bucket: Bucket) -> None:
    await move_object(store, bucket, "large", "small")


async def upload_in_parts(store: Store, bucket: Bucket) -> None:
    """One part is sent again, one is of another size."""
    upload_id = await store.uploads.begin(bucket, "large")
    for number, data in ((1, b"1111"), (2, b"2222"), (1, b"again"), (3, b"3")):
        await put_part(store, upload_id, number, data)
    await store.uploads.complete(bucket, "large", upload_id, [3, 2, 1], "xxhash2", versioned=True)


async def patch(store: Store, bucket: Bucket) -> None:
    await store.set_custom(bucket, "small", {"k": "v"}, replace=False)


async def append_and_flush(store: Store, bucket: Bucket) -> None:
    sums = PieceSums()
    name = await asyncio.to_thread(store.work.start, b"appended", -1, sums)
    size = sums.size
    with store.work.open(name, size):
        made = await store.content.create(size)
        try:
            await asyncio.to_thread(store.work.give_to, made, name, size)
        except BaseException:
            made.abandon()
            raise
        await store.put(bucket, "flushed", made, "none", "")
    try:
        store.work.remove(name)
    except OSError:  # it stays until the next start, and nobody can append to it
        with pytest.raises(WorkBusy), store.work.open(name, size):
            pass


async def create_bucket(store: Store, bucket: Bucket) -> None:
    await make_bucket(store, "new")


async def destroy_bucket(store: Store, bucket: Bucket) -> None:
    await store.destroy_bucket(bucket.id)


OPERATIONS = [
    put_small,
    put_large,
    put_over_large,
    put_many_large,
    delete,
    copy,
    move,
    upload_in_parts,
    patch,
    append_and_flush,
    create_bucket,
    destroy_bucket,
]


def snapshot(store: Store) -> dict[str, object]:
    """All that a user can see."""
    seen: dict[str, object] = {}
    for bucket in store.buckets():
        names = [name for (name,) in store.catalog.read("SELECT name FROM object WHERE bucket = ?", (bucket.bid,))]
        for name in names:
            row = store.lookup(bucket, name)
            assert row is not None
            seen[f"{bucket.id.name}/{name}"] = (read(store, bucket, name), row.version, row.custom)
        seen[bucket.id.name] = store.usage(bucket)
    return seen


async def fail_once(
    root: Path,
    operation: Callable[[Store, Bucket], Awaitable[None]],
    nth: int,
    kind: tuple[int, bool],
    durability: Durability,
) -> bool:
    """Run the operation with the n-th call failing; False if there was no n-th call."""
    number, lasting = kind
    async with opened(root / "data", durability) as store:
        bucket = await make_bucket(store)
        await put(store, bucket, "small", b"old small", custom={"a": "b"})
        await put(store, bucket, "large", b"old large", in_file=True)
        before = snapshot(store)
        FAULTS.arm(nth, number=number, lasting=lasting)
        failure: BaseException | None = None
        try:
            await operation(store, bucket)
        except (OSError, StoreFull, StoreBroken, sqlite3.OperationalError) as error:
            failure = error
        finally:
            await store.content.settle_garbage()  # which goes on after the operation: it fails, too
            hit = FAULTS.disarm()
        with suppress(StoreBroken):  # now it is known whether a commit under way failed
            await store.catalog.submit(lambda _: None)
        store.clear_cache()
        after = snapshot(store)
        where = f"call {nth} ({hit})"
        if failure is None:
            assert after != before, where
        else:
            assert after == before, where
            if number == errno.ENOSPC and not str(hit).startswith("SELECT"):  # reading needs no room
                assert isinstance(failure, StoreFull), f"{where}: {failure!r}"
        crash_copy(root / "data", root / f"crash{nth}")
        assert store.catalog.broken == (hit == "COMMIT" and number == errno.EIO), where
        if store.catalog.broken:
            with pytest.raises(StoreBroken, match="start the server again"):
                await make_bucket(store, "other")
    async with opened(root / "data", durability) as store:
        # The store goes on, and cleans up.
        there = store.bucket(bucket_id("b")) or await make_bucket(store)
        await put(store, there, "next", b"next", in_file=True)
        assert read(store, there, "next") == b"next"
        await settle(store)
        assert store.content.pending == 0, where
    assert problems(root / "data", recovered=hit != "unlink") == [], where
    async with opened(root / "data"):
        pass
    assert problems(root / "data") == [], where
    async with opened(root / f"crash{nth}", durability) as store:
        await settle(store)
        assert snapshot(store) == after, where
    assert problems(root / f"crash{nth}") == [], where
    return hit is not None


@pytest.mark.parametrize(
    ("durability", "kind"),
    [("strict", (errno.EIO, False)), ("relaxed", (errno.ENOSPC, True))],
    ids=["one error", "full from there on"],
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_failing_the_nth_call(
    memory_path: Path,
    faults: Faults,
    operation: Callable[[Store, Bucket], Awaitable[None]],
    durability: Durability,
    kind: tuple[int, bool],
) -> None:
    nth = 1
    while asyncio.run(fail_once(memory_path / str(nth), operation, nth, kind, durability)):
        nth += 1
    assert nth > 1


class Unsure(sqlite3.Connection):
    """Its commits fail; with `written`, what they wrote is in the log all the same."""

    armed = written = False

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql == "COMMIT" and Unsure.armed:
            if Unsure.written:
                super().execute(sql, *args)
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *args)


@pytest.mark.parametrize("written", [False, True], ids=["lost", "found"])
@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "killed"])
def test_whatever_becomes_of_a_commit_that_failed_nothing_acknowledged_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool, crash: bool
) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=Unsure, **options))
    monkeypatch.setattr(Unsure, "written", written)

    async def main() -> None:
        async with opened(tmp_path / "data", "strict") as store:
            bucket = await make_bucket(store)
            for name in ("a", "b", "kept"):
                await put(store, bucket, name, f"old {name}".encode(), in_file=True)
            monkeypatch.setattr(Unsure, "armed", True)
            new = [await upload(store, f"new {name}".encode()) for name in "ab"]
            writes = [store.put(bucket, name, one, "none", "") for name, one in zip("ab", new, strict=True)]
            for result in await asyncio.gather(*writes, return_exceptions=True):
                assert isinstance(result, StoreBroken)
            monkeypatch.setattr(Unsure, "armed", False)
            # That the disk works again says nothing about what it was told before.
            for change in (lambda: store.delete(bucket, ["kept"]), lambda: put(store, bucket, "c", b"c", in_file=True)):
                with pytest.raises(StoreBroken, match=r"disk I/O error.*start the server again"):
                    await change()
            assert read(store, bucket, "kept") == b"old kept"
            crash_copy(tmp_path / "data", tmp_path / "crash")
        root = tmp_path / ("crash" if crash else "data")
        async with opened(root, "strict") as store:
            await settle(store)
            bucket = store.bucket(bucket_id("b")) or await make_bucket(store)
            state = "new" if written else "old"
            for name in "ab":
                assert read(store, bucket, name) == f"{state} {name}".encode()
            await put(store, bucket, "next", b"next", in_file=True)
        assert problems(root) == []

    asyncio.run(main())


@pytest.mark.parametrize("kind", [(errno.ENOSPC, True), (errno.EIO, False)], ids=["full from there on", "one error"])
def test_failing_the_nth_call_of_a_start(memory_path: Path, faults: Faults, kind: tuple[int, bool]) -> None:
    """A start that fails leaves what the next one needs."""
    number, lasting = kind

    async def fill() -> None:
        async with opened(memory_path / "data") as store:
            bucket = await make_bucket(store)
            await put(store, bucket, "large", b"large", in_file=True)
            crash_copy(memory_path / "data", memory_path / "crashed")

    async def start(root: Path, nth: int) -> bool:
        FAULTS.arm(nth, number=number, lasting=lasting)
        try:
            async with opened(root):
                FAULTS.disarm()
        except Exception:
            FAULTS.disarm()
        hit = FAULTS.hit
        async with opened(root) as store:
            bucket = store.bucket(bucket_id("b"))
            assert bucket is not None
            assert read(store, bucket, "large") == b"large", f"call {nth} ({hit})"
            await settle(store)
        assert problems(root) == [], f"call {nth} ({hit})"
        return hit is not None

    asyncio.run(fill())
    nth = 1
    while True:
        crash_copy(memory_path / "crashed", memory_path / str(nth))
        if not asyncio.run(start(memory_path / str(nth), nth)):
            break
        nth += 1
    assert nth > 1
