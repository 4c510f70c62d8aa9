"""Bodies of answers, read from a blocking connection: one class for each framing (RFC 9112 6.3).

`read` and `readinto` give what there is before they raise what went wrong, so that a reader that resumes loses nothing; an empty
result is the true end, never a cut.
"""

from __future__ import annotations

import io
from collections import deque
from typing import TYPE_CHECKING, Final

from aistore.http1.chunked import ChunkedDecoder
from aistore.http1.failures import ReadTimedOut, ShortBody

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.http1.blocking import BlockingConnection

__all__ = ["BlockingBody", "ChunkedBody", "ClosingBody", "SizedBody"]

PIECE: Final = 256 * 1024
"""Bytes received at a time when nobody knows how many there are."""
_SOME: Final = 96 * 1024  # by who looks at them at once: as much as stays in the processor's cache


class BlockingBody:
    """The part of an answer behind its head, read once from front to end."""

    __slots__ = ("_connection", "_failure", "done", "received")

    def __init__(self, connection: BlockingConnection) -> None:
        self._connection = connection
        self._failure: Exception | None = None
        self.done = False
        """True when the whole body was read."""
        self.received = 0
        """Bytes handed out so far."""

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer only before the end or a failure; empty at the end. `ShortBody`, `ReadTimedOut`, `BadBody`."""
        raise NotImplementedError

    def readinto(self, view: memoryview) -> int:
        """Fill `view` (of bytes); fewer only before the end or a failure; 0 at the end. Raises as `read`."""
        raise NotImplementedError

    def read_some(self) -> bytes:
        """The next bytes as soon as any are there, some 96 KiB, all of them of a chunk that is larger; empty at the end. Raises as `readinto`."""
        raise NotImplementedError

    def read_rest(self) -> bytes:
        """Everything that is still to come, in one object."""
        raise NotImplementedError

    def _keep(self, failure: Exception, got: int) -> None:
        """Raise `failure` now if nothing was got before it, else with the next call."""
        if not got:
            raise failure
        # Its traceback would hold on to the caller's buffer.
        self._failure = failure.with_traceback(None)
        if failure.__cause__ is not None:
            failure.__cause__.with_traceback(None)


class SizedBody(BlockingBody):
    """A body of announced length."""

    __slots__ = ("_keep_alive", "_left", "_surplus", "length")

    def __init__(self, connection: BlockingConnection, length: int, surplus: bytes, keep_alive: bool) -> None:
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

    def _lost(self, error: OSError | None) -> Exception:
        if isinstance(error, ReadTimedOut):
            return error
        short = ShortBody(
            self.received, self.length, "the connection was reset" if error else "the connection was closed"
        )
        short.__cause__ = error
        return short

    def read(self, size: int) -> bytes:
        want = min(size, self._left)
        if want <= 0:
            return b""
        if self._surplus or self._failure is not None:
            return self._read_into_place(want)
        try:
            data = self._connection.receive_exactly(want)
        except OSError as e:
            raise self._lost(e) from e.__cause__
        if not data:
            raise self._lost(None)
        self._took(len(data))
        if len(data) < want:
            try:
                data += self._read_into_place(want - len(data))
            except Exception as e:
                self._keep(e, len(data))
        return data

    def _read_into_place(self, want: int) -> bytes:
        # BytesIO hands out its buffer without a copy: one object of the exact size, filled in place. It minds views that outlive it, so
        # every part of this one is released, also those that a traceback would keep.
        buffer = io.BytesIO(bytes(want))
        with buffer.getbuffer() as view:
            got = self.readinto(view)
        data = buffer.getvalue()
        return data if got == want else data[:got]

    def readinto(self, view: memoryview) -> int:
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
                    count = self._connection.receive_into(part)
            except OSError as e:
                self._keep(self._lost(e), got)
                break
            if not count:
                self._keep(self._lost(None), got)
                break
            got += count
            self._took(count)
        return got

    def read_some(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        data, self._surplus = self._surplus[: self._left], b""
        if not data and self._left:
            try:
                data = self._connection.receive_some(min(_SOME, self._left))
            except OSError as e:
                raise self._lost(e) from e.__cause__
            if not data:
                raise self._lost(None)
        self._took(len(data))
        return data

    def read_rest(self) -> bytes:
        data = self._read_into_place(self._left) if self._left else b""
        if self._failure is not None:
            raise self._failure
        return data


class ChunkedBody(BlockingBody):
    """A body in chunks; its end is announced, so a cut shows."""

    __slots__ = ("_decoder", "_keep_alive", "_pieces")

    def __init__(self, connection: BlockingConnection, surplus: bytes, keep_alive: bool) -> None:
        super().__init__(connection)
        self._keep_alive = keep_alive
        self._decoder = ChunkedDecoder()
        self._pieces: deque[bytes] = deque()
        self._feed(surplus)

    def _feed(self, data: bytes) -> None:
        self._pieces.extend(self._decoder.feed(data))

    def _next(self, most: int = PIECE) -> bytes:
        """The next piece of content, empty at the end."""
        while not self._pieces:
            if self._failure is not None:
                raise self._failure
            if self._decoder.done:
                if not self.done:
                    self.done = True
                    self._connection.ended(self._keep_alive and not self._decoder.rest)
                return b""
            self._feed(self._take(self._connection.receive_some, most))
        return self._pieces.popleft()

    def _take(self, receive: Callable[[int], bytes], most: int) -> bytes:
        try:
            data = receive(most)
        except ReadTimedOut:
            raise
        except OSError as e:
            raise ShortBody(self.received, -1, "the connection was reset") from e
        if not data:
            raise ShortBody(self.received, -1)
        return data

    def readinto(self, view: memoryview) -> int:
        got, want = 0, len(view)
        try:
            while got < want:
                if not self._pieces and self._decoder.needed and self._failure is None:
                    with view[got:] as part:
                        got += self._receive_chunk(part)
                    continue
                piece = self._next()
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

    def _receive_chunk(self, view: memoryview) -> int:
        """Receive what the current chunk still needs straight into `view`."""
        try:
            with view[: self._decoder.needed] as part:
                count = self._connection.receive_into(part)
        except ReadTimedOut:
            raise
        except OSError as e:
            raise ShortBody(self.received, -1, "the connection was reset") from e
        if not count:
            raise ShortBody(self.received, -1)
        self._decoder.took(count)
        self.received += count
        return count

    def read(self, size: int) -> bytes:
        if size <= 0:
            return b""
        buffer = bytearray(min(size, PIECE))
        out = io.BytesIO()
        while size > 0:
            count = self.readinto(memoryview(buffer)[: min(size, len(buffer))])
            if not count:
                break
            out.write(memoryview(buffer)[:count])
            size -= count
            if self._failure is not None:
                break
        return out.getvalue()

    def read_some(self) -> bytes:
        if not self._pieces and self._decoder.needed >= _SOME and self._failure is None:
            # So much of the chunk is on its way: to wait for all of it costs fewer turns than to take what there is each time.
            piece = self._take(self._connection.receive_exactly, _SOME)
            self._decoder.took(len(piece))
        else:
            piece = self._next(_SOME)
        self.received += len(piece)
        return piece

    def read_rest(self) -> bytes:
        out = io.BytesIO()
        while True:
            piece = self._next()
            if not piece:
                return out.getvalue()
            self.received += len(piece)
            out.write(piece)


class ClosingBody(BlockingBody):
    """A body that lasts until the server closes the connection; nothing tells whether it is whole."""

    __slots__ = ("_surplus",)

    def __init__(self, connection: BlockingConnection, surplus: bytes) -> None:
        super().__init__(connection)
        self._surplus = surplus

    def read(self, size: int) -> bytes:
        if size <= 0:
            return b""
        data, self._surplus = self._surplus[:size], self._surplus[size:]
        self.received += len(data)
        try:
            while len(data) < size and (more := self._receive(size - len(data))):
                data += more
        except Exception as e:
            self._keep(e, len(data))
        return data

    def read_some(self) -> bytes:
        data, self._surplus = self._surplus, b""
        self.received += len(data)
        return data or self._receive(PIECE)

    def _receive(self, size: int) -> bytes:
        if self._failure is not None:
            raise self._failure
        if self.done:
            return b""
        try:
            data = self._connection.receive_some(size)
        except ReadTimedOut:
            raise
        except OSError as e:
            raise ShortBody(self.received, -1, "the connection was reset") from e
        self.done = not data
        self.received += len(data)
        return data

    def readinto(self, view: memoryview) -> int:
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read_rest(self) -> bytes:
        out = io.BytesIO()
        while True:
            data = self.read(PIECE)
            if not data:
                return out.getvalue()
            out.write(data)
