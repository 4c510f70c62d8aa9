"""Content that is known to be damaged: reads of it answer at once, and with what is wrong, until the object is overwritten or deleted.

The marks lie in the catalog with the content's number, so that they hold for all objects that share the content, and go with it.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from aistore.server.store.errors import ContentDamaged, StoreError
from aistore.server.store.schema import LAYOUT_FILE, LAYOUT_INLINE

if TYPE_CHECKING:
    import asyncio

    from aistore.server.store.catalog import Catalog, Transaction
    from aistore.server.store.rows import ObjectRow

__all__ = ["Damage", "drop_mark", "mark", "place_of"]

logger = logging.getLogger(__name__)

Place = tuple[int, int]
"""Layout (a file, or in the catalog) and number of content."""


def place_of(layout: int, content: int) -> Place:
    """What marks are kept under."""
    return (LAYOUT_INLINE if layout == LAYOUT_INLINE else LAYOUT_FILE, content)


def mark(tx: Transaction, layout: int, content: int, reason: str) -> None:
    """Note that content is damaged; the first reason stays."""
    tx.execute(
        "INSERT OR IGNORE INTO damaged VALUES (?, ?, ?, ?)", (*place_of(layout, content), time.time_ns(), reason)
    )


def drop_mark(tx: Transaction, layout: int, content: int) -> None:
    """The content is gone, or good again."""
    tx.execute("DELETE FROM damaged WHERE layout = ? AND content = ?", place_of(layout, content))


class Damage:
    """The marks, in memory. Nearly always there are none."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._reasons: dict[Place, str] = {}
        self._unkept: dict[Place, str] = {}  # not in the catalog yet
        self._marking: set[asyncio.Future[None]] = set()
        self.found = 0
        """How often reading came upon content that was not known to be damaged, since the start."""

    def __len__(self) -> int:
        return len(self._reasons)

    def load(self) -> None:
        """Read the marks anew."""
        rows = self._catalog.read("SELECT layout, content, reason FROM damaged").fetchall()
        self._reasons = {**{(layout, content): reason for layout, content, reason in rows}, **self._unkept}

    def reason(self, layout: int, content: int) -> str:
        """What is wrong with content; empty if nothing is known to be."""
        return self._reasons.get(place_of(layout, content), "") if self._reasons else ""

    def refuse(self, row: ObjectRow) -> None:
        """Raise `ContentDamaged` if the row's content is marked."""
        if self._reasons and (reason := self._reasons.get(place_of(row.layout, row.content))):
            raise ContentDamaged(reason, row.bid, row.name)

    def note(self, row: ObjectRow, reason: str) -> ContentDamaged:
        """Mark the row's content; the error for whoever reads it."""
        place = place_of(row.layout, row.content)
        if place not in self._reasons:
            self._reasons[place] = reason
            self.found += 1
            facts = {"bucket": row.bid, "object": row.name, "damage": reason}
            logger.error(
                "content of %r (bucket number %d) is damaged: %s", row.name, row.bid, reason, extra={"facts": facts}
            )
            self._keep(row, reason)
        return ContentDamaged(reason, row.bid, row.name)

    def _keep(self, row: ObjectRow, reason: str) -> None:
        place = place_of(row.layout, row.content)

        def change(tx: Transaction) -> None:
            now = tx.execute("SELECT layout, content FROM object WHERE bucket = ? AND name = ?", (row.bid, row.name))
            if now.fetchone() == (row.layout, row.content):  # else the number may be that of other content by now
                mark(tx, row.layout, row.content, reason)

        def kept(future: asyncio.Future[None]) -> None:
            self._marking.discard(future)
            self._unkept.pop(place, None)
            if not future.cancelled() and (error := future.exception()) is not None:
                logger.warning("that %r is damaged could not be noted: %s", row.name, error)

        try:
            future = self._catalog.submit(change)
        except StoreError as error:
            logger.warning("that %r is damaged could not be noted: %s", row.name, error)
            return
        self._marking.add(future)
        self._unkept[place] = reason
        future.add_done_callback(kept)
