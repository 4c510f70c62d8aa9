"""Content into local files."""

from __future__ import annotations

import os
from io import BufferedRandom, BufferedWriter, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aistore.calls.steps import do, local

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aistore.calls.steps import Steps

__all__ = ["FileReader", "Writable", "copy", "download", "receive"]

_LARGE = 1024 * 1024
_SMALL = 256 * 1024


class Writable(Protocol):
    """What content can be copied to: a file that is open for writing, say."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Take bytes; a file that takes only a part of them returns how many."""
        ...


class FileReader(Protocol):
    """The file of a face, open for reading."""

    def read(self, size: int) -> bytes | Awaitable[bytes]:
        """The next bytes."""
        ...

    def readinto(self, buffer: memoryview) -> int | Awaitable[int]:
        """Fill a buffer."""
        ...


class PartialFile(Protocol):
    """A local file in the making."""

    def open(self) -> None:
        """Make it."""
        ...

    def write(self, data: memoryview, /) -> None:
        """Append to it."""
        ...

    def finish(self) -> None:
        """Give it its name: it is whole."""
        ...

    def abandon(self) -> None:
        """Remove it, unless it is finished."""
        ...


class _Partial:
    """A local file in the making, beside the one that it will become."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._target = Path(path)
        self._path = self._target.with_name(f".{self._target.name[:64]}.{os.urandom(6).hex()}.part")
        self._file: FileIO | None = None

    def open(self) -> None:
        self._file = FileIO(self._path, "x")

    def write(self, data: memoryview) -> None:
        assert self._file is not None  # opened first
        while data:
            data = data[self._file.write(data) :]

    def finish(self) -> None:
        self._close()
        self._path.replace(self._target)

    def abandon(self) -> None:
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()


def download(source: FileReader, path: str | os.PathLike[str]) -> Steps[int]:
    """Copy `source` to a file beside `path` and move it there when it is complete; returns its number of bytes."""
    return receive(source, _Partial(path))


def receive(source: FileReader, partial: PartialFile) -> Steps[int]:
    """Copy `source` to a file, which is finished when it is complete; returns its number of bytes."""
    total = 0
    try:
        yield from local(partial.open)
        buffer = memoryview(bytearray(_LARGE))
        while count := (yield from do(source.readinto, buffer)):
            yield from local(partial.write, buffer[:count])
            total += count
        yield from local(partial.finish)
    except BaseException:
        partial.abandon()
        raise
    return total


def copy(
    source: FileReader, writer: Writable, write: Callable[[bytes | memoryview], object | Awaitable[object]]
) -> Steps[int]:
    """Write the content to `writer`, by its `write` as the face calls it; returns its number of bytes."""
    total = 0
    # Files of the standard library keep nothing of what they are given, so one buffer, small enough for the cache, serves all pieces.
    buffer = memoryview(bytearray(_SMALL)) if type(writer) in (BufferedWriter, FileIO, BufferedRandom) else None
    while True:
        piece: bytes | memoryview
        if buffer is None:
            piece = yield from do(source.read, _SMALL)
        else:
            count = yield from do(source.readinto, buffer)
            piece = buffer[:count]
        if not piece:
            return total
        total += len(piece)
        # Unbuffered files may take a part of it.
        while isinstance(taken := (yield from do(write, piece)), int) and taken < len(piece):
            piece = piece[taken:]
