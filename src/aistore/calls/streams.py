"""Content on its way, from some byte on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from aistore.calls.integrity import stated_checksum
from aistore.calls.selection import attributes_of, fetch
from aistore.calls.steps import do
from aistore.wire import headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aistore.calls.selection import Selection
    from aistore.calls.steps import Answer, Steps, StreamedAnswer

__all__ = ["AnswerStream", "ChunkStream", "ContentStream", "Edition", "is_another", "open_stream"]

_VERSION = headers.VERSION.lower()
_PARTIAL = 206


class Edition(NamedTuple):
    """What tells one edition of an object from another that overwrote it; None where an answer does not say."""

    version: str | None
    size: int | None
    checksum: str | None = None

    @classmethod
    def of_part(cls, answer: Answer) -> Edition:
        """The edition that an answer of status 206 is a part of."""
        fields = answer.head.headers
        total = fields.get("content-range", "").rpartition("/")[2]
        size = int(total) if total.isdigit() else None
        return cls(fields.get(_VERSION), size, stated_checksum(answer)[1] or None)


def is_another(selection: Selection, found: Edition, known: Edition) -> Steps[bool]:
    """Whether an answer is of another edition than the one known.

    Version and size may be equal by chance: an object that was deleted and stored again starts at version 1. Then the checksums tell,
    unless answers carry that of their own part (bucket property `checksum.enable_read_range`), which HEAD never does.
    """
    pairs = list(zip(found, known, strict=True))
    if any(a is not None and b is not None and a != b for a, b in pairs[:2]):
        return True
    if found.checksum is None or known.checksum is None or found.checksum == known.checksum:
        return False
    stored = yield from attributes_of(selection, "checksum")
    return stored.checksum_value == found.checksum


class ContentStream(Protocol):
    """Content on its way, from some byte on."""

    start: int
    """Position of the first byte."""
    end: int | None
    """Position behind the last byte, if that is known."""
    edition: Edition
    checksum: tuple[str, str]
    """Type and value of the checksum of what the stream carries if it starts at 0; empty if there is none."""

    def read(self, size: int) -> Steps[bytes]:
        """`size` bytes, fewer only before the end or a failure, which the next call raises."""
        ...

    def readinto(self, view: memoryview) -> Steps[int]:
        """Fill `view` as far as bytes are there; 0 at the end."""
        ...

    def close(self) -> None:
        """Give up the rest."""
        ...


class AnswerStream:
    """The body of an answer to a GET that asked for the content from `offset` on."""

    __slots__ = ("_answer", "checksum", "edition", "end", "start")

    def __init__(self, answer: StreamedAnswer, offset: int) -> None:
        self._answer = answer
        length = answer.head.headers.length
        partial = answer.status == _PARTIAL
        # A server that ignores ranges begins at the beginning.
        self.start = offset if partial else 0
        self.end = self.start + length if length >= 0 else None
        self.checksum = ("", "") if partial else stated_checksum(answer)
        version = answer.head.headers.get(_VERSION)
        self.edition = Edition.of_part(answer) if partial else Edition(version, self.end, self.checksum[1] or None)

    def read(self, size: int) -> Steps[bytes]:
        return do(self._answer.read, size)

    def readinto(self, view: memoryview) -> Steps[int]:
        return do(self._answer.readinto, view)

    def close(self) -> None:
        self._answer.close()


def open_stream(selection: Selection, offset: int, end: int | None) -> Steps[AnswerStream]:
    """The content from byte `offset` on, up to and including byte `end`."""
    answer = yield from fetch(selection, True, offset, end)
    return AnswerStream(answer, offset)


class ChunkStream:
    """Chunks, from byte `start` to the one before `end`, as a stream; `checksum` is that of the whole object."""

    __slots__ = ("_next_chunk", "_rest", "checksum", "close", "edition", "end", "start")

    def __init__(
        self,
        next_chunk: Callable[[], bytes | Awaitable[bytes]],
        close: Callable[[], None],
        start: int,
        end: int,
        edition: Edition,
        checksum: tuple[str, str],
    ) -> None:
        self._next_chunk = next_chunk
        self._rest = memoryview(b"")
        self.close = close
        self.start = start
        self.end: int | None = end
        self.edition = edition
        self.checksum = checksum

    def readinto(self, view: memoryview) -> Steps[int]:
        if not self._rest:
            self._rest = memoryview((yield from do(self._next_chunk)))
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def read(self, size: int) -> Steps[bytes]:
        found = bytearray(size)
        with memoryview(found) as view:
            filled = 0
            while filled < size and (count := (yield from self.readinto(view[filled:]))):
                filled += count
        del found[filled:]
        return bytes(found)
