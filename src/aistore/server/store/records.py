"""Texts by name in the catalog, of one kind each: definitions of ETLs, what is told of dSort jobs. What they hold is their registry's business."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from aistore.server.store.catalog import Catalog, Transaction

__all__ = ["Records"]


class Records:
    """All texts of one kind, in the table of settings under `KIND/NAME`."""

    def __init__(self, catalog: Catalog, kind: str) -> None:
        self._catalog = catalog
        self._prefix = f"{kind}/"
        self._behind = f"{kind}0"  # the character after the slash

    def load(self) -> list[str]:
        """All of them, by name."""
        sql = "SELECT value FROM meta WHERE key >= ? AND key < ? ORDER BY key"
        return [value for (value,) in self._catalog.read(sql, (self._prefix, self._behind))]

    def keep(self, name: str, text: str) -> asyncio.Future[None]:
        """Write or replace one."""
        return self._catalog.set_meta({self._prefix + name: text})

    def drop(self, names: Iterable[str]) -> asyncio.Future[None]:
        """Forget those of these names."""
        keys = [(self._prefix + name,) for name in names]

        def change(tx: Transaction) -> None:
            tx.executemany("DELETE FROM meta WHERE key = ?", keys)

        return self._catalog.submit(change)
