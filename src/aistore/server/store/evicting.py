"""What can be fetched again, told by a custom key that says where an object came from: looked for, and dropped.

The key is looked for in the text of the pairs: quotes in names and values are escaped there, so nothing else looks like it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.server.store.catalog import STORED
from aistore.server.store.references import drop_reference
from aistore.server.store.rows import require_bucket

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Sequence

    from aistore.server.store.catalog import Catalog, Transaction
    from aistore.server.store.rows import Bucket
    from aistore.server.store.scan import Row
    from aistore.server.store.store import Store

__all__ = ["evict", "first_without", "forget_key", "least_recently_read", "stored_bytes"]


def stored_bytes(catalog: Catalog) -> int:
    """Bytes of content that the catalog counts, shared content once; with what other processes of the folder stored."""
    found = catalog.read("SELECT bytes FROM usage WHERE bucket = ?", (STORED,)).fetchone()
    return int(found[0]) if found else 0


def least_recently_read(catalog: Catalog, buckets: Iterable[int], key: str, limit: int) -> list[Row]:
    """Up to `limit` rows `(atime, bucket number, name, size)` of objects that have the key (in a scanning thread)."""
    numbers = list(buckets)
    marks = ",".join("?" * len(numbers))
    sql = f"SELECT atime, bucket, name, size FROM object WHERE bucket IN ({marks}) AND instr(custom, ?) ORDER BY atime LIMIT ?"  # noqa: S608 (question marks)
    return catalog.thread_reader().execute(sql, (*numbers, _quoted(key), limit)).fetchall()


def first_without(catalog: Catalog, bid: int, key: str) -> str | None:
    """Name of an object of the bucket that has not the key (in a scanning thread)."""
    sql = "SELECT name FROM object WHERE bucket = ? AND (custom IS NULL OR NOT instr(custom, ?)) LIMIT 1"
    found = catalog.thread_reader().execute(sql, (bid, _quoted(key))).fetchone()
    return None if found is None else str(found[0])


def evict(store: Store, bucket: Bucket, names: Sequence[str], key: str) -> asyncio.Future[list[tuple[str, int]]]:
    """Delete those of the objects that have the key; the future gives name and size of each."""

    def change(tx: Transaction) -> list[tuple[str, int]]:
        evicted: list[tuple[str, int]] = []
        files = False
        sql = "DELETE FROM object WHERE bucket = ? AND name = ? AND instr(custom, ?) RETURNING size, layout, content"
        for name in names:
            for size, layout, content in tx.execute(sql, (bucket.bid, name, _quoted(key))).fetchall():
                files = drop_reference(tx, layout, content) or files
                evicted.append((name, size))
        tx.count(bucket.bid, -len(evicted), -sum(size for _, size in evicted))
        if files:
            tx.after(store.content.remove_garbage)
        tx.after(lambda: store.forget(bucket, [name for name, _ in evicted]))
        return evicted

    return store.catalog.submit(change)


def forget_key(store: Store, bucket: Bucket, key: str) -> asyncio.Future[None]:
    """Take the key from all objects of the bucket. Raises `BucketGone`."""

    def change(tx: Transaction) -> None:
        require_bucket(tx, bucket)
        sql = "UPDATE object SET custom = json_remove(custom, ?) WHERE bucket = ? AND instr(custom, ?)"
        tx.execute(sql, (f"$.{key}", bucket.bid, _quoted(key)))
        tx.after(store.clear_cache)

    return store.catalog.submit(change)


def _quoted(key: str) -> str:
    return f'"{key}":'
