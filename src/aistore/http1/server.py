"""The asyncio driver of an HTTP/1.1 server: connections, request bodies, replies, time limits.

A `Service` gets each request once its head (and, if small, its body) is there. It returns the encoded answer as bytes, a `Reply`, a
`Pending` one, or a coroutine; only the last costs a task. Requests of one connection are answered in order.

Bytes are received into one buffer shared by all connections, because each is consumed before the loop goes on; a handler that reads a
large body has it received straight into its own buffer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Coroutine
from dataclasses import dataclass
from typing import Final, Protocol, cast

from aistore.http1.chunked import ChunkedDecoder
from aistore.http1.failures import BadBody
from aistore.http1.head import CHUNKED, BadHead, RequestHead, find_head_end, parse_request
from aistore.http1.message import (
    BytesLike,
    FilePart,
    Params,
    Pending,
    Reply,
    encode_reply_head,
    parse_params,
    split_target,
)

__all__ = ["Answer", "Body", "HttpServer", "IncompleteBody", "Limits", "Request", "Result", "Service"]

logger = logging.getLogger(__name__)

SMALL_BODY: Final = 64 * 1024
"""A body of up to this many bytes is received whole before the service is called."""

_RECEIVE: Final = bytearray(256 * 1024)
_RECEIVE_VIEW: Final = memoryview(_RECEIVE)
_PIPELINED_MAX: Final = 256 * 1024  # bytes of further requests kept while one is being answered
_WINDOW: Final = 2 * 1024 * 1024  # bytes of a file sent between two looks at whether it is in memory

Answer = bytes | Reply
Result = bytes | Reply | Pending | Awaitable[Answer]


@dataclass
class Limits:
    """Bounds of a connection's life, in seconds, and of the number of connections."""

    head: float = 16.0
    idle: float = 75.0
    body: float = 30.0
    """Longest wait for the next byte of a request body."""
    write: float = 60.0
    """Longest wait for a client to take the next byte of an answer."""
    connections: int = 10_000
    max_body: int = 1 << 50


class IncompleteBody(ConnectionError):
    """The client went away, or broke the framing, before its request body was complete."""


class Service(Protocol):
    """What a server does with requests."""

    def handle(self, request: Request) -> Result:
        """Answer one request."""

    def refuse(self, request: Request, error: BaseException) -> Reply:
        """The reply for an exception raised by `handle`."""


class Request:
    """A request as handlers see it."""

    __slots__ = ("_connection", "body", "content", "head", "headers", "method", "path", "query", "raw_path")

    def __init__(self, head: RequestHead, content: bytes | None, body: Body | None, connection: _Connection) -> None:
        self.head = head
        self.method = head.method
        self.headers = head.headers
        self.path, self.raw_path, self.query = split_target(head.target)
        self.content = content
        """The whole body, if it was small; None if it has to be read from `body`."""
        self.body = body
        self._connection = connection

    @property
    def params(self) -> Params:
        """Query parameters."""
        return parse_params(self.query)

    @property
    def peer(self) -> str:
        """Address of the client, `ip:port`."""
        return self._connection.peer

    @property
    def local(self) -> str:
        """Address of the server that the client connected to, `ip:port`."""
        name = self._connection.transport.get_extra_info("sockname")
        return f"{name[0]}:{name[1]}" if name else ""

    def lines(self, name: str) -> list[str]:
        """Values of a header that may be repeated, one for each line."""
        return self.headers.lines(name)

    async def read(self, limit: int) -> bytes:
        """The whole body; `ValueError` if it is longer than `limit` bytes."""
        if self.content is None:
            assert self.body is not None
            self.content = await self.body.read(limit)
        if len(self.content) > limit:
            raise ValueError(f"request body is longer than {limit} bytes")
        return self.content


class Body:
    """A request body that is still arriving."""

    __slots__ = (
        "_buffered",
        "_connection",
        "_decoder",
        "_error",
        "_left",
        "_sink",
        "_sink_filled",
        "_waiter",
        "length",
    )

    def __init__(self, connection: _Connection, length: int) -> None:
        self._connection = connection
        self.length: int | None = None if length == CHUNKED else length
        """Bytes announced, or None for a chunked body."""
        self._decoder = ChunkedDecoder() if length == CHUNKED else None
        self._left = 0 if length == CHUNKED else length  # bytes not yet received (known length only)
        self._buffered: list[BytesLike] = []
        self._sink: memoryview | None = None
        self._sink_filled = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None

    @property
    def complete(self) -> bool:
        """Whether all of it was received (not necessarily read)."""
        return self._decoder.done if self._decoder is not None else self._left == 0

    async def readinto(self, buffer: BytesLike) -> int:
        """Fill `buffer` unless the body ends before; the number of bytes put there, 0 at the end.

        Raises `IncompleteBody` if the client breaks off.
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
                self._connection.pause()
            filled = self._sink_filled
            filled += self._take_buffered(view[filled:])
        return filled

    async def chunks(self, size: int = 256 * 1024) -> AsyncIterator[memoryview]:
        """Successive pieces; each is valid until the next is asked for."""
        buffer = memoryview(bytearray(size))
        while n := await self.readinto(buffer):
            yield buffer[:n]

    async def read(self, limit: int) -> bytes:
        """The rest of the body; `ValueError` if that is more than `limit` bytes."""
        if self.length is not None and self.length > limit:
            raise ValueError(f"request body of {self.length} bytes is longer than {limit}")
        parts: list[bytes] = []
        total = 0
        async for piece in self.chunks(64 * 1024):
            total += len(piece)
            if total > limit:
                raise ValueError(f"request body is longer than {limit} bytes")
            parts.append(bytes(piece))
        return b"".join(parts)

    # -- called by the connection ------------------------------------------------------------------------------

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
            self._wake()

    def feed(self, data: bytes) -> bytes:
        """Take bytes off the connection; returns those behind the end of the body."""
        if self._decoder is not None:
            try:
                pieces = self._decoder.feed(data)
            except BadBody as error:
                self.fail(IncompleteBody(f"malformed chunked body: {error}"))
                raise
            self._buffered.extend(pieces)
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
        if not self.complete or (self._decoder is not None and not self._decoder.done):
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


class _Connection(asyncio.BufferedProtocol):
    """One client's connection."""

    __slots__ = (
        "_body", "_busy", "_can_write", "_continue", "_head", "_lost", "_paused", "_pending", "_scanned", "_server",
        "_service", "deadline", "peer", "transport",
    )  # fmt: skip

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._service = server.service
        self._pending = b""
        self._scanned = 0
        self._head: RequestHead | None = None
        self._body: Body | None = None
        self._busy = False
        self._paused = False
        self._lost = False
        self._continue = False
        self._can_write: asyncio.Future[None] | None = None
        self.deadline = 0.0
        self.peer = ""
        self.transport: asyncio.Transport

    # -- asyncio callbacks -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if peer else ""
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.deadline = self._server.now + self._server.limits.head
        if not self._server.admit(self):
            self._refuse_and_close(503, "too many connections", (("Retry-After", "1"),))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self._lost = True
        self._server.forget(self)
        if self._body is not None:
            self._body.fail(IncompleteBody("the client closed the connection before its request was complete"))
        if self._can_write is not None and not self._can_write.done():
            self._can_write.set_result(None)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio's signature)
        if self._body is not None:
            sink = self._body.sink()
            if sink is not None:
                return sink
        return _RECEIVE_VIEW

    def buffer_updated(self, nbytes: int) -> None:
        body = self._body
        if body is not None:
            self.deadline = self._server.now + self._server.limits.body
            if body.sink() is not None:
                body.received(nbytes)
                if body.complete and not self._busy:
                    self._body_over(b"")
                return
            self._feed_body(bytes(_RECEIVE_VIEW[:nbytes]))
            return
        data = bytes(_RECEIVE_VIEW[:nbytes])
        if self._pending:
            data = self._pending + data
            self._pending = b""
        if self._busy:
            self._pending = data
            if len(data) > _PIPELINED_MAX:
                self.pause()
            return
        self._advance(data)

    def eof_received(self) -> bool:
        if self._body is not None:
            self._body.fail(IncompleteBody("the client ended its request before it was complete"))
        if self._busy and self._body is None:  # a client may half-close after its request and still read the answer
            self._server.close_after_reply.add(self)
            return True
        return False

    def pause_writing(self) -> None:
        if self._can_write is None or self._can_write.done():
            self._can_write = asyncio.get_running_loop().create_future()
        self.deadline = self._server.now + self._server.limits.write

    def resume_writing(self) -> None:
        if self._can_write is not None and not self._can_write.done():
            self._can_write.set_result(None)
        if not self._busy:
            self.deadline = self._server.now + self._server.limits.idle

    # -- reading -----------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop reading until the body or the next request is wanted."""
        if not self._paused and not self._lost and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def want_body(self) -> None:
        """A handler waits for body bytes."""
        if self._continue:
            self._continue = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.deadline = self._server.now + self._server.limits.body
        self._unpause()

    def _unpause(self) -> None:
        if self._paused and not self._lost and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def _advance(self, data: bytes) -> None:
        """Serve the requests in `data` until one has to wait for more bytes or for its answer."""
        try:
            while data or self._head is not None:
                head = self._head
                if head is None:
                    data = data.lstrip(b"\r\n") if data[:1] in b"\r\n" else data
                    end = find_head_end(data, self._scanned)
                    if end < 0:
                        if not self._scanned:
                            self.deadline = self._server.now + self._server.limits.head
                        self._pending, self._scanned = data, len(data)
                        return
                    head = parse_request(data[:end])
                    data = data[end:]
                    self._scanned = 0
                    self._check_head(head)
                length = head.headers.length
                content: bytes | None = b""
                if length > 0 or length == CHUNKED:
                    if length == CHUNKED or length > SMALL_BODY:
                        self._head = None
                        self._start_body(head, length, data)
                        return
                    if len(data) < length:
                        if self._continue:
                            self._continue = False
                            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                        self._head, self._pending = head, data
                        self.deadline = self._server.now + self._server.limits.body
                        return
                    content, data = data[:length], data[length:]
                self._continue = False
                self._head = None
                if not self._dispatch(Request(head, content, None, self)):
                    self._pending = data
                    return
        except BadHead as error:
            self._refuse_and_close(error.status, error.reason)

    def _check_head(self, head: RequestHead) -> None:
        expect = head.headers.get("expect")
        if expect is not None:
            if expect.lower() != "100-continue":
                raise BadHead(417, "unknown expectation")
            self._continue = True
        if head.headers.length > self._server.limits.max_body:
            raise BadHead(413, f"request body is longer than {self._server.limits.max_body} bytes")

    def _start_body(self, head: RequestHead, length: int, data: bytes) -> None:
        body = self._body = Body(self, length)
        if data:
            try:
                self._pending = body.feed(data)
            except BadBody as error:
                self._body = None
                self._refuse_and_close(400, f"malformed chunked body: {error}")
                return
        self.pause()
        if self._dispatch(Request(head, None, body, self)):
            self._after_reply()

    def _feed_body(self, data: bytes) -> None:
        body = self._body
        assert body is not None
        try:
            rest = body.feed(data)
        except BadBody as error:
            if not self._busy:
                self._refuse_and_close(400, f"malformed chunked body: {error}")
            else:
                self._server.close_after_reply.add(self)
            return
        if not self._busy:
            body.discard()
        if body.complete:
            if self._busy:
                self._pending = rest
                self.pause()
            else:
                self._body_over(rest)
        elif self._busy and body.sink() is None:
            self.pause()

    def _body_over(self, rest: bytes) -> None:
        self._body = None
        if rest or self._pending:
            data, self._pending = self._pending + rest, b""
            self._advance(data)

    # -- answering ---------------------------------------------------------------------------------------------

    def _dispatch(self, request: Request) -> bool:
        """Call the service; True if the answer is on its way and the next request may be served."""
        try:
            answer = self._service.handle(request)
        except Exception as error:
            answer = self._service.refuse(request, error)
        if type(answer) is bytes:
            self._send_bytes(request.head, answer)
        elif type(answer) is Pending:
            pending = answer
            self._be_busy()
            pending.future.add_done_callback(lambda _: self._finish(request, pending))
        elif isinstance(answer, Reply):
            if isinstance(answer.body, bytes):
                self._send(request, answer)
            else:
                self._be_busy()
                self._server.spawn(self._send_slowly(request, answer))
        else:
            self._be_busy()
            self._server.spawn(self._await(request, cast("Coroutine[object, object, Answer]", answer)))
        return not self._busy and not self._lost

    def _be_busy(self) -> None:
        self._busy = True
        self.deadline = float("inf")

    def _finish(self, request: Request, pending: Pending) -> None:
        try:
            answer = pending.render(pending.future.result())
        except (Exception, asyncio.CancelledError) as error:
            answer = self._service.refuse(request, error)
        if isinstance(answer, bytes):
            self._send_bytes(request.head, answer)
        else:
            self._send(request, answer)
        self._after_reply()

    async def _await(self, request: Request, coroutine: Coroutine[object, object, Answer]) -> None:
        try:
            answer = await coroutine
        except Exception as error:
            answer = self._service.refuse(request, error)
        if isinstance(answer, bytes):
            self._send_bytes(request.head, answer)
        elif isinstance(answer.body, bytes):
            self._send(request, answer)
        else:
            await self._send_slowly(request, answer)
            return
        self._after_reply()

    def _after_reply(self) -> None:
        """The answer is out: go on with the rest of an unread body, then with the next request."""
        self._busy = False
        if self._lost or self.transport.is_closing():
            return
        self.deadline = self._server.now + self._server.limits.idle
        body = self._body
        if body is not None:
            if self._continue:  # the client may or may not send the body it announced: nobody can tell what follows
                self.transport.close()
                return
            body.discard()
            if not body.complete:
                self.deadline = self._server.now + self._server.limits.body
                self._unpause()
                return
            self._body = None
        self._unpause()
        if self._pending:
            data, self._pending = self._pending, b""
            self._advance(data)

    def _send_bytes(self, head: RequestHead, answer: bytes) -> None:
        if head.keep_alive and self not in self._server.close_after_reply:
            self.transport.write(answer)
        else:
            self.transport.write(answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            self.transport.close()
            self._lost = True

    def _send(self, request: Request, reply: Reply) -> None:
        assert isinstance(reply.body, bytes)
        head = encode_reply_head(reply, request.head, chunked=False)
        self.transport.write(head if request.method == "HEAD" else head + reply.body)
        self._close_if_asked(request, reply)

    def _close_if_asked(self, request: Request, reply: Reply) -> None:
        if reply.close or not request.head.keep_alive or self in self._server.close_after_reply:
            self.transport.close()
            self._lost = True

    async def _send_slowly(self, request: Request, reply: Reply) -> None:
        """Send a body that is a file or is made while it is sent."""
        body = reply.body
        try:
            if isinstance(body, FilePart):
                self.transport.write(encode_reply_head(reply, request.head, chunked=False))
                if request.method != "HEAD":
                    await self._send_file(body)
            else:
                await self._send_pieces(request, reply, cast("AsyncIterator[BytesLike]", body))
        except ConnectionError:
            self.transport.abort()
            return
        except Exception:
            # The head is out: all that is left is to cut the body short, so that it is not taken for whole.
            logger.exception("answer to %s %s broke off", request.method, request.path)
            self.transport.abort()
            return
        finally:
            if isinstance(body, FilePart):
                body.close()
        self._close_if_asked(request, reply)
        self._after_reply()

    async def _send_pieces(self, request: Request, reply: Reply, pieces: AsyncIterator[BytesLike]) -> None:
        chunked = request.head.headers.get("host") is not None or request.head.keep_alive
        self.transport.write(encode_reply_head(reply, request.head, chunked=chunked))
        if request.method == "HEAD":
            return
        async for piece in pieces:
            if not piece:
                continue
            if chunked:
                self.transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
            else:
                self.transport.write(piece)
            await self._drain()
        if chunked:
            self.transport.write(b"0\r\n\r\n")

    async def _drain(self) -> None:
        if self._can_write is not None:
            await self._can_write
        if self._lost:
            raise ConnectionResetError("the client closed the connection")

    async def _send_file(self, part: FilePart) -> None:
        """Send a part of a file without copying it through this process."""
        loop = asyncio.get_running_loop()
        transport = self.transport
        if transport.get_extra_info("sslcontext") is not None or not hasattr(os, "sendfile"):
            await self._send_file_by_copy(part)
            return
        transport.set_write_buffer_limits(0)  # the head must be out before the file's bytes pass by the transport
        try:
            if transport.get_write_buffer_size():
                self.pause_writing()
                await self._drain()
            out = transport.get_extra_info("socket").fileno()
            offset, end = part.offset, part.offset + part.length
            waiting = -1
            try:
                while offset < end:
                    if self._lost:
                        raise ConnectionResetError("the client closed the connection")
                    window = min(end, offset + _WINDOW)
                    if not _in_memory(part.fd, offset, window):
                        await loop.run_in_executor(None, _bring_in, part.fd, offset, window)
                    try:
                        sent = os.sendfile(out, part.fd, offset, window - offset)
                    except BlockingIOError:
                        if waiting < 0:
                            waiting = os.dup(out)  # asyncio lets nobody else wait on a transport's own descriptor
                        await self._writable(loop, waiting)
                        continue
                    if sent == 0:
                        raise OSError(f"content file ended {end - offset} bytes early")
                    offset += sent
            finally:
                if waiting >= 0:
                    loop.remove_writer(waiting)
                    os.close(waiting)
        finally:
            transport.set_write_buffer_limits()

    async def _writable(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self._can_write = loop.create_future()
        self.deadline = self._server.now + self._server.limits.write
        loop.add_writer(fd, self.resume_writing)
        try:
            await self._can_write
        finally:
            loop.remove_writer(fd)
            self.deadline = float("inf")

    async def _send_file_by_copy(self, part: FilePart) -> None:
        loop = asyncio.get_running_loop()
        offset, end = part.offset, part.offset + part.length
        while offset < end:
            piece = await loop.run_in_executor(None, os.pread, part.fd, min(256 * 1024, end - offset), offset)
            if not piece:
                raise OSError(f"content file ended {end - offset} bytes early")
            self.transport.write(piece)
            offset += len(piece)
            await self._drain()

    def _refuse_and_close(self, status: int, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        reply = Reply(status, (("Content-Type", "text/plain; charset=utf-8"), *headers), reason.encode(), close=True)
        if not self.transport.is_closing():
            self.transport.write(encode_reply_head(reply, None, chunked=False) + reason.encode())
            self.transport.close()
        self._lost = True

    # -- called by the server ----------------------------------------------------------------------------------

    def expire(self) -> None:
        """A time limit has passed."""
        if self._body is not None and not self._body.complete:
            self._body.fail(IncompleteBody("no byte of the request body arrived in time"))
        self.transport.abort()

    @property
    def idle(self) -> bool:
        """Whether no request is being received or answered."""
        return not self._busy and not self._pending and self._body is None and self._head is None


_RWF_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)


def _in_memory(fd: int, start: int, end: int) -> bool:
    """Whether the first and last byte of the range are in the page cache (True where the system cannot tell)."""
    if not _RWF_NOWAIT:
        return True
    probe = bytearray(1)
    try:
        os.preadv(fd, [probe], start, _RWF_NOWAIT)
        os.preadv(fd, [probe], end - 1, _RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:  # not every file system can
        return True
    return True


def _bring_in(fd: int, start: int, end: int) -> None:
    while start < end:
        start += len(os.pread(fd, min(512 * 1024, end - start), start)) or end


class HttpServer:
    """Listens, keeps the connections and their time limits."""

    def __init__(self, service: Service, limits: Limits | None = None) -> None:
        self.service = service
        self.limits = limits or Limits()
        self.now = 0.0
        """Coarse clock of the time limits (seconds, one step behind at most)."""
        self.close_after_reply: set[_Connection] = set()
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[asyncio.Server] = []
        self._ticker: asyncio.TimerHandle | None = None

    async def listen(self, sock: socket.socket) -> None:
        """Accept connections on a bound socket."""
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        self._listeners.append(await loop.create_server(lambda: _Connection(self), sock=sock, backlog=1024))
        if self._ticker is None:
            self._tick()

    async def stop(self, grace: float = 10.0) -> None:
        """Accept no more, let running requests finish within `grace` seconds, close everything."""
        for listener in self._listeners:
            listener.close()
        for connection in list(self._connections):
            if connection.idle:
                connection.transport.close()
            else:
                self.close_after_reply.add(connection)
        deadline = asyncio.get_running_loop().time() + grace
        while self._connections and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
            for connection in list(self._connections):
                if connection.idle:
                    connection.transport.close()
        for connection in list(self._connections):
            connection.transport.abort()
        if self._ticker is not None:
            self._ticker.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._connections)

    def admit(self, connection: _Connection) -> bool:
        """Note a new connection; False if there are too many."""
        self._connections.add(connection)
        return len(self._connections) <= self.limits.connections

    def forget(self, connection: _Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self.close_after_reply.discard(connection)

    def spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        """Run the rest of an answer as a task."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        for connection in [c for c in self._connections if c.deadline < self.now]:
            connection.expire()
        self._ticker = loop.call_later(0.5, self._tick)
