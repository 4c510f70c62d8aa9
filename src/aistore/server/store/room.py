"""Room for what is to be stored, where something else may go for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.server.store.errors import StoreFull

if TYPE_CHECKING:
    from aistore.server.store.store import Store

__all__ = ["make_room"]


async def make_room(store: Store, size: int, *, in_catalog: bool = False, held: int = 0) -> None:
    """`Store.check_room`, and where that fails once more, after `Store.relief` has let go what can be fetched again. Raises `StoreFull`."""
    try:
        store.check_room(size, in_catalog=in_catalog, held=held)
    except StoreFull:
        if store.relief is None or not await store.relief(size + held):
            raise
        await store.settle_garbage()
        store.check_room(size, in_catalog=in_catalog, held=held)
