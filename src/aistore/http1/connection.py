"""One client's connection to the server: requests in, answers out, in order."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Final, cast

from aistore.http1.failures import BadBody
from aistore.http1.head import CHUNKED, BadHead, find_head_end, parse_request
from aistore.http1.incoming import Body, IncompleteBody, Request
from aistore.http1.message import FilePart, Pending, Reply, encode_reply_head
from aistore.http1.sending import send_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from aistore.http1.head import RequestHead
    from aistore.http1.message import BytesLike
    from aistore.http1.server import Answer, HttpServer

__all__ = ["Connection"]

logger = logging.getLogger(__name__)

SMALL_BODY: Final = 64 * 1024
"""A body of up to this many bytes is received whole before the service is called."""

# All connections receive into one buffer, because each consumes it before the loop goes on.
_RECEIVE_VIEW: Final = memoryview(bytearray(256 * 1024))
_PIPELINED_MAX: Final = 256 * 1024  # bytes of further requests kept while one is being answered


class Connection(asyncio.BufferedProtocol):
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
                if self._continue:  # it may be left out when the body is here already; the reference sends it
                    self._continue = False
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
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
                    await send_file(self, body)
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
            await self.drain()
        if chunked:
            self.transport.write(b"0\r\n\r\n")

    def check_alive(self) -> None:
        """Raise `ConnectionResetError` if the client is gone."""
        if self._lost:
            raise ConnectionResetError("the client closed the connection")

    async def drain(self) -> None:
        """Wait until more may be written."""
        if (
            self._can_write is None
            and self.transport.get_write_buffer_size() > self.transport.get_write_buffer_limits()[1]
        ):
            self.pause_writing()
        if self._can_write is not None:
            await self._can_write
        self.check_alive()

    async def writable(self, fd: int) -> None:
        """Wait until a duplicate of the socket's descriptor takes more bytes."""
        loop = asyncio.get_running_loop()
        self.pause_writing()
        assert self._can_write is not None
        loop.add_writer(fd, self.resume_writing)
        try:
            await self._can_write
        finally:
            loop.remove_writer(fd)
            self.deadline = float("inf")

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
