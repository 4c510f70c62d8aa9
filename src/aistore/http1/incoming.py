"""A request as handlers see it, and its body while it arrives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from aistore.http1.chunked import ChunkedDecoder
from aistore.http1.failures import BadBody, BodyTooLong, MemoryFull
from aistore.http1.head import CHUNKED
from aistore.http1.message import BytesLike, parse_params, split_target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aistore.http1.head import RequestHead
    from aistore.http1.message import Params

__all__ = ["Body", "BrokenRequest", "Memory", "Request"]

_PIECE: Final = 64 * 1024
_CRUMB: Final = 64  # bytes of a chunk, on the average, below which taking chunks apart is what receiving them costs


class Link(Protocol):
    """What a request needs of its connection."""

    peer: str
    transport: asyncio.Transport
    memory: Memory

    @property
    def is_gone(self) -> bool:
        """Whether the client has closed the connection, or its side of it."""

    def want_body(self) -> None:
        """A handler waits for body bytes."""

    def had_body(self) -> None:
        """A handler has what it waited for."""


class Memory:
    """What all connections may hold in memory together, of request bodies or of answers."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def has_room(self, size: int) -> bool:
        """Whether `size` more bytes would be within the limit."""
        return self.used + size <= self.limit

    def take(self, size: int) -> bool:
        """Count `size` more bytes, if there is room."""
        if not self.has_room(size):
            return False
        self.used += size
        return True

    def give(self, size: int) -> None:
        """`size` bytes are free again."""
        self.used -= size


class BrokenRequest(ConnectionError):
    """The client went away, or broke the framing, before its request body was complete."""


class Request:
    """A request as handlers see it."""

    __slots__ = (
        "_connection",
        "began",
        "body",
        "content",
        "first_leg",
        "head",
        "headers",
        "id",
        "method",
        "path",
        "proof",
        "query",
        "raw_path",
        "user",
    )

    def __init__(self, head: RequestHead, content: bytes | None, body: Body | None, connection: Link) -> None:
        self.head = head
        self.method = head.method
        self.headers = head.headers
        self.path, self.raw_path, self.query = split_target(head.target)
        self.content = content
        """The whole body, if it was small; None if it has to be read from `body`."""
        self.body = body
        self.proof: object = None
        """What its body has to show while it is read, for its handler: set by who has checked its head."""
        self.first_leg = False
        """Whether the client sends the body, and whatever it announced of it, only where a redirect leads (protocol/00 9.5)."""
        self._connection = connection
        self.began: float
        """When its answer was begun, for services that note it (seconds of `time.perf_counter`)."""
        self.id: str
        """What it is called in logs, by services that give it a name."""
        self.user: str
        """Who sent it, where a service found that out by more than a token."""

    @property
    def received(self) -> int:
        """Bytes of the body that have come."""
        return len(self.content or b"") if self.body is None else self.body.came

    @property
    def params(self) -> Params:
        """Query parameters."""
        return parse_params(self.query)

    @property
    def peer(self) -> str:
        """Address of the client, `ip:port`."""
        return self._connection.peer

    @property
    def reached(self) -> str:
        """Address of the server that the client connected to, without port."""
        name = self._connection.transport.get_extra_info("sockname")
        return str(name[0]).removeprefix("::ffff:") if name else ""

    @property
    def is_abandoned(self) -> bool:
        """Whether the client has closed the connection, or its side of it, before the answer: for handlers that take long, or much, to make one."""
        return self._connection.is_gone

    def lines(self, name: str) -> list[str]:
        """Values of a header that may be repeated, one for each line."""
        return self.headers.lines(name)

    async def read(self, limit: int) -> bytes:
        """The whole body; `BodyTooLong` if it is longer than `limit` bytes."""
        if self.content is None:
            assert self.body is not None
            self.content = await self.body.read(limit)
        if len(self.content) > limit:
            raise BodyTooLong(f"request body is longer than {limit} bytes")
        return self.content


class Body:
    """A request body that is still arriving."""

    __slots__ = (
        "_buffered",
        "_connection",
        "_decoder",
        "_error",
        "_held",
        "_left",
        "_sink",
        "_sink_filled",
        "_waiter",
        "crumbs",
        "length",
    )

    def __init__(self, connection: Link, length: int, limit: int) -> None:
        self._connection = connection
        self.length: int | None = None if length == CHUNKED else length
        """Bytes announced, or None for a chunked body."""
        self.crumbs = length == CHUNKED
        """Whether it comes, as far as is known, in so many tiny chunks that little of it should be received at a time."""
        self._decoder = ChunkedDecoder(limit) if length == CHUNKED else None
        self._left = 0 if length == CHUNKED else length  # bytes not yet received (known length only)
        self._buffered: list[BytesLike] = []
        self._sink: memoryview | None = None
        self._sink_filled = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._held = 0

    def hold(self, wanted: int, least: int) -> int:
        """Count memory for this body until its handler has ended: `wanted` bytes, or `least` once half of it is in use. Raises `MemoryFull`."""
        memory = self._connection.memory
        size = wanted if memory.used + wanted <= memory.limit // 2 else least  # the rest is for many small ones
        if not memory.take(size):
            raise MemoryFull("too many request bodies are held in memory")
        self._held += size
        return size

    def release(self) -> None:
        """The handler has ended."""
        self._connection.memory.give(self._held)
        self._held = 0

    @property
    def came(self) -> int:
        """Bytes that were received, or announced by chunks."""
        return (self.length or 0) - self._left if self._decoder is None else self._decoder.total

    @property
    def complete(self) -> bool:
        """Whether all of it was received (not necessarily read)."""
        return self._decoder.done if self._decoder is not None else self._left == 0

    async def readinto(self, buffer: BytesLike) -> int:
        """Fill `buffer` unless the body ends before; the number of bytes put there, 0 at the end.

        Raises `BrokenRequest` if the client breaks off, `BodyTooLong` if its chunks exceed what the server takes.
        """
        view = memoryview(buffer)
        filled = self._take_buffered(view)
        while filled < len(view) and not self.complete:
            if self._error is not None:
                raise self._error
            self._sink, self._sink_filled = view, filled
            self._waiter = asyncio.get_running_loop().create_future()
            self._connection.want_body()
            try:
                await self._waiter
            finally:
                self._sink = self._waiter = None
                self._connection.had_body()
            filled = self._sink_filled
            filled += self._take_buffered(view[filled:])
        return filled

    async def chunks(self, size: int = 256 * 1024) -> AsyncIterator[memoryview]:
        """Successive pieces; each is valid until the next is asked for."""
        buffer = memoryview(bytearray(self.hold(size, min(size, _PIECE))))
        while n := await self.readinto(buffer):
            yield buffer[:n]

    async def read(self, limit: int) -> bytes:
        """The rest of the body; `BodyTooLong` if that is more than `limit` bytes."""
        if self.length is not None and self.length > limit:
            raise BodyTooLong(f"request body of {self.length} bytes is longer than {limit}")
        parts: list[bytes] = []
        total = 0
        async for piece in self.chunks(_PIECE):
            total += len(piece)
            if total > limit:
                raise BodyTooLong(f"request body is longer than {limit} bytes")
            self.hold(len(piece), len(piece))
            parts.append(bytes(piece))
        return b"".join(parts)

    # -- called by the connection ------------------------------------------------------------------------------

    @property
    def failed(self) -> bool:
        """Whether it will never be complete."""
        return self._error is not None

    @property
    def waited_for(self) -> bool:
        """Whether a handler waits for more than has come."""
        return self._waiter is not None and not self._waiter.done()

    def sink(self) -> memoryview | None:
        """Where the next bytes may be received without a copy, if somebody waits for them."""
        if self._sink is None or self._decoder is not None:
            return None
        end = min(len(self._sink), self._sink_filled + self._left)
        return self._sink[self._sink_filled : end]

    def received(self, count: int) -> None:
        """`count` bytes were received into `sink()`."""
        assert self._sink is not None
        self._sink_filled += count
        self._left -= count
        if self._left == 0 or self._sink_filled == len(self._sink):
            self._sink = None  # what comes before the handler runs again is no longer for its buffer
            self._wake()

    def feed(self, data: bytes) -> bytes:
        """Take bytes off the connection; returns those behind the end of the body."""
        if self._decoder is not None:
            try:
                pieces = self._decoder.feed(data)
            except BadBody as error:
                too_long = isinstance(error, BodyTooLong)
                self.fail(error if too_long else BrokenRequest(f"malformed chunked body: {error}"))
                raise
            self.crumbs = len(pieces) * _CRUMB > len(data)
            self._buffered.extend([b"".join(pieces)] if self.crumbs else pieces)
            rest = self._decoder.rest if self._decoder.done else b""
        else:
            piece, rest = data[: self._left], data[self._left :]
            self._left -= len(piece)
            if piece:
                self._buffered.append(piece)
        if self._buffered or self.complete:
            self._wake()
        return rest

    def discard(self) -> None:
        """Forget what was received and not read."""
        self._buffered.clear()

    def fail(self, error: Exception) -> None:
        """The body will not be completed."""
        if not self.complete and self._error is None:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _take_buffered(self, view: memoryview) -> int:
        filled = 0
        while self._buffered and filled < len(view):
            piece = self._buffered[0]
            n = min(len(piece), len(view) - filled)
            view[filled : filled + n] = piece[:n]
            filled += n
            if n == len(piece):
                del self._buffered[0]
            else:
                self._buffered[0] = memoryview(piece)[n:]
        return filled
