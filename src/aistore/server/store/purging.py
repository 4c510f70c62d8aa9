"""Removing what destroyed buckets held, some rows at a time, so that destroying one is immediate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aistore.server.store.completing import drop_uploads
from aistore.server.store.references import drop_reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.server.store.catalog import Transaction
    from aistore.server.store.store import Store

__all__ = ["purge_dropped"]

_AT_ONCE: Final = 200  # a few milliseconds of the loop
_UPLOADS_AT_ONCE: Final = 20  # with their parts


async def purge_dropped(store: Store) -> None:
    """Remove rows and content of all destroyed buckets."""
    for (bid,) in store.catalog.read("SELECT bucket FROM dropped").fetchall():
        while await store.catalog.submit(_purge_some(store, bid)):
            store.content.remove_garbage()
    store.content.remove_garbage()


def _purge_some(store: Store, bid: int) -> Callable[[Transaction], bool]:
    def change(tx: Transaction) -> bool:
        rows = tx.execute(
            "SELECT name, size, layout, content FROM object WHERE bucket = ? ORDER BY name LIMIT ?", (bid, _AT_ONCE)
        ).fetchall()
        if not rows:
            if drop_uploads(tx, bid, _UPLOADS_AT_ONCE):
                return True
            tx.execute("DELETE FROM dropped WHERE bucket = ?", (bid,))
            tx.forget_totals(bid)
            tx.after(store.clear_cache)
            return False
        tx.execute("DELETE FROM object WHERE bucket = ? AND name <= ?", (bid, rows[-1][0]))
        for _, _, layout, content in rows:
            drop_reference(tx, layout, content)
        tx.count(bid, -len(rows), -sum(row[1] for row in rows))
        return True

    return change
