"""Whether content is what was stored, looked at where it is read anyway.

Content is compared with the object's checksum when all of it is read, and with the sums of its pieces (`pieces.py`) when a part of it is,
or when it has no checksum of a reasonable price: for the first time, when it comes from the disk and not from the system's memory, when
its file was written to since, and when an hour has gone by. Who asks first whether bytes are in memory has to say what came of it
(`Pieces.forget`): the question alone makes the system read them, and more. What differs is marked (`damage.py`), and nobody is given it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Final

from aistore.server.store.content import hash_file, in_thread
from aistore.server.store.damage import Damage, Place, place_of
from aistore.server.store.errors import ContentDamaged, StoreError
from aistore.server.store.page_cache import READ_AT_ONCE, RWF_NOWAIT, in_memory, is_quick, read_if_in_memory
from aistore.server.store.pieces import PIECE, VALID, Pieces, PieceSums, keep_sums
from aistore.server.store.schema import LAYOUT_INLINE
from aistore.wire.checksum import DIGITS, digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.server.store.catalog import Catalog, Transaction
    from aistore.server.store.rows import Bucket, ObjectRow
    from aistore.server.store.store import Store

__all__ = ["Verifier", "damage_of", "difference", "is_summed", "open_verified"]

logger = logging.getLogger(__name__)

_SLOW: Final = frozenset({"crc32c"})
"""Types of checksums that cost so much (100 MB/s) that large content is not compared unless somebody asks for that."""

_LONG: Final = 1 << 20
_WINDOW: Final = 8 * PIECE


def difference(kind: str, expected: str, computed: str) -> str:
    """What is wrong with content, as refusals print it (protocol/20 17)."""
    return f"{kind}({expected} != {computed})"


def damage_of(kind: str, checksum: str, content: bytes) -> str:
    """What is wrong with content in memory, without a row that remembers it; empty if nothing is."""
    computed = digest(kind, content) if checksum else ""
    return difference(kind, checksum, computed) if computed != checksum else ""


class Verifier:
    """Compares content with the checksum in its object's row, and parts of it with their sums."""

    def __init__(self, catalog: Catalog) -> None:
        self.damage = Damage(catalog)
        self._catalog = catalog
        self._loop_thread = 0
        self._pieces = Pieces(self._read_sums)
        self._under_way: dict[tuple[Place, str], asyncio.Future[str]] = {}

    def _read_sums(self, key: int) -> bytes | None:
        sql = "SELECT sums FROM sums WHERE id = ?"
        if threading.get_ident() == self._loop_thread:
            row = self._catalog.read(sql, (key,)).fetchone()
        else:
            row = self._catalog.thread_reader().execute(sql, (key,)).fetchone()
        return row[0] if row is not None else None

    def begin(self) -> None:
        """Read the marks. What is called on a loop is called on this one from now on."""
        self._loop_thread = threading.get_ident()
        self.damage.load()

    def refuse(self, row: ObjectRow) -> None:
        """Raise `ContentDamaged` if the row's content is known to be damaged."""
        if self.damage:
            self.damage.refuse(row)

    def wants(self, row: ObjectRow, fd: int) -> bool:
        """Whether all of a content file has to be compared."""
        return not self.knows(row, fd, 0, row.size)

    def knows(self, row: ObjectRow, fd: int, offset: int, length: int) -> bool:
        """Whether nothing has to be compared of a part of a content file: that was done, and it is in memory since."""
        if not in_memory(fd, offset, offset + length):
            self._pieces.forget(row.content, offset, length)
            return False
        return self._pieces.known(row.content, os.fstat(fd).st_mtime_ns, offset, length)

    def forget(self, row: ObjectRow) -> None:
        """A small content file comes from the disk, or that cannot be told."""
        self._pieces.forget(row.content, 0, row.size)

    def check(
        self, row: ObjectRow, data: bytes | bytearray | memoryview, stamp: int = 0, *, cold: bool = False
    ) -> None:
        """Compare all of the content, if that is due; in a file it is no more than a piece. Raises `ContentDamaged`.

        `stamp` is the time at which its file was last written to (nanoseconds), `cold` says that it may have come from the disk.
        """
        if row.layout == LAYOUT_INLINE:
            if row.checksum and (cold or not row.verified or time.monotonic() - row.verified > VALID):
                self._compare(row, self._digest(row, data), 0)
            return
        if cold:
            self._pieces.forget(row.content, 0, row.size)
        if self._pieces.known(row.content, stamp, 0, row.size):
            return
        if is_summed(row):
            self._compare(row, self._digest(row, data), stamp)
        elif wrong := self._pieces.wrong_data(row.content, stamp, data):
            raise self.damage.note(row, wrong)

    def check_inline(self, row: ObjectRow) -> None:
        """Compare content that came from the catalog, whose pages have no checksums; from a row that is damaged it is taken away."""
        assert row.data is not None
        try:
            self.refuse(row)
            self.check(row, row.data)
        except ContentDamaged:
            row.data = None

    def _digest(self, row: ObjectRow, data: bytes | bytearray | memoryview) -> str:
        self._refuse_unknown(row)
        return digest(row.checksum_type, data)

    def _refuse_unknown(self, row: ObjectRow) -> None:
        if row.checksum_type not in DIGITS:
            raise self.damage.note(row, f"checksum of unknown type {row.checksum_type!r}")

    async def check_file(self, row: ObjectRow, fd: int, *, exact: bool = False) -> None:
        """Compare all of a content file, once for all who want that at this moment. Raises `ContentDamaged`, `OSError`.

        `exact`: with the checksum, if there is one, whatever that costs.
        """
        if not (is_summed(row) or (exact and row.checksum)):
            self._pieces.forget(row.content, 0, row.size)
            await self._check_pieces(row, fd, 0, row.size)
            return
        self._refuse_unknown(row)
        status = os.fstat(fd)
        if status.st_size != row.size:
            raise self.damage.note(row, f"its file has {status.st_size} bytes, not {row.size}")
        key = place_of(row.layout, row.content), row.checksum_type
        computed = self._under_way.get(key)
        if computed is None:
            computed = self._under_way[key] = asyncio.ensure_future(self._compute(row, os.dup(fd)))
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
        if row.layout == LAYOUT_INLINE:
            row.verified = time.monotonic()
        else:
            self._pieces.note(row.content, row.size, stamp)

    async def _compute(self, row: ObjectRow, fd: int) -> str:
        """Checksum of a content file; the sums of its pieces are made by the way if there are none, and kept if it is good."""
        try:
            sums = None if self._pieces.has(row.content) else PieceSums()
            value = await in_thread(hash_file, row.checksum_type, fd, 0, row.size, sums)
        finally:
            os.close(fd)
        if sums is not None and value == row.checksum:
            self._keep_sums(row, sums)
        return value

    def _keep_sums(self, row: ObjectRow, sums: PieceSums) -> None:
        def change(tx: Transaction) -> None:
            if tx.execute("SELECT 1 FROM file WHERE id = ? AND size = ?", (row.content, row.size)).fetchone():
                keep_sums(tx, row.content, sums, row.size)

        def kept(future: asyncio.Future[None]) -> None:
            if not future.cancelled() and future.exception() is not None:
                logger.warning("the sums of %r could not be kept: %s", row.name, future.exception())

        try:
            self._catalog.submit(change).add_done_callback(kept)
        except StoreError as error:
            logger.warning("the sums of %r could not be kept: %s", row.name, error)

    # -- parts -------------------------------------------------------------------------------------------------

    def read_now(self, row: ObjectRow, fd: int, offset: int, length: int) -> bytes | None:
        """A part of a content file, or all of it, if it is small, in memory and good; None if it has to be waited for. Raises `ContentDamaged`."""
        if length > READ_AT_ONCE:
            return None
        began = time.perf_counter_ns()
        data = read_if_in_memory(fd, offset, length)
        if data is None or not is_quick(began, length):
            self._pieces.forget(row.content, offset, length)
        if data is None:
            return None
        stamp = os.fstat(fd).st_mtime_ns
        if self._pieces.known(row.content, stamp, offset, length):  # the quickest way
            return data
        if length == row.size and is_summed(row):
            self._compare(row, self._digest(row, data), stamp)
            return data
        if not RWF_NOWAIT:
            return None
        try:
            wrong = self._pieces.wrong(row.content, row.size, fd, offset, length, wait=False)
        except OSError as error:  # not in memory, or a file system that cannot tell
            if isinstance(error, BlockingIOError):
                self._pieces.forget(row.content, offset, length)
            return None
        if wrong:
            raise self.damage.note(row, wrong)
        return data

    async def check_part(self, row: ObjectRow, fd: int, offset: int, length: int) -> int:
        """Compare what has to be compared of the next pieces of a part; where in the file what is good then ends.

        Raises `ContentDamaged`, `OSError`.
        """
        end = min(offset + length, offset - offset % PIECE + _WINDOW)
        if not self.knows(row, fd, offset, end - offset):
            await self._check_pieces(row, fd, offset, end - offset)
        return end

    async def check_pieces(self, row: ObjectRow, fd: int, offset: int, length: int) -> None:
        """Compare what has to be compared of a part. Raises `ContentDamaged`, `OSError`."""
        end = offset + length
        while offset < end:
            offset = await self.check_part(row, fd, offset, end - offset)

    async def _check_pieces(self, row: ObjectRow, fd: int, offset: int, length: int) -> None:
        wrong = await in_thread(self._pieces.wrong, row.content, row.size, fd, offset, length)
        if wrong:
            raise self.damage.note(row, wrong)

    def checker(self, row: ObjectRow) -> Callable[[int, int, int], None]:
        """What compares a part of the row's content file before it is read, in whatever thread: descriptor, offset and length.

        It raises `ContentDamaged`, `OSError`.
        """
        loop = asyncio.get_running_loop()

        def check(fd: int, offset: int, length: int) -> None:
            end = min(offset + length, row.size)
            if end <= offset:
                return
            if self.knows(row, fd, offset, end - offset):
                return
            wrong = self._pieces.wrong(row.content, row.size, fd, offset, end - offset)
            if wrong:
                if threading.get_ident() == self._loop_thread:
                    raise self.damage.note(row, wrong)
                loop.call_soon_threadsafe(self.damage.note, row, wrong)
                raise ContentDamaged(wrong, row.bid, row.name)

        return check

    def damage_of(self, content: int, kind: str, checksum: str, size: int, fd: int) -> str:
        """What is wrong with a content file (blocking), without a row that remembers it; empty if nothing is. Raises `OSError`."""
        if not checksum or _is_dear(kind, size):
            self._pieces.forget(content, 0, size)
            return self._pieces.wrong(content, size, fd, 0, size)
        computed = hash_file(kind, fd, 0, size)
        return difference(kind, checksum, computed) if computed != checksum else ""


def is_summed(row: ObjectRow) -> bool:
    """Whether content has a checksum that can be compared at a reasonable price."""
    return bool(row.checksum) and not _is_dear(row.checksum_type, row.size)


def _is_dear(kind: str, size: int) -> bool:
    return size > _LONG and kind in _SLOW


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
