"""The folder that files are promoted from (protocol/20 12.1). All of it blocks.

Folders are opened one by one from the root on, by descriptor and without following links: who may write to a folder there must not make the
server read, or remove, what lies elsewhere by putting a link in its place at the right moment.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aistore.wire.names import MAX_OBJECT_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PromoteRoot", "open_regular"]

# A link must not lead out of the folder that files are taken from, and a pipe must not hold the server up.
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def open_regular(path: str, folder: int | None = None) -> tuple[int, os.stat_result]:
    """A descriptor of a regular file, and its status; `folder` is one of what the path begins from. Raises `OSError`."""
    fd = os.open(path, _OPEN, dir_fd=folder)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd, status


class PromoteRoot:
    """A folder, whose files are named by their whole paths. What does not lie in it without links on the way is an `OSError`."""

    def __init__(self, path: str) -> None:
        self.path = path

    def open(self, path: str) -> tuple[int, os.stat_result]:
        """A descriptor of a regular file, and its status. Raises `OSError`."""
        with self._above(path) as (folder, name):
            return open_regular(name, folder)

    def is_file(self, path: str) -> bool:
        """Whether a path names a regular file, and not a folder. Raises `FileNotFoundError`; `OSError` for what is neither."""
        with self._above(path) as (folder, name):
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, "neither a regular file nor a directory", path)
        return stat.S_ISREG(mode)

    def files_in(self, folder: str, *, recursive: bool) -> list[tuple[str, str]]:
        """Regular files of a folder, sorted: path, and path below the folder. Links are not followed. Raises `OSError`."""
        found: list[tuple[str, str]] = []
        left = [""]
        while left:
            below = left.pop()
            if len(below) > MAX_OBJECT_NAME:
                raise OSError(errno.ENAMETOOLONG, "no object can have such a name", f"{folder}/{below[:100]}...")
            fd = self._folder(self._parts(folder) + self._parts(below))
            try:
                with os.scandir(fd) as entries:
                    for entry in entries:
                        if entry.is_file(follow_symlinks=False):
                            found.append((f"{folder.rstrip('/')}/{below}{entry.name}", below + entry.name))
                        elif recursive and entry.is_dir(follow_symlinks=False):
                            left.append(f"{below}{entry.name}/")
            finally:
                os.close(fd)
        return sorted(found)

    def remove(self, path: str, taken: os.stat_result) -> None:
        """Remove a file that was `taken`. Raises `OSError` if there is another one in its place, or it has changed since."""
        with self._above(path) as (folder, name):
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if _version(there) != _version(taken):
                raise OSError(errno.EBUSY, "it changed while it was promoted, and stays", path)
            os.unlink(name, dir_fd=folder)

    def _parts(self, path: str) -> list[str]:
        return [part for part in path.removeprefix(self.path.rstrip("/")).split("/") if part]

    @contextmanager
    def _above(self, path: str) -> Iterator[tuple[int, str]]:
        """A descriptor of the folder that a file lies in, and the file's name there."""
        parts = self._parts(path)
        try:
            fd = self._folder(parts[:-1])
            try:
                yield fd, parts[-1] if parts else "."
            finally:
                os.close(fd)
        except OSError as error:
            error.filename = path  # else it is only the part that failed
            raise

    def _folder(self, parts: list[str]) -> int:
        fd = os.open(self.path, _FOLDER)
        try:
            for part in parts:
                below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = below
        except BaseException:
            os.close(fd)
            raise
        return fd


def _version(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
