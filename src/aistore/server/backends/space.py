"""Room for what comes from backends: eviction of what was read least recently, and can be fetched again.

Only rows with a `source` go: content that is nowhere else stays, whatever bucket it is in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.server.backends.base import SOURCE
from aistore.server.store.errors import StoreError
from aistore.server.store.evicting import evict, least_recently_read, stored_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["Space"]

logger = logging.getLogger(__name__)

_CHECK_EVERY: Final = 10.0  # seconds between two looks at the watermarks
_AT_ONCE: Final = 200
_LOOKED_AT: Final = 20_000  # rows that one search for the oldest takes into memory


class _Candidate(NamedTuple):
    atime: int
    bid: int
    name: str
    size: int


class Space:
    """Watermarks of a node: `space.lowwm`, `highwm`, `out_of_space` of the cluster's configuration, in percent."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._task: asyncio.Task[None] | None = None
        self._evicting = asyncio.Lock()

    def start(self) -> None:
        """Look at the watermarks from time to time."""
        self._task = asyncio.ensure_future(self._watch())

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _mark(self, name: str) -> int:
        value = self._node.control.config.current.other["space"].get(name)
        return value if isinstance(value, int) else 100

    def used(self) -> tuple[int, int]:
        """Bytes used and bytes that there are, of the configured capacity or the disk."""
        store = self._node.store
        if store.capacity is not None:
            return stored_bytes(store.catalog) + store.content.pending, store.capacity
        total, free = store.disk()
        return total - free, total

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_EVERY)
            try:
                await self.relieve()
            except (StoreError, OSError):
                logger.exception("eviction failed; it is tried again")

    async def relieve(self, *, force: bool = False, among: Sequence[Bucket] = ()) -> tuple[int, int]:
        """Evict down to the low watermark, if the high one is passed; objects and bytes that went. `force` evicts where LRU is off, too."""
        used, total = self.used()
        if used * 100 <= self._mark("highwm") * total:
            return 0, 0
        excess = used - self._mark("lowwm") * total // 100
        objects, size = await self._evict(excess, self._buckets(force=force, among=among), spare=True)
        if objects:
            logger.info("evicted %d objects of %d bytes; %d%% were used", objects, size, used * 100 // total)
        return objects, size

    async def free(self, size: int) -> bool:
        """Evict for `size` bytes that have no room; whether anything went. What was read a moment ago goes too, if nothing else helps."""
        buckets = self._buckets(force=False)
        used, total = self.used()
        if not buckets or size > total:
            return False
        wanted = max(size, used + size - self._mark("highwm") * total // 100)
        objects, freed = await self._evict(wanted, buckets, spare=False)
        if objects:
            logger.info("evicted %d objects of %d bytes to make room for %d", objects, freed, size)
        return objects > 0

    def _buckets(self, *, force: bool, among: Sequence[Bucket] = ()) -> dict[int, Bucket]:
        """Remote buckets in which eviction is on."""
        node = self._node
        return {
            bucket.bid: bucket
            for bucket in among or node.store.buckets()
            if node.remote_of(bucket) is not None and (force or node.props(bucket).lru.enabled)
        }

    async def _evict(self, wanted: int, buckets: dict[int, Bucket], *, spare: bool) -> tuple[int, int]:
        """Evict at least `wanted` bytes, the least recently read first; with `spare` nothing that its bucket wants to keep for a while."""
        objects = freed = 0
        async with self._evicting:
            while freed < wanted and buckets:
                accessed = {bid: self._node.store.pending_atimes(bucket) for bid, bucket in buckets.items()}
                oldest = await self._node.control.scanner.run(partial(self._oldest, buckets, accessed))
                if spare:
                    now = time.time_ns()
                    oldest = [
                        one
                        for one in oldest
                        if now - one.atime > self._node.props(buckets[one.bid]).lru.dont_evict_time
                    ]
                count, size = await self._evict_some(oldest, buckets, wanted - freed)
                objects, freed = objects + count, freed + size
                if not count:
                    break
        return objects, freed

    async def _evict_some(self, oldest: list[_Candidate], buckets: dict[int, Bucket], wanted: int) -> tuple[int, int]:
        objects = freed = 0
        for start in range(0, len(oldest), _AT_ONCE):
            by_bucket: dict[int, list[str]] = {}
            planned = 0
            for one in oldest[start : start + _AT_ONCE]:
                if freed + planned >= wanted:
                    break
                by_bucket.setdefault(one.bid, []).append(one.name)
                planned += one.size
            for bid, names in by_bucket.items():
                for name in names:
                    self._node.backends.drop(buckets[bid], name)
                gone = await evict(self._node.store, buckets[bid], names, SOURCE)
                objects += len(gone)
                freed += sum(size for _, size in gone)
            if freed >= wanted or not by_bucket:
                break
        return objects, freed

    def _oldest(self, buckets: dict[int, Bucket], accessed: dict[int, dict[str, int]]) -> list[_Candidate]:
        """Objects that can be fetched again, the least recently read first (in a scanning thread)."""
        rows = least_recently_read(self._node.store.catalog, buckets, SOURCE, _LOOKED_AT)
        return sorted(
            _Candidate(max(atime, accessed[bid].get(name, 0)), bid, name, size) for atime, bid, name, size in rows
        )
