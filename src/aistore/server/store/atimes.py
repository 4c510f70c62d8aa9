"""Access times: exact in memory, in the catalog only now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.server.store.cache import Key, RowCache
    from aistore.server.store.catalog import Catalog, Transaction
    from aistore.server.store.rows import ObjectRow

__all__ = ["AccessTimes"]

_STEP: Final = (
    60 * 10**9
)  # nanoseconds by which an access time must be newer to replace the stored one (as `relatime` does)
_KEPT_MAX: Final = 50_000
_AT_ONCE: Final = 500


class AccessTimes:
    """When objects were read last, Unix nanoseconds.

    Writing each access would make every read a write. So they are written in batches, and not those that are less than a minute
    newer than what is stored; after a restart an access time may be that much too old.
    """

    __slots__ = ("_cache", "_catalog", "_fresh", "_kept")

    def __init__(self, catalog: Catalog, cache: RowCache) -> None:
        self._catalog = catalog
        self._cache = cache
        self._fresh: dict[Key, int] = {}  # since the last write
        self._kept: dict[Key, int] = {}  # from before it

    def of(self, row: ObjectRow) -> int:
        """Last access of an object."""
        key = (row.bid, row.name)
        return self._fresh.get(key) or self._kept.get(key, row.atime)

    def note(self, row: ObjectRow, when: int) -> int:
        """Note an access; the one before it."""
        key = (row.bid, row.name)
        before = self._fresh.get(key) or self._kept.get(key, row.atime)
        self._fresh[key] = when
        return before

    def forget(self, key: Key) -> None:
        """The object was replaced or deleted."""
        self._fresh.pop(key, None)
        self._kept.pop(key, None)

    def of_bucket(self, bid: int) -> dict[str, int]:
        """Access times of a bucket's objects that the catalog may not have yet, by name."""
        return {name: when for times in (self._kept, self._fresh) for (b, name), when in times.items() if b == bid}

    async def write(self) -> None:
        """Write what is due. Raises `StoreFull`; then the times stay in memory."""
        fresh, self._fresh = self._fresh, {}
        if not fresh:
            return
        self._kept.update(fresh)
        items = list(fresh.items())
        for start in range(0, len(items), _AT_ONCE):
            await self._catalog.submit(_update(items[start : start + _AT_ONCE]))
        for key in list(self._kept)[: max(0, len(self._kept) - _KEPT_MAX)]:
            when = self._kept.pop(key)
            row = self._cache.get(key)
            if row is not None:
                row.atime = max(row.atime, when)


def _update(items: list[tuple[Key, int]]) -> Callable[[Transaction], None]:
    def change(tx: Transaction) -> None:
        for (bid, name), when in items:
            tx.execute(
                "UPDATE object SET atime = ? WHERE bucket = ? AND name = ? AND atime < ?",
                (when, bid, name, when - _STEP),
            )

    return change
