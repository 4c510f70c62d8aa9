"""Whether content is what was stored, looked at where it is read anyway.

Content is compared with the object's checksum when all of it is read: for the first time after its row came into memory, when it comes from
the disk and not from the system's memory, when its file was written to since, and when an hour has gone by. What differs is marked (`damage.py`), and nobody is given it.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Final

from aistore.server.store.content import hash_file, in_memory, in_thread
from aistore.server.store.damage import Damage, Place, place_of
from aistore.server.store.errors import ContentDamaged
from aistore.wire.checksum import DIGITS, digest

if TYPE_CHECKING:
    from aistore.server.store.catalog import Catalog
    from aistore.server.store.rows import Bucket, ObjectRow
    from aistore.server.store.store import Store

__all__ = ["Verifier", "damage_of", "difference", "open_verified"]

_SLOW: Final = frozenset({"crc32c"})
"""Types of checksums that cost so much (100 MB/s) that large content is not compared unless somebody asks for that."""

_LONG: Final = 1 << 20
_VALID: Final = 3600.0
"""Seconds after which content is compared once more."""


def difference(kind: str, expected: str, computed: str) -> str:
    """What is wrong with content, as refusals print it (protocol/20 17)."""
    return f"{kind}({expected} != {computed})"


def damage_of(kind: str, checksum: str, size: int, content: bytes | int) -> str:
    """What is wrong with content, in memory or in a file (blocking), without a row that remembers it; empty if nothing is.

    Raises `OSError`.
    """
    if not checksum or _is_dear(kind, size):
        return ""
    computed = digest(kind, content) if isinstance(content, bytes) else hash_file(kind, content, 0, size)
    return difference(kind, checksum, computed) if computed != checksum else ""


class Verifier:
    """Compares content with the checksum in its object's row."""

    def __init__(self, catalog: Catalog) -> None:
        self.damage = Damage(catalog)
        self._under_way: dict[tuple[Place, str], asyncio.Future[str]] = {}

    def refuse(self, row: ObjectRow) -> None:
        """Raise `ContentDamaged` if the row's content is known to be damaged."""
        if self.damage:
            self.damage.refuse(row)

    def wants(self, row: ObjectRow, fd: int) -> bool:
        """Whether all of a content file has to be compared, and can be at a reasonable price."""
        if not row.checksum or _is_dear(row.checksum_type, row.size):
            return False
        return _is_due(row, fd) or not in_memory(fd, row.size)

    def check(self, row: ObjectRow, data: bytes | bytearray | memoryview, fd: int = -1, *, cold: bool = False) -> None:
        """Compare all of the content, if that is due. Raises `ContentDamaged`.

        `fd` is the file that it was read from, `cold` says that it may have come from the disk.
        """
        if not (_is_due(row, fd) or (cold and row.checksum)):
            return
        if row.checksum_type not in DIGITS:
            raise self.damage.note(row, f"checksum of unknown type {row.checksum_type!r}")
        stamp = os.fstat(fd).st_mtime_ns if fd >= 0 else row.stamp
        self._compare(row, digest(row.checksum_type, data), stamp)

    def check_inline(self, row: ObjectRow) -> None:
        """Compare content that came from the catalog, whose pages have no checksums; from a row that is damaged it is taken away."""
        assert row.data is not None
        try:
            self.refuse(row)
            self.check(row, row.data)
        except ContentDamaged:
            row.data = None

    async def check_file(self, row: ObjectRow, fd: int) -> None:
        """Compare all of a content file, once for all who want that at this moment. Raises `ContentDamaged`, `OSError`."""
        if not row.checksum:
            return
        if row.checksum_type not in DIGITS:
            raise self.damage.note(row, f"checksum of unknown type {row.checksum_type!r}")
        status = os.fstat(fd)
        if status.st_size != row.size:
            raise self.damage.note(row, f"its file has {status.st_size} bytes, not {row.size}")
        key = place_of(row.layout, row.content), row.checksum_type
        computed = self._under_way.get(key)
        if computed is None:
            computed = self._under_way[key] = asyncio.ensure_future(_computed(row, os.dup(fd)))
            computed.add_done_callback(lambda done: self._computed(key, done))
        self._compare(row, await asyncio.shield(computed), status.st_mtime_ns)

    def _computed(self, key: tuple[Place, str], done: asyncio.Future[str]) -> None:
        self._under_way.pop(key, None)
        if not done.cancelled():
            done.exception()  # nobody may wait for it any more

    def _compare(self, row: ObjectRow, computed: str, stamp: int) -> None:
        if computed != row.checksum:
            row.verified = 0.0
            raise self.damage.note(row, difference(row.checksum_type, row.checksum, computed))
        row.verified, row.stamp = time.monotonic(), stamp


def _is_dear(kind: str, size: int) -> bool:
    return size > _LONG and kind in _SLOW


def _is_due(row: ObjectRow, fd: int) -> bool:
    """Whether content that has a checksum has to be compared with it, wherever it comes from."""
    if not row.checksum:
        return False
    if not row.verified or time.monotonic() - row.verified > _VALID:
        return True
    return fd >= 0 and os.fstat(fd).st_mtime_ns != row.stamp


async def open_verified(store: Store, bucket: Bucket, row: ObjectRow) -> tuple[ObjectRow, int] | None:
    """As `Store.open_current`, for those who make other content of this one: all of it is what was stored (`Verifier.wants`).

    Raises `ContentDamaged`, `OSError`.
    """
    current = store.open_current(bucket, row)
    if current is not None and current[1] >= 0 and store.verifier.wants(*current):
        try:
            await store.verifier.check_file(*current)
        except BaseException:
            os.close(current[1])
            raise
    return current


async def _computed(row: ObjectRow, fd: int) -> str:
    try:
        return await in_thread(hash_file, row.checksum_type, fd, 0, row.size)
    finally:
        os.close(fd)
