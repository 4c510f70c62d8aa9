"""Local files on their way into objects: small ones at once, large ones in parts side by side."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from aistore.calls.multipart import MultipartState
from aistore.calls.steps import do, local
from aistore.calls.transfers import Failed
from aistore.calls.uploads import store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aistore.calls.steps import Steps
    from aistore.calls.transfers import Halt

    Opened = Callable[[], tuple[int, os.stat_result]]

__all__ = ["SMALL", "Together", "upload"]

SMALL: Final = 1 << 20
"""Bytes of a file that is read whole before it is sent."""

LARGE: Final = 256 << 20
"""Bytes from which a file is sent in parts, at most `_PARTS_MAX` of at least `_PART` bytes, and `_SIDE_BY_SIDE` of them at a time."""

_PART: Final = 32 << 20
_PARTS_MAX: Final = 9_000
_SIDE_BY_SIDE: Final = 4


class Together(Protocol):
    """How a face does several calls at once: all of them, at most `width` at a time, until one fails."""

    def __call__(self, calls: Sequence[Steps[None]], width: int) -> Awaitable[None] | None:
        """Do them; raises the first failure once the others have ended."""
        ...


def upload(path: str, query: str, opened: Opened, halt: Halt, together: Together) -> Steps[tuple[str, int]]:
    """Store a file, which `opened` opens, as the object at `path`; how that was done, and the number of its bytes."""
    found = yield from local(_read_small, opened)
    if isinstance(found, bytes):
        yield from store(path, query, found)
        return "put", len(found)
    fd, status = found
    try:
        if status.st_size < LARGE:
            yield from store(path, query, _Span(fd, 0, status.st_size, halt))
            return "put", status.st_size
        yield from _in_parts(path, query, fd, status, halt, together)
        return "multipart", status.st_size
    finally:
        os.close(fd)


def _read_small(opened: Opened) -> bytes | tuple[int, os.stat_result]:
    """The content of a small file, or what a large one is read from."""
    fd, status = opened()
    if status.st_size > SMALL:
        return fd, status
    try:
        content = os.read(fd, status.st_size + 1)
        if len(content) != status.st_size:
            raise Failed("it changed while it was read")
        return content
    finally:
        os.close(fd)


def _in_parts(path: str, query: str, fd: int, status: os.stat_result, halt: Halt, together: Together) -> Steps[None]:
    upload = _Parts(path, query)
    yield from upload.begin()
    try:
        size = max(_PART, -(-status.st_size // _PARTS_MAX))
        calls = [
            upload.part(number, _Span(fd, start, min(size, status.st_size - start), halt))
            for number, start in enumerate(range(0, status.st_size, size), 1)
        ]
        yield from do(together, calls, _SIDE_BY_SIDE)
        _check_unchanged(fd, status)
        yield from upload.complete()
    except GeneratorExit:
        raise
    except BaseException:
        yield from upload.give_up()
        raise


def _check_unchanged(fd: int, before: os.stat_result) -> None:
    now = os.fstat(fd)
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise Failed("it changed while it was read")


class _Parts(MultipartState):
    __slots__ = ()

    def begin(self) -> Steps[None]:
        return self._create()

    def part(self, number: int, content: _Span) -> Steps[None]:
        """The call that sends a part."""
        return self._send(self._part_query(number), content)

    def _send(self, query: str, content: _Span) -> Steps[None]:
        yield from store(self._path, query, content)

    def complete(self) -> Steps[None]:
        yield from self._complete()

    def give_up(self) -> Steps[None]:
        """Have the cluster drop the parts; if that fails too, it does so by itself after a while."""
        with suppress(Exception):  # what is told is why it is given up
            yield from self._abort()


class _Span:
    """A part of a file as a binary file: reads by position, so that many parts of one descriptor are read at once."""

    __slots__ = ("_at", "_end", "_fd", "_halt", "_start")

    def __init__(self, fd: int, start: int, length: int, halt: Halt) -> None:
        self._fd = fd
        self._start = self._at = start
        self._end = start + length
        self._halt = halt

    def read(self, size: int, /) -> bytes:
        """The next bytes; raises `Stopped` when the transfer is to end."""
        self._halt.check()
        data = _read_at(self._fd, max(0, min(size, self._end - self._at)), self._at)
        self._at += len(data)
        return data

    def tell(self) -> int:
        """Position in the part."""
        return self._at - self._start

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move."""
        self._at = offset + (self._start, self._at, self._end)[whence]
        return self.tell()


_moving = threading.Lock()


def _read_at(fd: int, size: int, position: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(fd, size, position)
    with _moving:  # Windows: parts of a file share its one position
        os.lseek(fd, position, os.SEEK_SET)
        return os.read(fd, size)
