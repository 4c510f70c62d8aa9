"""Request bodies: what a caller may hand over, how long it is, and whether it can be sent a second time. No I/O with the network."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from aistore.http1.failures import BodySourceChanged

if TYPE_CHECKING:
    from typing import TypeAlias

__all__ = [
    "EXPECT_FROM",
    "Body",
    "BytesLike",
    "BytesPayload",
    "FilePayload",
    "IterablePayload",
    "Payload",
    "Readable",
    "as_payload",
]

EXPECT_FROM: Final = 256 * 1024
"""Bodies longer than this, or of unknown length, wait for the server's `100 Continue`.

A gateway of the reference answers with a redirect from the head alone, reads at most 256 KiB of the unread body and then closes, which
may destroy its answer.
"""

EXPECT_WAIT: Final = 1.0
"""Seconds to wait for `100 Continue` before the body is sent anyway (RFC 9110 10.1.1 wants the wait bounded)."""

PIECE: Final = 1024 * 1024
"""Bytes read from a file at a time."""

WINDOW: Final = 256 * 1024
"""Bytes of the one buffer that a file passes through where that is possible: small enough to stay in the processor's cache."""

BytesLike: TypeAlias = bytes | bytearray | memoryview


@runtime_checkable
class Readable(Protocol):
    """Anything with `read(n)` that gives bytes."""

    def read(self, n: int, /) -> bytes:
        """Up to `n` bytes, empty at the end."""
        ...


Body: TypeAlias = BytesLike | Readable | Iterable[BytesLike] | AsyncIterable[BytesLike] | None
"""What a request may carry; an asynchronous iterable only in the asyncio client."""


class Payload:
    """A body on its way: `length` is None when nobody knows it (it is then sent chunked)."""

    length: int | None
    started = False
    """True once a piece of a body that has a position was taken: sending it again then needs `rewind`."""

    def pieces(self) -> Iterator[BytesLike]:
        """The body from its start, in pieces."""
        raise NotImplementedError

    def rewind(self) -> bool:
        """Go back to the start; False if this body can be sent only once."""
        raise NotImplementedError


class BytesPayload(Payload):
    """Bytes in memory, sent as they are."""

    def __init__(self, data: BytesLike) -> None:
        view = memoryview(data)
        self.view = view if view.format == "B" and view.ndim == 1 else view.cast("B")
        self.length: int = self.view.nbytes

    def pieces(self) -> Iterator[BytesLike]:
        yield self.view

    def rewind(self) -> bool:
        return True


class FilePayload(Payload):
    """An open file or stream, sent from its current position to its end."""

    def __init__(self, file: Readable) -> None:
        self.file = file
        self.descriptor = -1
        """Descriptor for `sendfile`, or -1: only a plain binary file's content is what its descriptor reads."""
        self._start = _tell(file)
        self.length = self._measure()

    def _measure(self) -> int | None:
        if self._start is None:
            return None
        file = self.file
        if type(file) in (io.BufferedReader, io.FileIO):
            descriptor = file.fileno()  # type: ignore[attr-defined]  # both types have it
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                self.descriptor = descriptor
                return max(0, status.st_size - self._start)
        try:
            end = file.seek(0, os.SEEK_END)  # type: ignore[attr-defined]  # a seekable stream, see _tell
            file.seek(self._start)  # type: ignore[attr-defined]  # as above
        except (OSError, ValueError):
            return None
        return max(0, int(end) - self._start)

    @property
    def offset(self) -> int:
        """Where in the file the body starts."""
        return self._start or 0

    def sent_by_descriptor(self, count: int) -> None:
        """`sendfile` does not move the position that readers of the file see: leave it behind the body, as reading would."""
        self.file.seek(self.offset + count)  # type: ignore[attr-defined]  # descriptor >= 0 means a seekable file

    def pieces(self) -> Iterator[BytesLike]:
        return self._pieces(lambda wanted: self.file.read(min(wanted, PIECE)))

    def passing_pieces(self) -> Iterator[BytesLike]:
        """The same, where each piece is done with before the next one is asked for: they share one buffer."""
        file = self.file
        # A class of a user's that changes `read` of one of the standard library's inherits a `readinto` that knows nothing of it.
        standard = type(file) in (io.BufferedReader, io.FileIO, io.BytesIO)
        readinto = getattr(file, "readinto", None) if standard or not isinstance(file, io.IOBase) else None
        if readinto is None:
            return self.pieces()
        window = memoryview(bytearray(WINDOW))

        def read(wanted: int) -> BytesLike:
            count = readinto(window[:wanted])
            if not isinstance(count, int):
                raise TypeError("the file to send gives nothing to read: it must be a blocking binary file")
            return window[:count]

        return self._pieces(read)

    def _pieces(self, read: Callable[[int], BytesLike]) -> Iterator[BytesLike]:
        self.started = True
        left = self.length
        while left is None or left > 0:
            piece = read(PIECE if left is None else left)
            if not isinstance(piece, (bytes, bytearray, memoryview)):
                raise TypeError(f"the file to send gives {type(piece).__name__}, not bytes: open it in binary mode")
            if not piece:
                if left is not None:
                    raise BodySourceChanged(
                        f"the file to send ended {left} bytes early: it was {self.length} bytes long when the request started"
                    )
                return
            if left is not None:
                left -= len(piece)
                if left < 0:
                    raise BodySourceChanged("the file to send gave more bytes than it was asked for")
            yield piece

    def rewind(self) -> bool:
        if not self.started:
            return True
        if self._start is None:
            return False
        try:
            self.file.seek(self._start)  # type: ignore[attr-defined]  # a seekable stream, see _tell
        except (OSError, ValueError):
            return False
        return True


class IterablePayload(Payload):
    """An iterable of bytes-like pieces of unknown total length; one that is no iterator can be sent again."""

    length = None

    def __init__(self, source: Iterable[BytesLike]) -> None:
        self._source = source

    def pieces(self) -> Iterator[BytesLike]:
        self.started = True
        for piece in self._source:
            if not isinstance(piece, (bytes, bytearray, memoryview)):
                raise TypeError(f"the iterable to send gives {type(piece).__name__}, not bytes")
            if piece:
                yield piece

    def rewind(self) -> bool:
        return not self.started or iter(self._source) is not self._source


class AsyncIterablePayload(Payload):
    """The same for an asynchronous iterable, which only the asyncio client can send."""

    length = None

    def __init__(self, source: AsyncIterable[BytesLike]) -> None:
        self.source = source

    def pieces(self) -> Iterator[BytesLike]:
        raise TypeError("an asynchronous iterable cannot be sent from blocking code, nor through a proxy")

    def rewind(self) -> bool:
        return not self.started or self.source.__aiter__() is not self.source


def as_payload(body: Body) -> Payload | None:
    """How `body` is sent; `TypeError` for what is no body (text among it: the protocol carries bytes)."""
    if body is None:
        return None
    if isinstance(body, (bytes, bytearray, memoryview)):
        return BytesPayload(body)
    if isinstance(body, str):
        raise TypeError("a request body must be bytes, not str: encode the text first")
    if isinstance(body, Readable):
        return FilePayload(body)
    try:
        return BytesPayload(memoryview(body))  # type: ignore[arg-type]  # arrays and others with the buffer protocol
    except TypeError:
        pass
    if isinstance(body, AsyncIterable):
        return AsyncIterablePayload(body)
    if isinstance(body, Iterable):
        return IterablePayload(body)
    raise TypeError(
        f"a request body must be bytes-like, a binary file or an iterable of bytes, not {type(body).__name__}"
    )


def _tell(file: Readable) -> int | None:
    """Position of a seekable stream, None for one that cannot go back."""
    try:
        position = file.tell()  # type: ignore[attr-defined]  # missing in a bare reader, caught below
        file.seek(position)  # type: ignore[attr-defined]  # as above; some pipes tell but do not seek
    except (AttributeError, OSError, ValueError):
        return None
    return int(position)
