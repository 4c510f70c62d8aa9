"""The answer to a request, with its body still on the connection or already here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from aistore.transport.url import shown_url

if TYPE_CHECKING:
    from aistore.http1.head import Headers as ParsedHeaders
    from aistore.http1.head import ResponseHead
    from aistore.http1.payload import BytesLike
    from aistore.transport.request import Request
    from aistore.transport.url import Origin

__all__ = ["BaseResponse", "BodySource", "Headers", "Response", "Sink", "StreamConsumed"]


class Headers(Mapping[str, str]):
    """Header fields of an answer; names compare without case, repeated lines are joined by ", "."""

    __slots__ = ("_fields",)

    def __init__(self, fields: ParsedHeaders) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def lines(self, name: str) -> list[str]:
        """The values of `name`, one for each line in which it occurred."""
        return self._fields.lines(name.lower())

    def __repr__(self) -> str:
        return f"Headers({dict(self._fields)!r})"


class BodySource(Protocol):
    """The rest of a body: reads, raises `TransportError`, and gives its connection back when it is done."""

    touched: bool

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer only before the end or a failure."""
        ...

    def readinto(self, view: memoryview) -> int:
        """Fill `view`; 0 at the end."""
        ...

    def read_some(self) -> bytes:
        """The next bytes as soon as any are there; empty at the end."""
        ...

    def read_rest(self) -> bytes:
        """All that is still to come."""
        ...

    def close(self) -> None:
        """Give up the rest."""
        ...


class Sink(Protocol):
    """What a body can be written to."""

    def write(self, data: BytesLike, /) -> object:
        """Take all of `data`."""
        ...


class _Memory:
    """A body that is here already."""

    __slots__ = ("_at", "_data", "touched")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.touched = True

    def read(self, size: int) -> bytes:
        data = self._data[self._at : self._at + size]
        self._at += len(data)
        return data

    def readinto(self, view: memoryview) -> int:
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read_some(self) -> bytes:
        return self.read(len(self._data))

    def read_rest(self) -> bytes:
        return self.read(len(self._data))

    def close(self) -> None:
        self._at = len(self._data)


class StreamConsumed(RuntimeError):
    """The body was already read as a stream, or closed."""


class BaseResponse:
    """Status and headers of an answer."""

    __slots__ = ("_content", "_headers", "_origin", "_target", "head", "request", "status")

    def __init__(self, request: Request, origin: Origin, target: str, head: ResponseHead) -> None:
        self.request = request
        self.head = head
        self.status = head.status
        self._origin = origin
        self._target = target
        self._headers: Headers | None = None
        self._content: bytes | None = None

    @property
    def reason(self) -> str:
        """The phrase behind the status."""
        return self.head.reason

    @property
    def headers(self) -> Headers:
        """Header fields, by name without regard to case."""
        if self._headers is None:
            self._headers = Headers(self.head.headers)
        return self._headers

    @property
    def url(self) -> str:
        """The URL that answered, after redirects, as it may be shown."""
        return shown_url(self._origin, self._target)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status} {self.request.method} {self.url}>"


class Response(BaseResponse):
    """An answer, with its body here or still on its way; a body can be read once as a stream, or kept whole as `content`.

    Read it to the end or close it: until then it holds a connection, and an early close costs that connection.
    """

    __slots__ = ("_source",)

    def __init__(
        self, request: Request, origin: Origin, target: str, head: ResponseHead, body: bytes | BodySource
    ) -> None:
        super().__init__(request, origin, target, head)
        self._source: BodySource | None = None
        if isinstance(body, bytes):
            self._content = body
        else:
            self._source = body

    @property
    def content(self) -> bytes:
        """The whole body. `StreamConsumed` if it was read as a stream or closed, `TransportError` if it is cut."""
        if self._content is None:
            source = self._source
            if source is None or source.touched:
                raise StreamConsumed("the body was read as a stream or closed; request it again")
            self._content = source.read_rest()
            self._source = None
        return self._content

    def read(self, n: int = -1) -> bytes:
        """The next `n` bytes of the body, by default all the rest; empty at the end. Raises `TransportError` where the body is cut."""
        source = self._stream()
        return source.read_rest() if n < 0 else source.read(n)

    def readinto(self, view: memoryview) -> int:
        """Fill `view` (of bytes) with the next part of the body; fewer only before the end or a failure, 0 at the end."""
        return self._stream().readinto(view)

    def read_some(self) -> bytes:
        """The next bytes of the body as soon as any are there; empty at the end. Raises `TransportError` where the body is cut."""
        return self._stream().read_some()

    def chunks(self, size: int) -> Iterator[bytes]:
        """The body in pieces of `size` bytes, the last one shorter. Leaving the loop early closes the connection."""
        if size <= 0:
            raise ValueError(f"chunk size {size} is not positive")
        source = self._stream()
        try:
            while data := source.read(size):
                yield data
        finally:
            self.close()

    def copy_to(self, file: Sink, size: int = 1024 * 1024) -> int:
        """Write the rest of the body to `file` through one buffer of `size` bytes; returns the number of bytes."""
        source = self._stream()
        total = 0
        with memoryview(bytearray(size)) as buffer:
            while count := source.readinto(buffer):
                file.write(buffer[:count])
                total += count
        return total

    def close(self) -> None:
        """Give up what was not read."""
        if self._source is not None:
            self._source.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stream(self) -> BodySource:
        if self._source is None:
            self._source = _Memory(self._content or b"")
        return self._source
