"""Content files: where bytes live that are too many for the catalog.

A file is named by a fresh id, never by an object's name, and never changes once it is complete. Ids come in blocks of 4,096, one folder
each; a block is noted as open in the catalog before its first id is used. So after a crash only the files of open blocks have to be
compared with the catalog, and start-up does not grow with what is stored.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sys
from typing import TYPE_CHECKING, Final

from aistore.server.store.errors import StoreFull
from aistore.wire.checksum import new_hasher

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from aistore.server.store.catalog import Catalog, Transaction
    from aistore.server.store.schema import Durability

__all__ = ["ContentFiles", "Upload", "full_or", "hash_file", "sync_file"]

logger = logging.getLogger(__name__)

_BLOCK: Final = 4096
_REMOVE_AT_ONCE: Final = 512


def full_or(error: OSError) -> Exception:
    """`StoreFull` for an error that says the disk is full, else the error itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        full = StoreFull("the disk with the data folder is full")
        full.__cause__ = error
        return full
    return error


if sys.platform == "darwin":
    import fcntl

    def sync_file(fd: int) -> None:
        """Make a file's content survive power loss; macOS's fsync leaves it in the drive's cache."""
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
else:

    def sync_file(fd: int) -> None:
        """Make a file's content survive power loss."""
        os.fdatasync(fd)


def hash_file(kind: str, fd: int, offset: int, length: int) -> str:
    """Checksum of a part of a file (blocking); `OSError` if the file is shorter."""
    hasher = new_hasher(kind)
    if hasher is None:
        return ""
    end = offset + length
    while offset < end:
        piece = os.pread(fd, min(1 << 20, end - offset), offset)
        if not piece:
            raise OSError(f"content file ends {end - offset} bytes early")
        hasher.update(piece)
        offset += len(piece)
    return hasher.hexdigest()


class Upload:
    """A content file that is being written; nothing refers to it until a change of the catalog does."""

    __slots__ = ("_files", "fd", "id", "path", "size")

    def __init__(self, files: ContentFiles, content: int, fd: int, path: Path) -> None:
        self._files = files
        self.id = content
        self.fd = fd
        self.path = path
        self.size = 0
        """Bytes written so far."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append (blocking; a large upload does this in a thread). Raises `StoreFull`."""
        view = memoryview(data)
        try:
            while view:
                n = os.write(self.fd, view)
                self.size += n
                view = view[n:]
        except OSError as error:
            raise full_or(error) from error

    def finish(self) -> None:
        """Close the file; under `strict` its bytes and its name then survive power loss (blocking)."""
        try:
            if self._files.durability == "strict":
                sync_file(self.fd)
                self._files.sync_folder(self.path.parent)
        except OSError as error:
            raise full_or(error) from error
        finally:
            os.close(self.fd)
            self.fd = -1

    def abandon(self) -> None:
        """Remove the file: nothing became of it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self.path.unlink(missing_ok=True)


class ContentFiles:
    """The content folder of a data folder."""

    def __init__(self, root: Path, catalog: Catalog, durability: Durability) -> None:
        self.root = root
        self.durability = durability
        self._catalog = catalog
        self._block = -1
        self._next = _BLOCK
        self._spare: asyncio.Future[int] | None = None
        self._removing: asyncio.Future[None] | None = None

    # -- ids and files -----------------------------------------------------------------------------------------

    def path(self, content: int) -> Path:
        """Where a content file lies."""
        return self.root / f"{content // _BLOCK:08x}" / f"{content:016x}"

    def open(self, content: int) -> int:
        """A descriptor for reading."""
        return os.open(f"{self.root}/{content // _BLOCK:08x}/{content:016x}", os.O_RDONLY | os.O_CLOEXEC)

    async def prepare(self) -> None:
        """Take the first block of this process."""
        self._block = await self._take_block()
        self._next = 0

    async def create(self) -> Upload:
        """A new, empty content file. Raises `StoreFull`."""
        if self._next == _BLOCK:
            await self._change_block()
        content = self._block * _BLOCK + self._next
        self._next += 1
        if self._next == _BLOCK // 2 and self._spare is None:
            self._spare = asyncio.ensure_future(self._take_block())
        path = self.path(content)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return Upload(self, content, os.open(path, flags, 0o600), path)
        except OSError as error:
            raise full_or(error) from error

    async def _change_block(self) -> None:
        old = self._block
        spare, self._spare = self._spare, None
        block = await (spare if spare is not None else self._take_block())
        if self._next == _BLOCK:  # nobody else changed it meanwhile
            self._block, self._next = block, 0
        if old >= 0:
            logger.debug("content block %d is used up", old)

    async def _take_block(self) -> int:
        """Note a new block in the catalog and make its folder."""

        def change(tx: Transaction) -> int:
            block = tx.execute("INSERT INTO block DEFAULT VALUES").lastrowid
            assert block is not None
            # Blocks that are used up need no look after a crash. An upload takes at most days, a block is far behind by then.
            tx.execute("UPDATE block SET open = 0 WHERE open = 1 AND id < ?", (block - 64,))
            return block

        block = await self._catalog.submit(change)
        folder = self.root / f"{block:08x}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self.durability == "strict":
                self.sync_folder(self.root)
        except OSError as error:
            raise full_or(error) from error
        return block

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder survive power loss."""
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    # -- garbage and recovery ----------------------------------------------------------------------------------

    def recover(self, db: sqlite3.Connection) -> int:
        """Remove files that a crash left behind; the number removed. Looks at open blocks only."""
        removed = 0
        last = db.execute("SELECT max(id) FROM block").fetchone()[0]
        for (block,) in db.execute("SELECT id FROM block WHERE open = 1").fetchall():
            folder = self.root / f"{block:08x}"
            try:
                names = [entry.name for entry in folder.iterdir()]
            except FileNotFoundError:
                names = []
            for name in names:
                try:
                    content = int(name, 16)
                except ValueError:
                    continue
                if db.execute("SELECT 1 FROM file WHERE id = ?", (content,)).fetchone() is None:
                    (folder / name).unlink(missing_ok=True)
                    removed += 1
            if block != last:
                db.execute("UPDATE block SET open = 0 WHERE id = ?", (block,))
        return removed

    def remove_garbage(self) -> None:
        """Start unlinking what no object refers to any more, unless that is under way."""
        if self._removing is None or self._removing.done():
            self._removing = asyncio.ensure_future(self._remove_garbage())

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
            self.path(content).unlink(missing_ok=True)

    async def close(self) -> None:
        """Wait for removals and preparations under way."""
        for future in (self._removing, self._spare):
            if future is not None:
                await asyncio.gather(future, return_exceptions=True)


def _forget(ids: list[int]) -> Callable[[Transaction], None]:
    def change(tx: Transaction) -> None:
        for content in ids:
            tx.execute("DELETE FROM garbage WHERE id = ?", (content,))

    return change
