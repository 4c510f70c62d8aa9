"""Work files: content that grows over several requests (append sessions) before it becomes an object.

A work file survives restarts, and belongs to whoever holds its lock. Its bytes never change behind the back of somebody who was told
that they are there, unless he appends something else at an earlier place himself.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from aistore.server.store.content import full_or
from aistore.server.store.sync import sync_file, sync_folder
from aistore.wire.ids import new_letters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aistore.server.store.content import ContentFiles, Upload
    from aistore.server.store.pieces import PieceSums

__all__ = ["KEPT", "WorkBusy", "WorkFiles", "WorkGone", "put_at", "unnamed_file"]

KEPT: Final = "kept-"
"""What names of files begin with that a running job keeps: content that it goes on reading when the object is changed."""

_KEPT_SECONDS: Final = 24 * 3600.0
_PIECE: Final = 1 << 20


class WorkGone(Exception):
    """There is no such work file (any more), or it is shorter than it has to be."""


class WorkBusy(Exception):
    """Another request works on this file at this moment."""


def unnamed_file(folder: Path) -> int:
    """A descriptor of a new, empty file in a folder of work files, which is made too: the file is gone with it (blocking). Raises `StoreFull`."""
    path = folder / f"{KEPT}{new_letters()}"  # should its name stay, the next start removes it
    fd = -1
    try:
        folder.mkdir(exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        path.unlink()
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise full_or(error) from error
    return fd


class WorkFiles:
    """The folder of work files. All methods block, `open` but for an instant."""

    def __init__(self, root: Path, content: ContentFiles) -> None:
        self.root = root
        self._content = content

    def start(self, data: bytes | None, fd: int, sums: PieceSums) -> str:
        """A new work file that begins with `data`, or with what lies in `fd`, which `sums` are made of; its name. Raises `StoreFull`."""
        name = f"append-{new_letters()}"
        path = self.root / name
        try:
            is_first = not self.root.exists()
            self.root.mkdir(exist_ok=True)
            with path.open("xb", buffering=0) as work:
                if data is not None:
                    write_all(work.fileno(), data)
                    sums.update(data)
                while data is None and (piece := os.pread(fd, _PIECE, sums.size)):
                    write_all(work.fileno(), piece)
                    sums.update(piece)
                if self._content.durability == "strict":
                    sync_file(work.fileno())
                    sync_folder(self.root)
                    if is_first:
                        sync_folder(self.root.parent)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise full_or(error) from error
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return name

    def exists(self, name: str) -> bool:
        """Whether there is such a work file."""
        return (self.root / name).exists()

    @contextmanager
    def open(self, name: str, size: int) -> Iterator[int]:
        """A descriptor of a work file of at least `size` bytes. Raises `WorkGone`, `WorkBusy`."""
        with _locked(self.root / name) as fd:
            there = os.fstat(fd)
            if there.st_size < size:
                raise WorkGone(name)
            if there.st_nlink > 1:  # who flushed it has died, before or after the commit: that is found out in a moment
                raise WorkBusy(name)
            yield fd

    def give_to(self, upload: Upload, name: str, size: int) -> None:
        """Make a work file's first `size` bytes those of an upload, and finish that. The file stays, so that nothing is lost if that fails.

        Until `remove` both are one file under two names. Raises `StoreFull`.
        """
        path = self.root / name
        try:
            os.close(upload.fd)
            upload.fd = -1
            os.truncate(path, size)
            upload.path.unlink()
            try:
                os.link(path, upload.path)
            except OSError:  # a file system without hard links
                shutil.copyfile(path, upload.path)
            upload.fd = os.open(upload.path, os.O_RDWR | os.O_CLOEXEC)
            upload.size = os.fstat(upload.fd).st_size
        except OSError as error:
            raise full_or(error) from error
        upload.finish()

    def remove(self, name: str) -> None:
        """The content has found its place."""
        (self.root / name).unlink(missing_ok=True)

    def recover(self) -> None:
        """Remove work files whose content is that of an object: a crash came before `remove`. Comes after the content's recovery.

        What jobs had kept for themselves goes too: they ended with their process.
        """
        for path in self._all():
            if path.name.startswith(KEPT) or path.stat().st_nlink > 1:
                path.unlink()

    def recover_beside_others(self) -> None:
        """The same for a process that died, while others work and jobs keep what they need."""
        for path in self._all():
            with suppress(FileNotFoundError, WorkGone, WorkBusy):
                if path.stat().st_nlink > 1 and not path.name.startswith(KEPT):
                    with _locked(path) as fd:  # who still flushes it holds it, and removes it
                        if self._content.has(os.fstat(fd)):
                            path.unlink()

    def remove_stale(self) -> None:
        """Remove work files that nobody has touched for a day."""
        limit = time.time() - _KEPT_SECONDS
        for path in self._all():
            try:
                if not path.name.startswith(KEPT) and path.stat().st_mtime < limit:
                    path.unlink()
            except FileNotFoundError:
                continue

    def _all(self) -> list[Path]:
        return list(self.root.iterdir()) if self.root.is_dir() else []


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """A descriptor of a work file that nobody else works on. Raises `WorkGone`, `WorkBusy`."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise WorkGone(path.name) from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorkBusy(path.name) from None
        # Between opening and locking it may have become an object's content, which nobody may write to.
        if not path.exists():
            raise WorkGone(path.name)
        yield fd
    finally:
        os.close(fd)


def put_at(fd: int, at: int, data: bytes | memoryview) -> None:
    """Write `data` at a place (blocking). Raises `StoreFull`.

    Bytes that are there already stay, and what follows them: a request that was repeated may come again when the session is further.
    """
    there = os.pread(fd, len(data), at)
    if there == data:
        return
    if data[: len(there)] != there:
        os.ftruncate(fd, at)
        there = b""
    os.lseek(fd, at + len(there), os.SEEK_SET)
    write_all(fd, memoryview(data)[len(there) :])


def write_all(fd: int, data: bytes | bytearray | memoryview) -> int:
    """Write all of it (blocking); the number of bytes. Raises `StoreFull`."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        raise full_or(error) from error
    return len(data)
