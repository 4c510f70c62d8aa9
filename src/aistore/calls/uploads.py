"""Content on its way to the cluster: what callers may hand over, and its checksum, computed while it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from io import BufferedReader, BytesIO, FileIO
from typing import TYPE_CHECKING, Protocol

from aistore.calls.integrity import LONG, Hasher, check_stored, check_stored_digest
from aistore.calls.objects import put
from aistore.calls.steps import local

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aistore.calls.steps import Answer, Steps
    from aistore.http1.payload import Body, BytesLike

__all__ = ["Outgoing", "outgoing", "store"]


class Outgoing(Protocol):
    """A body, and the check of what the cluster made of it."""

    @property
    def body(self) -> Body:
        """What is sent."""
        ...

    def check(self, answer: Answer) -> None:
        """Raise `ErrBadChecksum` if the cluster says it stored something else."""
        ...


def store(path: str, query: str, content: object, custom_metadata: Mapping[str, str] | None = None) -> Steps[Answer]:
    """Store `content` as an object, and compare the checksum of what was stored with that of what was sent."""
    sent = outgoing(content)
    answer = yield put(path, query, sent.body, custom_metadata)
    if isinstance(sent, _Bytes) and len(sent.body) > LONG:
        yield from local(sent.check, answer)
    else:
        sent.check(answer)
    return answer


def outgoing(content: object) -> Outgoing:
    """How `content` is sent: anything with the buffer protocol, text (as UTF-8), a binary file from its position on, or an iterable of
    bytes. Raises TypeError for anything else.
    """
    if isinstance(content, (bytes, bytearray)):
        return _Bytes(content)
    if isinstance(content, str):
        return _Bytes(content.encode())
    try:
        view = memoryview(content)  # type: ignore[arg-type]  # what has no buffer is told apart by the TypeError
    except TypeError:
        if hasattr(content, "read"):
            return _File(content)
        if isinstance(content, Iterable):
            return _Pieces(content)
        if isinstance(content, AsyncIterable):
            return _AsyncPieces(content)
        raise TypeError(
            f"content must be bytes-like, text, a binary file or an iterable of bytes, not {type(content).__name__}"
        ) from None
    return _Bytes(view.cast("B") if view.c_contiguous else view.tobytes())


class _Bytes:
    __slots__ = ("body",)

    def __init__(self, body: BytesLike) -> None:
        self.body = body

    def check(self, answer: Answer) -> None:
        check_stored(answer, self.body)


class _Hashed:
    """Content that passes by once, or is started again by the transport."""

    __slots__ = ("_hasher",)

    def __init__(self) -> None:
        self._hasher: Hasher = _new_hasher()

    def check(self, answer: Answer) -> None:
        check_stored_digest(answer, self._hasher.hexdigest())


class _File(_Hashed):
    __slots__ = ("_file", "_start", "readinto")

    def __init__(self, file: object) -> None:
        super().__init__()
        self._file: _ReadableFile = file  # type: ignore[assignment]  # it has `read`; what it lacks is found out by those who try
        self._start: int | None = None
        if type(file) in (BufferedReader, FileIO, BytesIO):
            self.readinto = self._readinto

    @property
    def body(self) -> Body:
        return self

    def read(self, size: int, /) -> bytes:
        """Read on."""
        data = self._file.read(size)
        # Anything but bytes is refused by the transport, which knows how to say it.
        if isinstance(data, (bytes, bytearray, memoryview)):
            self._hasher.update(data)
        return data

    def _readinto(self, buffer: memoryview) -> int:
        count: int = self._file.readinto(buffer)
        self._hasher.update(buffer[:count])
        return count

    def tell(self) -> int:
        """Position in the file; the first answer is where the content starts."""
        position = self._file.tell()
        if self._start is None:
            self._start = position
        return position

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move; back at the start, the checksum starts again."""
        position = self._file.seek(offset, whence)
        if position == self._start:
            self._hasher = _new_hasher()
        return position


class _Pieces(_Hashed):
    __slots__ = ("_source",)

    def __init__(self, source: Iterable[BytesLike]) -> None:
        super().__init__()
        self._source = source

    @property
    def body(self) -> Body:
        # An iterator passes by once, and must look like that to the transport.
        return self._pass() if isinstance(self._source, Iterator) else self

    def __iter__(self) -> Iterator[BytesLike]:
        return self._pass()

    def _pass(self) -> Iterator[BytesLike]:
        self._hasher = hasher = _new_hasher()
        for piece in self._source:
            if isinstance(piece, (bytes, bytearray, memoryview)):
                hasher.update(piece)
            yield piece


class _AsyncPieces(_Hashed):
    """The same for what only the asyncio transport can send."""

    __slots__ = ("_source",)

    def __init__(self, source: AsyncIterable[BytesLike]) -> None:
        super().__init__()
        self._source = source

    @property
    def body(self) -> Body:
        return self._pass() if isinstance(self._source, AsyncIterator) else self

    def __aiter__(self) -> AsyncIterator[BytesLike]:
        return self._pass()

    async def _pass(self) -> AsyncIterator[BytesLike]:
        self._hasher = hasher = _new_hasher()
        async for piece in self._source:
            if isinstance(piece, (bytes, bytearray, memoryview)):
                hasher.update(piece)
            yield piece


class _ReadableFile(Protocol):
    def read(self, size: int, /) -> bytes: ...

    def readinto(self, buffer: memoryview, /) -> int: ...

    def tell(self) -> int: ...

    def seek(self, offset: int, whence: int, /) -> int: ...


def _new_hasher() -> Hasher:
    # What nearly all buckets have; the checksum of another type cannot be compared.
    from xxhash import xxh64

    hasher: Hasher = xxh64()
    return hasher
