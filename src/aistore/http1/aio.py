"""One HTTP/1.1 client connection on an asyncio event loop.

A protocol of its own and not asyncio's streams: bytes arrive in the buffer of whoever waits for them, a small answer costs one future,
and a timeout one timer for many requests.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final, cast

from aistore.http1.aio_body import AsyncChunkedBody, AsyncClosingBody, AsyncSizedBody
from aistore.http1.answer import read_head
from aistore.http1.failures import ConnectTimedOut, NoAnswer, ReadTimedOut, WriteTimedOut
from aistore.http1.head import CHUNKED, BadHead, ResponseHead, response_framing
from aistore.http1.payload import EXPECT_WAIT, AsyncIterablePayload, BytesLike, BytesPayload, FilePayload, Payload

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator

    from aistore.http1.aio_body import AsyncBody

__all__ = ["AsyncConnection"]

BUFFER: Final = 64 * 1024
"""Bytes that may arrive before anybody waits for them."""

SEND_PIECE: Final = 256 * 1024
"""Bytes handed to the event loop at a time, which may copy what it cannot send at once."""


class AsyncConnection(asyncio.BufferedProtocol):
    """A connection of one event loop: `send` a request, `receive` its answer, one after the other.

    Whoever uses it closes it after any exception, cancellation included: nothing is known then about what is on the wire.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(BUFFER))
        self._filled = 0
        self._paused = False
        self._target: memoryview | None = None
        self._got = 0
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._lost: BaseException | None = None
        self._timeout: float | None = None
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last = False
        self.reusable = True
        """True when the last answer was read to its end and the server keeps the connection."""

    @classmethod
    async def connect(
        cls, host: str, port: int, timeout: float | None, context: ssl.SSLContext | None = None
    ) -> AsyncConnection:
        """Connect, and shake hands over TLS, within `timeout` seconds; `ConnectTimedOut`, `ssl.SSLError` or the system's `OSError`."""
        try:
            return await asyncio.wait_for(cls._connect(host, port, context), timeout)
        except asyncio.TimeoutError as e:  # another class in Python 3.10
            raise ConnectTimedOut(f"no connection to {host}:{port} within {timeout} s") from e

    @classmethod
    async def _connect(cls, host: str, port: int, context: ssl.SSLContext | None) -> AsyncConnection:
        loop = asyncio.get_running_loop()
        sock = await _open(loop, host, port)
        try:
            _, protocol = await loop.create_connection(
                lambda: cls(loop), sock=sock, ssl=context, server_hostname=host if context is not None else None
            )
        except BaseException:
            sock.close()
            raise
        return protocol

    def set_timeout(self, seconds: float | None) -> None:
        """Seconds without progress, receiving or sending, after which a call gives up; None waits for ever."""
        self._timeout = seconds

    def ended(self, keep_alive: bool) -> None:
        """The answer was read to its end."""
        self.reusable = keep_alive and not self._last and not self._filled

    def close(self) -> None:
        """Drop the connection at once; harmless when closed."""
        self.reusable = False
        self._target = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    def is_alive(self) -> bool:
        """False when the peer closed this idle connection or sent something nobody asked for."""
        return (
            self._lost is None and not self._filled and self._transport is not None and not self._transport.is_closing()
        )

    # -- sending ------------------------------------------------------------------------------------------------------------------

    async def send(
        self, method: str, head: bytes, payload: Payload | None, *, expect: bool
    ) -> tuple[ResponseHead, bytes | AsyncBody] | None:
        """Send a request; the answer if it came before the body was sent (this connection then ends with it), else None.

        With `expect` the head announces `Expect: 100-continue`, and the body waits a second at most for the server's word. Raises
        `NoAnswer` when the peer is gone, `WriteTimedOut`, and what reading the body's source raises.
        """
        self.reusable = False
        if payload is None:
            self._write(head)
            return None
        if isinstance(payload, BytesPayload) and not expect and len(payload.view) <= SEND_PIECE:
            self._write(head + bytes(payload.view))
            return None
        if expect:
            self._write(head)
            early = await self._await_continue(method)
            if early is not None:
                return early
            head = b""
        try:
            async with aclosing(self._framed(head, payload)) as pieces:
                async for piece in pieces:
                    if piece and self._filled:
                        # An answer before the end of the body: the server refuses it.
                        return await self._early_answer(method)
                    self._write(piece)
                    await self._drain()
        except (NoAnswer, WriteTimedOut):
            self._salvage()
            if not self._filled:
                raise
            with suppress(OSError, BadHead):
                return await self._early_answer(method)
            raise
        return None

    async def send_both_ways(self, head: bytes, payload: Payload) -> None:
        """Send a request whose answer may begin before its body ends: another task is in `receive`, or reads the body, meanwhile.

        Raises `NoAnswer` when the peer is gone, and what reading the body's source raises. Without a timeout of its own.
        """
        self.reusable = False
        async with aclosing(self._framed(head, payload)) as pieces:
            async for piece in pieces:
                self._write(piece)
                await self._drain()

    async def _framed(self, head: bytes, payload: Payload) -> AsyncGenerator[BytesLike, None]:
        """Head and body as they go over the wire."""
        chunked = payload.length is None
        async with aclosing(_pieces(self._loop, payload)) as pieces:
            async for piece in pieces:
                view = memoryview(piece).cast("B")
                yield head + b"%x\r\n" % len(view) if chunked else head
                for at in range(0, len(view), SEND_PIECE):
                    yield view[at : at + SEND_PIECE]
                head = b"\r\n" if chunked else b""
        yield head + b"0\r\n\r\n" if chunked else head

    def _write(self, data: BytesLike) -> None:
        if self._lost is not None or self._transport is None or self._transport.is_closing():
            raise NoAnswer("the server closed the connection") from self._lost
        if data:
            self._transport.write(data)

    async def _drain(self) -> None:
        if self._writable is None:
            return
        self._start_clock()
        try:
            await self._writable
        finally:
            self._deadline = None
        if self._lost is not None:
            raise NoAnswer("the server closed the connection while the body was sent") from self._lost

    async def _await_continue(self, method: str) -> tuple[ResponseHead, bytes | AsyncBody] | None:
        timeout = self._timeout
        self._timeout = EXPECT_WAIT if timeout is None else min(EXPECT_WAIT, timeout)
        try:
            data = await self.receive_some(BUFFER)
        except ReadTimedOut:
            return None
        finally:
            self._timeout = timeout
        if not data:
            raise NoAnswer("the server closed the connection instead of asking for the body")
        self._last = True
        answer = await self._answer(method, data, stop_at_continue=True)
        self._last = answer is not None
        return answer

    async def _early_answer(self, method: str) -> tuple[ResponseHead, bytes | AsyncBody]:
        self._last = True
        return await self.receive(method)

    # -- receiving ----------------------------------------------------------------------------------------------------------------

    async def receive(self, method: str) -> tuple[ResponseHead, bytes | AsyncBody]:
        """The answer to the request sent: its head, and its body as bytes when it came whole with the head, else to be read.

        Raises `NoAnswer` when the connection ended before the first byte, `ReadTimedOut`, `BadHead`, or the system's `OSError`.
        """
        try:
            data = await self.receive_some(BUFFER)
        except ConnectionError as e:
            raise NoAnswer("the server reset the connection instead of answering") from e
        if not data:
            raise NoAnswer("the server closed the connection without an answer")
        answer = await self._answer(method, data)
        assert answer is not None  # None only for stop_at_continue
        return answer

    async def _answer(
        self, method: str, data: bytes, *, stop_at_continue: bool = False
    ) -> tuple[ResponseHead, bytes | AsyncBody] | None:
        steps = read_head(data, stop_at_continue=stop_at_continue)
        try:
            next(steps)
            while True:
                steps.send(await self.receive_some(BUFFER))
        except StopIteration as found:
            if found.value is None:
                return None
            head, surplus = found.value
            return head, self._body_of(method, head, surplus)

    def _body_of(self, method: str, head: ResponseHead, surplus: bytes) -> bytes | AsyncBody:
        length = response_framing(head, method)
        if length == len(surplus):
            self.ended(head.keep_alive)
            return surplus
        if length >= 0:
            if len(surplus) > length:
                return surplus[:length]
            return AsyncSizedBody(self, length, surplus, head.keep_alive)
        if length == CHUNKED:
            return AsyncChunkedBody(self, surplus, head.keep_alive)
        return AsyncClosingBody(self, surplus)

    async def receive_some(self, size: int) -> bytes:
        """At most `size` bytes as soon as there are any; empty at the end. `ReadTimedOut` or `OSError`."""
        if not self._filled:
            await self._wait()
        count = min(size, self._filled)
        data = bytes(self._buffer[:count])
        self._consume(count)
        return data

    async def receive_into(self, view: memoryview) -> int:
        """Fill `view`; fewer bytes only at the end or before a failure, 0 at the end. `ReadTimedOut` or `OSError`."""
        got = min(self._filled, len(view))
        if got:
            view[:got] = self._buffer[:got]
            self._consume(got)
        if got < len(view):
            self._target, self._got = view, got
            try:
                await self._wait()
            except (OSError, ReadTimedOut):
                if not self._got:
                    raise
            finally:
                got = self._got
                self._target = None
        return got

    def _consume(self, count: int) -> None:
        self._filled -= count
        if self._filled:
            self._buffer[: self._filled] = bytes(self._buffer[count : count + self._filled])

    async def _wait(self) -> None:
        """Wait until data, the end or a failure came."""
        if self._lost is not None:
            self._raise_lost()
            return
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        self._waiter = waiter = self._loop.create_future()
        self._start_clock()
        try:
            await waiter
        finally:
            self._waiter = None
            self._deadline = None
        if self._lost is not None and not self._filled:
            self._raise_lost()

    def _raise_lost(self) -> None:
        if isinstance(self._lost, Exception) and not isinstance(self._lost, EOFError):
            raise self._lost

    # -- the clock ----------------------------------------------------------------------------------------------------------------

    def _start_clock(self) -> None:
        """Begin a wait without progress; the timer of an earlier wait serves again."""
        if self._timeout is None:
            self._deadline = None
            return
        self._deadline = self._loop.time() + self._timeout
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._tick)
        elif self._waiter is not None:
            self._fail(self._waiter, ReadTimedOut("no answer, or a body that stalled"))
        elif self._writable is not None:
            self._fail(self._writable, WriteTimedOut("the server takes no data"))

    def _fail(self, waiter: asyncio.Future[None], failure: Exception) -> None:
        if not waiter.done():
            waiter.set_exception(failure)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- called by the event loop -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # what fits the waiting reader fits better
        if self._target is not None:
            return self._target[self._got :]
        if self._filled == len(self._buffer):
            # TLS of Python 3.10 goes on after pause_reading until its own buffer is empty.
            self._buffer = memoryview(bytearray(bytes(self._buffer) + bytes(BUFFER)))
        return self._buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._deadline is not None and self._timeout is not None:
            self._deadline = self._loop.time() + self._timeout
        if self._target is not None:
            self._got += nbytes
            if self._got == len(self._target):
                self._target = None
                self._wake()
            return
        self._filled += nbytes
        if self._filled == len(self._buffer) and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._end(self._ending())

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._salvage()
        self._end(exc or self._ending())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _salvage(self) -> None:
        """Take what arrived before a failed send made asyncio give up: the answer of a server that refuses the body."""
        if self._transport is None or self._transport.get_extra_info("ssl_object") is not None:
            return
        descriptor = self._transport.get_extra_info("socket").fileno()
        with suppress(OSError):
            data = os.read(descriptor, len(self._buffer) - self._filled)
            self._buffer[self._filled : self._filled + len(data)] = data
            self._filled += len(data)

    def _ending(self) -> Exception:
        """What the end of the stream means: over TLS one that was not announced may be a cut (RFC 8446 6.1), which asyncio does not tell."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        if tls is None or self._lost is not None:
            return EOFError()
        import ssl

        try:
            while True:  # asyncio leaves behind what has come when it meets the end while reading is paused
                view = self.get_buffer(-1)
                if not (count := tls.read(len(view), view)):
                    break
                self.buffer_updated(count)
        except ssl.SSLZeroReturnError:
            pass
        except ssl.SSLError:
            return ConnectionResetError("the server closed the connection without saying that this was all")
        return EOFError()

    def _end(self, reason: Exception) -> None:
        if self._lost is None:
            # The traceback would hold on to the reader's buffer.
            self._lost = reason.with_traceback(None)
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)


async def _open(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    """A connected socket to the first address that answers; the failure of the last one otherwise."""
    failure: OSError | None = None
    try:
        addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as e:
        raise socket.gaierror(socket.EAI_NONAME, "no valid host name") from e
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except OSError as e:
            sock.close()
            failure = e
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure or OSError(f"host {host} has no address")


async def _pieces(loop: asyncio.AbstractEventLoop, payload: Payload) -> AsyncGenerator[BytesLike, None]:
    """The body's pieces; files are read in a thread, because disks block."""
    if isinstance(payload, AsyncIterablePayload):
        payload.started = True
        async for piece in payload.source:
            if not isinstance(piece, (bytes, bytearray, memoryview)):
                raise TypeError(f"the iterable to send gives {type(piece).__name__}, not bytes")
            if piece:
                yield piece
        return
    pieces = payload.pieces()
    while True:
        in_thread = isinstance(payload, FilePayload)
        next_piece = await loop.run_in_executor(None, next, pieces, None) if in_thread else next(pieces, None)
        if next_piece is None:
            return
        yield next_piece
