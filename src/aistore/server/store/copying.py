"""Copies of objects: they share the content of the original, so only rows are written."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aistore.server.store.content import hash_file, in_thread
from aistore.server.store.errors import BucketGone, ObjectMissing, StoreError
from aistore.server.store.references import add_reference, drop_reference
from aistore.server.store.rows import INSERT_OBJECT, LOOKUP_PLAIN, encode_pairs, require_bucket
from aistore.server.store.verifying import open_verified
from aistore.wire.checksum import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aistore.server.store.catalog import Transaction
    from aistore.server.store.rows import Bucket, ObjectRow
    from aistore.server.store.store import Store

__all__ = ["Copied", "copy_objects", "move_object", "undo_copies"]

Pair = tuple[str, str]
"""Name of an object, and that of its copy."""

_HASHED_AT_ONCE: Final = 4
_UNDONE_AT_ONCE: Final = 200  # a few milliseconds of the loop
_TOUCH: Final = "UPDATE object SET mtime = ? WHERE bucket = ? AND name = ?"


class Copied(NamedTuple):
    """What became of copies."""

    objects: int
    """Copied, or found to be there with the same content."""
    bytes: int
    """Of content that was not there before."""
    missing: list[str]
    """Names of objects that do not exist."""
    failed: list[tuple[str, str]]
    """Names of objects whose content could not be read for another checksum, and why."""


Sums = dict[str, tuple[tuple[int, int, int], str]]
"""By name: layout, content and time of a version, and the checksum of its content that a copy gets."""


async def copy_objects(
    store: Store,
    source: Bucket,
    target: Bucket,
    pairs: Iterable[Pair],
    kind: str,
    custom: dict[str, str] | None = None,
    *,
    time_of_all: int = 0,
) -> Copied:
    """Copy objects, in one change of the catalog where none needs a checksum of another type (`kind` is that of the target).

    A copy keeps custom pairs (unless `custom` gives others) and access time, and begins as version 1 (in the same bucket it keeps the
    version). Where there is the same content already only the object's time changes, unless `custom` differs. Content is read only for
    checksums of another type. `time_of_all` (Unix nanoseconds) is the time of objects that are made, and of no others, for `undo_copies`.
    Raises `BucketGone`, `StoreFull`, `CustomTooLong`.
    """
    total = Copied(0, 0, [], [])
    left = list({new: (name, new) for name, new in pairs}.values())  # of two copies to one name the later one counts
    sums: Sums = {}
    text = None if custom is None else (encode_pairs(custom),)
    while left:
        done, left = await store.catalog.submit(_change(store, source, target, left, kind, sums, text, time_of_all))
        failed = dict(await _sum_up(store, source, {name for name, _ in left}, kind, sums))
        left = [pair for pair in left if pair[0] not in failed]
        total = Copied(
            total.objects + done.objects,
            total.bytes + done.bytes,
            total.missing + done.missing,
            total.failed + done.failed + list(failed.items()),
        )
    return total


def _change(
    store: Store,
    source: Bucket,
    target: Bucket,
    pairs: Sequence[Pair],
    kind: str,
    sums: Sums,
    custom: tuple[str | None] | None,
    time_of_all: int,
) -> Callable[[Transaction], tuple[Copied, list[Pair]]]:
    """The change that makes the copies; it leaves over those that need a checksum of another type which is not in `sums`.

    `custom` is what all copies have in that column, or None if each has that of its original.
    """

    def change(tx: Transaction) -> tuple[Copied, list[Pair]]:
        for bucket in (source, target):
            if bucket.stale or store.shared:
                require_bucket(tx, bucket)
        objects = size = 0
        missing: list[str] = []
        failed: list[tuple[str, str]] = []
        left: list[Pair] = []
        damage = store.verifier.damage
        changed: list[str] = []
        now = time_of_all or time.time_ns()
        for name, new in pairs:
            row = tx.execute(LOOKUP_PLAIN, (source.bid, name)).fetchone()
            if row is None:
                missing.append(name)
                continue
            if reason := damage.reason(row[1], row[2]):
                failed.append((name, reason))
                continue
            checksum = _checksum(row, kind, sums.get(name))
            if checksum is None:
                left.append((name, new))
                continue
            objects += 1
            old = tx.execute(LOOKUP_PLAIN, (target.bid, new)).fetchone()
            same = old is not None and _same_content(old, row, checksum) and not damage.reason(old[1], old[2])
            if same and (custom is None or old[8] == custom[0]):
                if time_of_all or source.bid == target.bid:
                    continue
                tx.execute(_TOUCH, (now, target.bid, new))  # another job's copy, which may be undone: not any more
            else:
                add_reference(tx, row[1], row[2])
                version = row[5] if source.bid == target.bid else "1"
                pairs_of = row[8] if custom is None else custom[0]
                tx.execute(INSERT_OBJECT, (target.bid, new, *row[:3], *checksum, version, row[6], now, pairs_of))
                store.count_change(tx, target, old, row[0])
                size += row[0]
            if old is not None:
                changed.append(new)
        if changed:
            tx.after(lambda: store.forget(target, changed))
        return Copied(objects, size, missing, failed), left

    return change


def _checksum(row: Sequence[Any], kind: str, known: tuple[tuple[int, int, int], str] | None) -> tuple[str, str] | None:
    """Type and value for a copy of the row, None if its content has to be read for that."""
    if row[3] == kind:
        return kind, row[4]
    if kind == "none":
        return kind, ""
    return (kind, known[1]) if known is not None and known[0] == (row[1], row[2], row[7]) else None


def _same_content(old: Sequence[Any], row: Sequence[Any], checksum: tuple[str, str]) -> bool:
    return (old[1], old[2]) == (row[1], row[2]) or (
        old[0] == row[0] and checksum[1] != "" and (old[3], old[4]) == checksum
    )


async def _sum_up(store: Store, bucket: Bucket, names: Iterable[str], kind: str, sums: Sums) -> list[Pair]:
    """Note the checksums of these objects; names of those whose content cannot be read, and why."""
    at_once = asyncio.Semaphore(_HASHED_AT_ONCE)
    failed: list[Pair] = []

    async def sum_up(name: str) -> None:
        async with at_once:
            row = store.lookup(bucket, name)
            try:
                found = None if row is None else await _hashed(store, bucket, row, kind)
            except (StoreError, OSError) as error:
                failed.append((name, str(error)))
                return
        if found is not None:
            row, value = found
            sums[name] = (row.layout, row.content, row.mtime), value

    await asyncio.gather(*map(sum_up, names))
    return failed


async def _hashed(store: Store, bucket: Bucket, row: ObjectRow, kind: str) -> tuple[ObjectRow, str] | None:
    """The object's version and the checksum of its content; None if it is gone. Raises `ContentDamaged`, OSError."""
    current = await open_verified(store, bucket, row)
    if current is None:
        return None
    row, fd = current
    if row.data is not None:
        return row, digest(kind, row.data)
    try:
        return row, await in_thread(hash_file, kind, fd, 0, row.size)
    finally:
        os.close(fd)


def move_object(store: Store, bucket: Bucket, name: str, new_name: str) -> asyncio.Future[None]:
    """Give an object another name, in place of an object that has it. Raises `ObjectMissing`, `BucketGone`."""

    def change(tx: Transaction) -> None:
        if bucket.stale or store.shared:
            require_bucket(tx, bucket)
        row = tx.execute(LOOKUP_PLAIN, (bucket.bid, name)).fetchone()
        if row is None:
            raise ObjectMissing(name)
        old = tx.execute(LOOKUP_PLAIN, (bucket.bid, new_name)).fetchone()
        if old is not None:
            store.count_change(tx, bucket, old, 0)
            tx.execute("DELETE FROM object WHERE bucket = ? AND name = ?", (bucket.bid, new_name))
            tx.count(bucket.bid, -1, 0)
        tx.execute("UPDATE object SET name = ? WHERE bucket = ? AND name = ?", (new_name, bucket.bid, name))
        tx.after(lambda: store.forget(bucket, (name, new_name)))

    return store.catalog.submit(change)


async def undo_copies(store: Store, target: Bucket, time_of_all: int) -> None:
    """Destroy a bucket that was made for copies, all of which have this time. If it holds something else by now, only copies go.

    Raises `BucketGone`.
    """

    def check(tx: Transaction, bid: int) -> None:
        if bid != target.bid:
            raise BucketGone(target.id.cname)
        sql = "SELECT 1 FROM object WHERE bucket = ? AND mtime != ? UNION ALL SELECT 1 FROM upload WHERE bucket = ? LIMIT 1"
        if tx.execute(sql, (bid, time_of_all, bid)).fetchone():
            raise _HoldsMore

    # The check goes through all rows: some milliseconds for 100,000 of them. What is stored a moment later finds no bucket any more.
    try:
        await store.destroy_bucket(target.id, check=check)
    except _HoldsMore:
        done = ""
        while last := await store.catalog.submit(_undo_some(store, target, time_of_all, done)):
            done = last


class _HoldsMore(StoreError):
    """There is more than copies."""


def _undo_some(store: Store, target: Bucket, time_of_all: int, done: str) -> Callable[[Transaction], str]:
    """The change that removes some of the copies, those that come after a name; the last name that it looked at."""

    def change(tx: Transaction) -> str:
        rows = tx.execute(
            "SELECT name, size, layout, content, mtime FROM object WHERE bucket = ? AND name > ? ORDER BY name LIMIT ?",
            (target.bid, done, _UNDONE_AT_ONCE),
        ).fetchall()
        gone = [row for row in rows if row[4] == time_of_all]
        tx.executemany("DELETE FROM object WHERE bucket = ? AND name = ?", [(target.bid, name) for name, *_ in gone])
        for _, _, layout, content, _ in gone:
            drop_reference(tx, layout, content)
        tx.count(target.bid, -len(gone), -sum(row[1] for row in gone))
        tx.after(lambda: store.forget(target, [row[0] for row in gone]))
        tx.after(store.content.remove_garbage)
        return rows[-1][0] if rows else ""

    return change
