"""An object's content, as a transformer is given it: bytes in a request, or the path of a file."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
from typing import TYPE_CHECKING, Final

from aistore.http1.payload import BytesPayload, FilePayload, Payload
from aistore.server.store.content import in_thread
from aistore.server.store.page_cache import read_if_in_memory
from aistore.server.store.verifying import open_verified

if TYPE_CHECKING:
    from pathlib import Path

    from aistore.server.store.rows import Bucket, ObjectRow
    from aistore.server.store.store import Store

__all__ = ["Source"]

_NAME_MAX: Final = 255  # bytes of one name in a folder
_READ_ONLY: Final = 0o400
_COPIED_AT_ONCE: Final = 1 << 30
_numbers = itertools.count()


class Source:
    """The content of one version of an object; whoever opens one closes it."""

    def __init__(self, row: ObjectRow, fd: int) -> None:
        self.size = row.size
        self._row = row
        self._file = os.fdopen(fd, "rb") if fd >= 0 else None
        self._folder: Path | None = None
        self._linked: os.stat_result | None = None

    @classmethod
    async def open(cls, store: Store, bucket: Bucket, row: ObjectRow) -> Source | None:
        """The current content of an object; None if it is gone. Raises `ContentDamaged`."""
        if row.data is not None:
            return cls(row, -1)
        current = await open_verified(store, bucket, row)
        return cls(*current) if current is not None else None

    @property
    def in_file(self) -> bool:
        """Whether it lies in a file of its own."""
        return self._file is not None

    def payload(self) -> Payload:
        """The content as the body of a request, from its start."""
        if self._file is None:
            return BytesPayload(self._row.data or b"")
        # A file is read in a thread, which costs more than reading a small one.
        data = read_if_in_memory(self._file.fileno(), 0, self.size)
        if data is not None:
            return BytesPayload(data)
        self._file.seek(0)
        return FilePayload(self._file)

    async def expose(self, store: Store, folder: Path, name: str, *, link: bool) -> Path | None:
        """A file below `folder` with this content, and with the last part of the object's name; None if no file can have such a name.

        `link`: it may be the content file itself, which nobody writes to who has no right to (a mode that root does not care about).
        """
        base = name.rpartition("/")[2]
        if len(base.encode("utf-8", "surrogateescape")) > _NAME_MAX:
            return None
        self._folder = folder / str(next(_numbers))
        path = self._folder / base
        self._folder.mkdir()
        if self._file is None:
            path.write_bytes(self._row.data or b"")
            return path
        if link:
            with contextlib.suppress(OSError):  # replaced meanwhile, or a file system without links or modes
                os.link(store.content.path(self._row.content), path)
                path.chmod(_READ_ONLY)
                self._linked = os.fstat(self._file.fileno())
                return path
        await in_thread(self._copy, path)
        return path

    @property
    def is_damaged(self) -> bool:
        """Whether the content was written to while it was exposed."""
        if self._linked is None or self._file is None:
            return False
        now = os.fstat(self._file.fileno())
        return (now.st_size, now.st_mtime_ns) != (self._linked.st_size, self._linked.st_mtime_ns)

    def _copy(self, path: Path) -> None:
        """Copy the content; a file system that can shares its blocks until one of them is written."""
        assert self._file is not None
        done, source = 0, self._file.fileno()
        path.unlink(missing_ok=True)  # never into a link to the content
        with path.open("xb") as out:
            with contextlib.suppress(OSError, AttributeError):  # Linux, and not every file system
                while count := os.copy_file_range(source, out.fileno(), _COPIED_AT_ONCE, done, done):
                    done += count
            self._file.seek(done)
            out.seek(done)
            shutil.copyfileobj(self._file, out, 1 << 20)

    def close(self) -> None:
        """Forget it; what it exposed is removed."""
        if self._file is not None:
            self._file.close()
        if self._folder is not None:
            if self.size > 64 << 20:  # the last link of a large file takes a while
                asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, self._folder, True)
            else:
                shutil.rmtree(self._folder, ignore_errors=True)
