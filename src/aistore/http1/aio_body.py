"""Bodies of answers, read from an asyncio connection: the same promises as `aistore.http1.body`."""

from __future__ import annotations

import io
from collections import deque
from typing import TYPE_CHECKING, Final

from aistore.http1.chunked import ChunkedDecoder
from aistore.http1.failures import ReadTimedOut, ShortBody

if TYPE_CHECKING:
    from aistore.http1.aio import AsyncConnection

__all__ = ["AsyncBody", "AsyncChunkedBody", "AsyncClosingBody", "AsyncSizedBody"]

PIECE: Final = 256 * 1024
"""Bytes received at a time when nobody knows how many there are."""
_SOME: Final = 64 * 1024  # by who looks at them at once: as much as stays in the processor's cache


class AsyncBody:
    """The part of an answer behind its head, read once from front to end."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._failure: Exception | None = None
        self.done = False
        """True when the whole body was read."""
        self.received = 0
        """Bytes handed out so far."""

    async def readinto(self, view: memoryview) -> int:
        """Fill `view` (of bytes); fewer only before the end or a failure; 0 at the end. `ShortBody`, `ReadTimedOut`, `BadBody`."""
        raise NotImplementedError

    async def read(self, size: int) -> bytes:
        """`size` bytes, fewer only before the end or a failure; empty at the end. Raises as `readinto`."""
        # BytesIO hands out its buffer without a copy: one object, filled in place. It minds views that outlive it, so every part of this
        # one is released, also those that a traceback would keep.
        buffer = io.BytesIO(bytes(size))
        with buffer.getbuffer() as view:
            got = await self.readinto(view)
        data = buffer.getvalue()
        return data if got == size else data[:got]

    async def read_some(self) -> bytes:
        """The next bytes as soon as any are there, some 64 KiB; empty at the end. Raises as `readinto`."""
        raise NotImplementedError

    async def read_rest(self) -> bytes:
        """Everything that is still to come, in one object."""
        raise NotImplementedError

    def _lost(self, error: OSError | None, expected: int) -> Exception:
        if isinstance(error, ReadTimedOut):
            return error
        cause = "the connection was reset" if error else "the connection was closed"
        short = ShortBody(self.received, expected, cause)
        short.__cause__ = error
        return short

    def _keep(self, failure: Exception, got: int) -> None:
        """Raise `failure` now if nothing was got before it, else with the next call."""
        if not got:
            raise failure
        self._failure = failure


class AsyncSizedBody(AsyncBody):
    """A body of announced length."""

    def __init__(self, connection: AsyncConnection, length: int, surplus: bytes, keep_alive: bool) -> None:
        super().__init__(connection)
        self.length = length
        self._left = length
        self._surplus = surplus
        self._keep_alive = keep_alive

    def _took(self, count: int) -> None:
        self.received += count
        self._left -= count
        if self._left == 0:
            self.done = True
            self._connection.ended(self._keep_alive)

    async def readinto(self, view: memoryview) -> int:
        if self._failure is not None:
            raise self._failure
        want = min(len(view), self._left)
        got = min(len(self._surplus), want)
        if got:
            view[:got] = self._surplus[:got]
            self._surplus = self._surplus[got:]
            self._took(got)
        while got < want:
            try:
                with view[got:want] as part:
                    count = await self._connection.receive_into(part)
            except OSError as e:
                self._keep(self._lost(e, self.length), got)
                break
            if not count:
                self._keep(self._lost(None, self.length), got)
                break
            got += count
            self._took(count)
        return got

    async def read(self, size: int) -> bytes:
        want = min(size, self._left)
        return await super().read(want) if want > 0 else b""

    async def read_some(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        data, self._surplus = self._surplus[: self._left], b""
        if not data and self._left:
            try:
                data = await self._connection.receive_some(min(_SOME, self._left))
            except OSError as e:
                raise self._lost(e, self.length) from e.__cause__
            if not data:
                raise self._lost(None, self.length)
        self._took(len(data))
        return data

    async def read_rest(self) -> bytes:
        data = await self.read(self._left)
        if self._failure is not None:
            raise self._failure
        return data


class AsyncChunkedBody(AsyncBody):
    """A body in chunks; its end is announced, so a cut shows."""

    def __init__(self, connection: AsyncConnection, surplus: bytes, keep_alive: bool) -> None:
        super().__init__(connection)
        self._keep_alive = keep_alive
        self._decoder = ChunkedDecoder()
        self._pieces = deque(self._decoder.feed(surplus))

    async def _next(self, most: int = PIECE) -> bytes:
        """The next piece of content, empty at the end."""
        while not self._pieces:
            if self._failure is not None:
                raise self._failure
            if self._decoder.done:
                if not self.done:
                    self.done = True
                    self._connection.ended(self._keep_alive and not self._decoder.rest)
                return b""
            try:
                data = await self._connection.receive_some(most)
            except OSError as e:
                raise self._lost(e, -1) from e.__cause__
            if not data:
                raise self._lost(None, -1)
            self._pieces.extend(self._decoder.feed(data))
        return self._pieces.popleft()

    async def readinto(self, view: memoryview) -> int:
        got, want = 0, len(view)
        try:
            while got < want:
                piece = await self._next()
                if not piece:
                    break
                count = min(len(piece), want - got)
                view[got : got + count] = piece[:count]
                if count < len(piece):
                    self._pieces.appendleft(piece[count:])
                got += count
                self.received += count
        except Exception as e:
            self._keep(e, got)
        return got

    async def read_some(self) -> bytes:
        piece = await self._next(_SOME)
        self.received += len(piece)
        return piece

    async def read_rest(self) -> bytes:
        out = io.BytesIO()
        while piece := await self._next():
            self.received += len(piece)
            out.write(piece)
        return out.getvalue()


class AsyncClosingBody(AsyncBody):
    """A body that lasts until the server closes the connection; nothing tells whether it is whole."""

    def __init__(self, connection: AsyncConnection, surplus: bytes) -> None:
        super().__init__(connection)
        self._surplus = surplus

    async def _next(self) -> bytes:
        data, self._surplus = self._surplus, b""
        if data or self.done:
            return data
        if self._failure is not None:
            raise self._failure
        try:
            data = await self._connection.receive_some(PIECE)
        except OSError as e:
            raise self._lost(e, -1) from e.__cause__
        self.done = not data
        return data

    async def readinto(self, view: memoryview) -> int:
        got, want = 0, len(view)
        try:
            while got < want and (data := await self._next()):
                count = min(len(data), want - got)
                view[got : got + count] = data[:count]
                self._surplus = data[count:]
                got += count
                self.received += count
        except Exception as e:
            self._keep(e, got)
        return got

    async def read_some(self) -> bytes:
        data = await self._next()
        self.received += len(data)
        return data

    async def read_rest(self) -> bytes:
        out = io.BytesIO()
        while data := await self._next():
            self.received += len(data)
            out.write(data)
        return out.getvalue()
