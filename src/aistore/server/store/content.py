"""Content files: where bytes live that are too many for the catalog.

A file is named by a fresh id, never by an object's name, and never changes once it is complete. Ids come in blocks of 4,096, one folder
each; a block is noted as open in the catalog before its first id is used, and closed when all its ids are used and the last of their
uploads is stored or abandoned. So after a crash only the files of open blocks have to be compared with the catalog, and start-up does
not grow with what is stored.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar, cast

from aistore.server.store.errors import StoreFull
from aistore.server.store.page_cache import RWF_NOWAIT, is_quick
from aistore.server.store.pieces import PieceSums
from aistore.server.store.sync import sync_file, sync_folder
from aistore.wire.checksum import new_hasher

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from aistore.server.store.catalog import Catalog, Transaction
    from aistore.server.store.schema import Durability

__all__ = [
    "ContentFiles",
    "NearbyFiles",
    "Upload",
    "block_of",
    "content_path",
    "finished",
    "full_or",
    "hash_file",
    "ids_of",
    "in_thread",
    "is_content",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_BLOCK: Final = 4096
is_content: Final = re.compile(r"[0-9a-f]{16}").fullmatch
"""Whether a file name is that of a content file."""
_REMOVE_AT_ONCE: Final = 512
_SHORT_THREADS: Final = 8  # they wait for the disk
_FOLDERS: Final = 32  # that one reader of many small files holds open
_LARGE: Final = 64 << 20  # removing a file of this size takes so long that it is not done on the loop


async def finished(future: asyncio.Future[T]) -> T:
    """Wait for work in a thread to its end, also when the waiting task is cancelled.

    What the thread works on (a descriptor, a buffer) must not be taken away under it.
    """
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((future,))
        raise


async def in_thread(work: Callable[..., T], *args: object) -> T:
    """Run blocking work in a thread and wait for its end, whatever happens (see `finished`)."""
    return await finished(asyncio.get_running_loop().run_in_executor(None, work, *args))


def full_or(error: OSError) -> Exception:
    """`StoreFull` for an error that says the disk is full, else the error itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        full = StoreFull("the disk with the data folder is full")
        full.__cause__ = error
        return full
    return error


def block_of(content: int) -> int:
    """The block of ids that one belongs to."""
    return content // _BLOCK


def ids_of(block: int) -> range:
    """The ids of a block."""
    return range(block * _BLOCK, (block + 1) * _BLOCK)


def content_path(root: Path, content: int) -> Path:
    """Where a content file lies below the content folder `root`."""
    return root / f"{content // _BLOCK:08x}" / f"{content:016x}"


def hash_file(kind: str, fd: int, offset: int, length: int, sums: PieceSums | None = None) -> str:
    """Checksum of a part of a file (blocking), and the sums of its pieces; `OSError` if the file is shorter."""
    hasher = new_hasher(kind)
    if hasher is None and sums is None:
        return ""
    end = offset + length
    while offset < end:
        piece = os.pread(fd, min(1 << 20, end - offset), offset)
        if not piece:
            raise OSError(f"content file ends {end - offset} bytes early")
        if hasher is not None:
            hasher.update(piece)
        if sums is not None:
            sums.update(piece)
        offset += len(piece)
    return hasher.hexdigest() if hasher is not None else ""


class Upload:
    """A content file that is being written; nothing refers to it until a change of the catalog does.

    Whoever creates one either hands it to the store or abandons it.
    """

    __slots__ = ("_abandoned", "_files", "_reserved", "_settled", "fd", "id", "path", "size", "sums")

    def __init__(self, files: ContentFiles, content: int, fd: int, path: Path) -> None:
        self._files = files
        self._reserved = 0
        self._settled = self._abandoned = False
        self.id = content
        self.fd = fd
        self.path = path
        self.size = 0
        """Bytes written so far."""
        self.sums: PieceSums | None = PieceSums()
        """Sums of its pieces, as far as it was written in order; None where nobody wants them."""

    def reserve(self, size: int) -> None:
        """Count `size` more bytes as used, before they are written (on the loop)."""
        self._reserved += size
        self._files.pending += size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append (blocking; a large upload does this in a thread). Raises `StoreFull`."""
        view = memoryview(data)
        if self.sums is not None:
            self.sums.update(view)
        try:
            while view:
                n = os.write(self.fd, view)
                self.size += n
                view = view[n:]
        except OSError as error:
            raise full_or(error) from error

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write at a place (blocking); whoever does sets `size` at the end, and makes `sums`. Raises `StoreFull`."""
        view = memoryview(data)
        try:
            while view:
                n = os.pwrite(self.fd, view, offset)
                offset += n
                view = view[n:]
        except OSError as error:
            raise full_or(error) from error

    def checksum(self, kind: str) -> str:
        """Checksum of what lies in the file, all of it read back, and its sums (blocking). Raises `OSError`."""
        self.sums = PieceSums()
        return hash_file(kind, self.fd, 0, self.size, self.sums)

    def finish(self) -> None:
        """Close the file; under `strict` its bytes and its name then survive power loss (blocking). Raises `StoreFull`."""
        fd, self.fd = self.fd, -1
        try:
            if self._files.durability == "strict":
                sync_file(fd)
                sync_folder(self.path.parent)
        except OSError as error:
            raise full_or(error) from error
        finally:
            os.close(fd)

    def abandon(self) -> None:
        """Remove the file: nothing became of it (on the loop, when no thread writes to it)."""
        if self._settled or self._abandoned:
            return
        self._abandoned = True
        if self._files.in_doubt:
            self._close()
            self.settle(gone=False)
        elif max(self.size, self._reserved) < _LARGE:
            self.settle(gone=self._remove())
        else:
            self._files.remove_in_thread(self._remove, lambda gone: self.settle(gone=gone))

    def _remove(self) -> bool:
        """Remove the file (blocking); whether it is gone."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            logger.exception("%s is left over; the next start removes it", self.path)
            return False
        finally:
            self._close()
        return True

    def _close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def settle(self, *, gone: bool = True) -> None:
        """The catalog has it, or it is gone; if neither, its block stays open for the next recovery (on the loop)."""
        if not self._settled:
            self._settled = True
            self._files.settled(self.id, self._reserved, gone=gone)


class ContentFiles:
    """The content folder of a data folder."""

    def __init__(self, root: Path, catalog: Catalog, durability: Durability) -> None:
        self.root = root
        self.durability = durability
        self._catalog = catalog
        self.pending = 0
        """Bytes of uploads under way."""
        self._block = -1
        self._next = _BLOCK
        self._spare: asyncio.Future[int] | None = None
        # For each open block of this process its uploads under way, plus one while ids may still be taken from it.
        self._used: dict[int, int] = {}
        # Descriptors of their folders, with a lock that tells other processes that the block is in use.
        self._locks: dict[int, int] = {}
        self._removing: asyncio.Future[None] | None = None
        self._abandoned: set[asyncio.Future[bool]] = set()
        self._short = ThreadPoolExecutor(_SHORT_THREADS, "short")

    @property
    def in_doubt(self) -> bool:
        """Whether only the next start can tell what the catalog refers to."""
        return self._catalog.broken

    # -- ids and files -----------------------------------------------------------------------------------------

    def path(self, content: int) -> Path:
        """Where a content file lies."""
        return content_path(self.root, content)

    def open(self, content: int) -> int:
        """A descriptor for reading."""
        return os.open(self._name(content), os.O_RDONLY | os.O_CLOEXEC)

    def _name(self, content: int) -> str:
        return f"{self.root}/{content // _BLOCK:08x}/{content:016x}"

    async def prepare(self) -> None:
        """Take the first block of this process."""
        self._block = await self._take_block()
        self._next = 0

    async def create(self, size: int = 0) -> Upload:
        """A new, empty content file; `size` bytes of it are counted as used from now on. Raises `StoreFull`."""
        while self._next == _BLOCK:
            await self._change_block()
        content = self._block * _BLOCK + self._next
        self._next += 1
        if self._next == _BLOCK // 2 and self._spare is None:
            self._spare = asyncio.ensure_future(self._take_block())
        path = self.path(content)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            upload = Upload(self, content, os.open(path, flags, 0o600), path)
        except OSError as error:
            raise full_or(error) from error
        self._used[self._block] += 1
        upload.reserve(size)
        return upload

    def settled(self, content: int, reserved: int, *, gone: bool) -> None:
        """An upload is over."""
        self.pending -= reserved
        if gone:
            self._used[content // _BLOCK] -= 1

    async def _change_block(self) -> None:
        spare = self._spare
        if spare is None or (spare.done() and spare.exception() is not None):  # what failed then may be possible now
            spare = self._spare = asyncio.ensure_future(self._take_block())
        block = await asyncio.shield(spare)
        if self._spare is spare:  # the first of those who waited
            self._spare = None
            self._used[self._block] -= 1
            self._block, self._next = block, 0

    async def _take_block(self) -> int:
        """Note a new block in the catalog and make its folder. Raises `StoreFull`."""
        over = [block for block, uses in self._used.items() if not uses]

        def change(tx: Transaction) -> int:
            block = tx.execute("INSERT INTO block DEFAULT VALUES").lastrowid
            assert block is not None
            for old in over:
                tx.execute("UPDATE block SET open = 0 WHERE id = ?", (old,))
            return block

        while True:
            block = await self._catalog.submit(change)
            folder = self.root / f"{block:08x}"
            try:
                is_first = not self.root.exists()
                folder.mkdir(parents=True)
                self._locks[block] = _locked(folder)
                if self.durability == "strict":
                    sync_folder(self.root)
                    if is_first:
                        sync_folder(self.root.parent)
                break
            except FileExistsError:  # the catalog was put back to an earlier state
                continue
            except OSError as error:
                raise full_or(error) from error
        for old in over:
            self._used.pop(old, None)
            self._let_go(old)
        self._used[block] = 1
        return block

    def _let_go(self, block: int) -> None:
        if block in self._locks:
            os.close(self._locks.pop(block))

    # -- garbage and recovery ----------------------------------------------------------------------------------

    def recover(self, db: sqlite3.Connection) -> int:
        """Remove files that a crash left behind; the number removed. Looks at open blocks only, and closes them."""
        return sum(self._close_block(db, block) for block in _open_blocks(db))

    def recover_beside_others(self, db: sqlite3.Connection) -> int:
        """The same while this and other processes work: only blocks of processes that are gone count."""
        removed = 0
        for block in _open_blocks(db):
            folder = self.root / f"{block:08x}"
            with suppress(OSError):  # it is in use, or only just noted: then it is made and locked in a moment
                if any(folder.iterdir()):  # files come after the lock, so an empty folder may still be without
                    os.close(_locked(folder, alone=True))
                    removed += self._close_block(db, block)
        return removed

    def _close_block(self, db: sqlite3.Connection, block: int) -> int:
        removed = 0
        folder = self.root / f"{block:08x}"
        try:
            paths = [path for path in folder.iterdir() if is_content(path.name)]
        except FileNotFoundError:
            paths = []
        for path in paths:
            if db.execute("SELECT 1 FROM file WHERE id = ?", (int(path.name, 16),)).fetchone() is None:
                path.unlink(missing_ok=True)
                removed += 1
        with suppress(OSError):  # holds content, or was never made
            folder.rmdir()
        db.execute("UPDATE block SET open = 0 WHERE id = ?", (block,))
        return removed

    def has(self, status: os.stat_result) -> bool:
        """Whether a file that has another name, too, is content that the catalog knows (in a thread)."""
        known = self._catalog.thread_reader().execute("SELECT id FROM file WHERE size = ?", (status.st_size,))
        for (content,) in known.fetchall():
            with suppress(FileNotFoundError):
                if os.path.samestat(status, self.path(content).stat()):
                    return True
        return False

    async def in_short_thread(self, work: Callable[..., T], *args: object) -> T:
        """Run work on a small file as `in_thread` does, beside what is long: hashing and writing large ones."""
        return await finished(asyncio.get_running_loop().run_in_executor(self._short, work, *args))

    def remove_in_thread(self, remove: Callable[[], bool], removed: Callable[[bool], None]) -> None:
        """Have an abandoned file removed; `removed` is told, on the loop, whether it is gone."""
        future = asyncio.get_running_loop().run_in_executor(None, remove)
        self._abandoned.add(future)
        future.add_done_callback(self._abandoned.discard)
        future.add_done_callback(lambda future: removed(future.result()))

    def remove_garbage(self) -> None:
        """Start unlinking what no object refers to any more, unless that is under way."""
        if self._removing is None or self._removing.done():
            self._removing = asyncio.ensure_future(self._remove_garbage())

    async def settle_garbage(self, at_most: float | None = None) -> None:
        """Wait for the end of a removal under way, but not longer than so many seconds."""
        if self._removing is not None:
            await asyncio.wait((self._removing,), timeout=at_most)

    async def _remove_garbage(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                rows = self._catalog.read("SELECT id FROM garbage LIMIT ?", (_REMOVE_AT_ONCE,)).fetchall()
                if not rows:
                    return
                ids = [row[0] for row in rows]
                await loop.run_in_executor(None, self._unlink, ids)
                await self._catalog.submit(_forget(ids))
        except Exception:
            logger.exception("removing unreferenced content stopped; it goes on with the next removal or start")

    def _unlink(self, ids: list[int]) -> None:
        for content in ids:
            with suppress(FileNotFoundError):
                os.unlink(self._name(content))  # noqa: PTH108 (a Path costs as much as the removal)

    async def close(self) -> None:
        """Wait for removals and preparations under way."""
        for future in (self._removing, self._spare, *self._abandoned):
            if future is not None:
                await asyncio.gather(future, return_exceptions=True)
        self._short.shutdown()
        for block in list(self._locks):
            self._let_go(block)


class NearbyFiles:
    """Reads many small content files on the loop: a file is opened from its folder, which is held open, in half the time. Close it."""

    __slots__ = ("_folders", "_root")

    def __init__(self, files: ContentFiles) -> None:
        self._root = files.root
        self._folders: dict[int, int] = {}

    def read(self, content: int, size: int) -> tuple[bytes, int] | None:
        """The whole file, of `size` bytes, and when it was last written to (nanoseconds); 0 if it may have come from the disk.

        None if that would wait for the disk, or if it fails: whoever opens it by its path is told why.
        """
        block = content // _BLOCK
        folder = self._folders.get(block)
        fd = -1
        try:
            if folder is None:
                if len(self._folders) == _FOLDERS:
                    return None
                folder = os.open(f"{self._root}/{block:08x}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._folders[block] = folder
            fd = os.open(b"%016x" % content, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
            if RWF_NOWAIT:
                data: bytearray | bytes = bytearray(size)
                began = time.perf_counter_ns()
                read = os.preadv(fd, (data,), 0, RWF_NOWAIT) if size else 0
                if read != size:
                    return None
                from_memory = is_quick(began, size)
            else:
                data = os.pread(fd, size, 0)
                if len(data) != size:
                    return None
                from_memory = True
            # Nobody writes to it: a copy would cost what reading does.
            return cast("bytes", data), os.fstat(fd).st_mtime_ns if from_memory else 0
        except OSError:
            return None
        finally:
            if fd >= 0:
                os.close(fd)

    def close(self) -> None:
        """Let go of the folders."""
        for folder in self._folders.values():
            os.close(folder)
        self._folders.clear()


def _locked(folder: Path, *, alone: bool = False) -> int:
    """A descriptor of a folder, locked. Raises `BlockingIOError` if another process has it and this one wants it `alone`."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open_blocks(db: sqlite3.Connection) -> list[int]:
    return [block for (block,) in db.execute("SELECT id FROM block WHERE open = 1").fetchall()]


def _forget(ids: list[int]) -> Callable[[Transaction], None]:
    def change(tx: Transaction) -> None:
        tx.executemany("DELETE FROM garbage WHERE id = ?", [(content,) for content in ids])

    return change
