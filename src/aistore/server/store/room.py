"""Room for what is to be stored: what the disk has left, and what may go for it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from aistore.server.store.errors import StoreFull

if TYPE_CHECKING:
    from pathlib import Path

    from aistore.server.store.catalog import Catalog
    from aistore.server.store.store import Store

__all__ = ["FreeSpace", "make_room"]

_CHECK_EVERY: Final = 0.25  # seconds between two looks at the free space of the disk
# Bytes left free, so that deletes still work when the disk is full: they need the catalog's log, and that a checkpoint can bring what
# is in the log into the database.
_KEPT: Final = 40 << 20
_KEPT_SHARE: Final = 4  # at most this part of a small disk


class FreeSpace:
    """What the disk with the data folder has left for content, seen now and then."""

    def __init__(self, root: Path, catalog: Catalog) -> None:
        self._root = root
        self._catalog = catalog
        self._seen = 0.0
        self._left = 0
        self._left_in_catalog = 0

    def take(self, size: int, *, in_catalog: bool) -> None:
        """Raise `StoreFull` if there are no `size` bytes left, in the catalog if they go there."""
        now = time.monotonic()
        if now - self._seen > _CHECK_EVERY:
            self._seen = now
            stat = os.statvfs(self._root)
            kept = min(_KEPT, stat.f_blocks * stat.f_frsize // _KEPT_SHARE)
            self._left = stat.f_bavail * stat.f_frsize - kept
            self._left_in_catalog = self._catalog.unused()
        self._left -= size
        # What is deleted from the catalog's file makes room in it, not on the disk.
        if self._left + (self._left_in_catalog if in_catalog else 0) < 0:
            self.look_anew()
            raise StoreFull("the disk with the data folder is full")

    def look_anew(self) -> None:
        """Have the next who takes some look at the disk."""
        self._seen = 0.0


async def make_room(store: Store, size: int, *, in_catalog: bool = False, held: int = 0) -> None:
    """`Store.check_room`, and where that fails once more, after `Store.relief` has let go what can be fetched again. Raises `StoreFull`."""
    try:
        store.check_room(size, in_catalog=in_catalog, held=held)
    except StoreFull:
        if store.relief is None or not await store.relief(size + held):
            raise
        await store.settle_garbage()
        store.check_room(size, in_catalog=in_catalog, held=held)
