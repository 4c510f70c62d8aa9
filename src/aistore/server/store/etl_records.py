"""Definitions of ETLs in the catalog: what they hold is their registry's business."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

    from aistore.server.store.catalog import Catalog, Transaction

__all__ = ["drop_definition", "keep_definition", "load_definitions"]

_PREFIX: Final = "etl/"
_BEHIND: Final = "etl0"


def load_definitions(catalog: Catalog) -> list[str]:
    """All definitions, by name."""
    rows = catalog.read("SELECT value FROM meta WHERE key >= ? AND key < ? ORDER BY key", (_PREFIX, _BEHIND))
    return [value for (value,) in rows]


def keep_definition(catalog: Catalog, name: str, definition: str) -> asyncio.Future[None]:
    """Write or replace a definition."""
    return catalog.set_meta({_PREFIX + name: definition})


def drop_definition(catalog: Catalog, name: str) -> asyncio.Future[None]:
    """Forget a definition."""

    def change(tx: Transaction) -> None:
        tx.execute("DELETE FROM meta WHERE key = ?", (_PREFIX + name,))

    return catalog.submit(change)
