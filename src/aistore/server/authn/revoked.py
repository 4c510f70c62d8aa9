"""Tokens that are refused though they were given out: kept in the catalog, which all processes of a cluster read, until they would have expired."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aistore.server.store.catalog import Catalog, Transaction

__all__ = ["Revoked"]

_KEY: Final = "revoked "
_BEHIND: Final = "revoked!"
_BEFORE: Final = "revoked"  # all of them in one document, as versions before kept them
_CLEANED_EACH: Final = 3600.0


class Revoked:
    """Digests of tokens. Each has a row of its own: there may be very many, and adding one costs the same then."""

    __slots__ = ("_catalog", "_clean_at", "_unkept")

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._clean_at = 0.0
        self._unkept: set[bytes] = set()

    async def take_over(self) -> None:
        """Take over what a version before has kept."""
        known = self._catalog.meta(_BEFORE)
        if known is not None:
            await self.add({bytes.fromhex(key): until for key, until in json.loads(known).items()})

    def holds(self, digest: bytes) -> bool:
        """Whether a token is refused."""
        return digest in self._unkept or self.keeps(digest)

    def keeps(self, digest: bytes) -> bool:
        """Whether it will be refused after a restart, too."""
        return self._catalog.meta(_KEY + digest.hex()) is not None

    async def add(self, more: Mapping[bytes, float]) -> None:
        """Refuse further tokens, each until its time (Unix seconds): at once, and here even if that cannot be kept. Raises `StoreError`."""
        now = time.time()
        rows = [(_KEY + digest.hex(), str(int(until))) for digest, until in more.items() if until > now]
        cleans = now >= self._clean_at
        self._unkept.update(more)

        def change(tx: Transaction) -> None:
            tx.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
            if cleans:
                sql = "DELETE FROM meta WHERE key = ? OR (key > ? AND key < ? AND CAST(value AS INTEGER) <= ?)"
                tx.execute(sql, (_BEFORE, _KEY, _BEHIND, int(now)))

        await self._catalog.submit(change)
        self._unkept.difference_update(more)
        if cleans:
            self._clean_at = now + _CLEANED_EACH
