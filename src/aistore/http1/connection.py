"""One client's connection to the server: requests in, answers out, in order."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from typing import TYPE_CHECKING, Final, cast

from aistore.http1.failures import BadBody, BodyTooLong, MemoryFull
from aistore.http1.head import CHUNKED, BadHead, find_head_end, parse_request
from aistore.http1.incoming import Body, BrokenRequest, Request
from aistore.http1.message import FilePart, Pending, Reply, encode_reply_head
from aistore.http1.outflow import Outflow
from aistore.http1.pace import Pace
from aistore.http1.sending import send_file

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from aistore.http1.head import RequestHead
    from aistore.http1.server import Answer, HttpServer

__all__ = ["Connection"]

SMALL_BODY: Final = 64 * 1024
"""A body of up to this many bytes is received whole before the service is called."""

_PIPELINED_MAX: Final = 256 * 1024  # bytes of further requests kept while one is being answered
_AT_ONCE: Final = 64  # pipelined requests that are served before other connections get their turn
_CRUMBS: Final = 16 * 1024  # received at once of a body in tiny chunks: each costs the loop a microsecond
_blank_lines: Final = cast("Callable[[bytes], re.Match[bytes]]", re.compile(rb"(?:\r\n)*").match)
_TLS_HANDSHAKE: Final = b"\x16\x03"  # how a client begins that expects TLS
_TRY_AGAIN: Final = (("Retry-After", "1"),)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(Outflow):
    """One client's connection.

    It goes from request to request: a head, then its body (`_head` and `_pending` while a small one arrives, `_body` for a large one),
    then its answer (`_busy` while it is made and sent). What arrives meanwhile waits in `_pending`. `_over` means that nothing the client
    may still send counts.
    """

    __slots__ = (
        "_body", "_busy", "_continue", "_ended", "_head", "_head_began", "_held", "_intake", "_over", "_paused", "_pending", "_scanned",
        "_service", "close_after_reply", "memory", "origin", "peer",
    )  # fmt: skip

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server)
        self._service = server.service
        self._pending = b""
        self._scanned = 0
        self._head_began = False  # some of a head is here, and its time runs
        self._head: RequestHead | None = None
        self._body: Body | None = None
        self._held = 0  # memory counted for a small body that is still to come
        self._intake: Pace  # of the body that is received
        self.memory = server.memory
        self._busy = False
        self._continue = False  # the client waits for leave to send the body
        self._paused = False  # nothing is received
        self._ended = False  # the client has sent all that it will
        self._over = False
        self.close_after_reply = False
        self.peer = ""
        self.origin = ""
        """The address that it counts for, if it counts for one."""

    # -- asyncio callbacks -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if peer else ""
        with contextlib.suppress(OSError):  # macOS refuses it when the client is gone already
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.deadline = self._server.now + self._server.limits.head
        if reason := self._server.admit(self):
            self._refuse(503, reason, _TRY_AGAIN)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self._lost = self._over = True
        self._server.forget(self)
        self._let_go()
        self._count_unread(0)
        if self._body is not None:
            self._body.fail(BrokenRequest("the client closed the connection before its request was complete"))
        self._wake()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio's signature)
        if self._body is not None:
            sink = self._body.sink()
            if sink is not None:
                return sink
            if self._body.crumbs:
                return self._server.receive_view[:_CRUMBS]
        # All connections of a loop receive into one buffer, because each consumes it before the loop goes on.
        return self._server.receive_view

    def buffer_updated(self, nbytes: int) -> None:
        if self._over:
            return
        body = self._body
        if body is not None and not body.complete:
            self.deadline = self._intake.moved(nbytes, self._server.now)
            if body.sink() is not None:
                body.received(nbytes)
            else:
                self._feed_body(body, bytes(self._server.receive_view[:nbytes]))
            return
        data = bytes(self._server.receive_view[:nbytes])
        if self._pending:
            data = self._pending + data
            self._pending = b""
        if self._busy or self._blocked:
            self._pending = data
            if len(data) > _PIPELINED_MAX:
                self._pause()
            return
        self._advance(data)

    def eof_received(self) -> bool:
        self._ended = True
        body = self._body
        if body is not None and not body.complete:
            body.fail(BrokenRequest("the client ended its request before it was complete"))
            self.close_after_reply = True
        # A client may end its side after its requests and still read the answers.
        return not self._over and (self._busy or (self._blocked and bool(self._pending)))

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._busy:
            self.deadline = float("inf")
        elif not self._over:
            self.deadline = self._server.now + self._server.limits.idle
            self._go_on()

    # -- reading -----------------------------------------------------------------------------------------------

    def _pause(self) -> None:
        if not self._paused and not self._ended and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def _unpause(self) -> None:
        if self._paused and not self._ended and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def want_body(self) -> None:
        """A handler waits for body bytes."""
        if self._continue:
            self._continue = False
            self.transport.write(_CONTINUE)
        self.deadline = self._intake.wait(self._server.now)
        self._unpause()

    def had_body(self) -> None:
        """A handler has what it waited for, and may take its time with it."""
        self.deadline = float("inf")
        self._pause()

    def _go_on(self) -> None:
        """Serve what has arrived meanwhile."""
        self._unpause()
        data, self._pending = self._pending, b""
        self._advance(data)

    def _advance(self, data: bytes | None) -> None:
        """Serve the requests in `data` until one has to wait: for more bytes, for its answer, or for the client to take answers."""
        served = 0
        try:
            while data:
                if self._blocked:
                    self._pending = data
                    self._pause()
                    return
                if served == _AT_ONCE:  # others wait
                    self._pending = data
                    self._be_busy()
                    asyncio.get_running_loop().call_soon(lambda: self._advance(self._answered()))
                    return
                data = self._take_request(data)
                served += 1
            if served and data is not None and not self._blocked:  # all are answered
                self.deadline = self._server.now + self._server.limits.idle
        except BadHead as error:
            self._refuse(error.status, error.reason, _TRY_AGAIN if error.status == 503 else ())
        if self._ended and not self._busy and not self._lost:
            self.transport.close()

    def _take_request(self, data: bytes) -> bytes | None:
        """Serve the first request in `data`; what follows it, or None if that has to wait."""
        head = self._head
        if head is None:
            if data.startswith(b"\r\n"):  # RFC 9112 2.2: ignored before a request line
                data = data[_blank_lines(data).end() :]
                if not data:
                    self._scanned = 0
                    return None
            end = find_head_end(data, self._scanned)
            if end < 0:
                if data.startswith(_TLS_HANDSHAKE):
                    raise BadHead(400, "client sent a TLS handshake to a plain HTTP server")
                if not self._head_began and data:
                    self._head_began = True
                    self.deadline = self._server.now + self._server.limits.head
                self._pending, self._scanned = data, len(data)
                return None
            self._scanned, self._head_began = 0, False
            head = parse_request(data[:end])
            data = data[end:]
            self._check_head(head)
            if self._is_first_leg(head, data):
                return None
        length = head.headers.length
        if length == CHUNKED or length > SMALL_BODY:
            return self._begin_body(head, length, data)
        if length > len(data):
            if self._head is None:
                if not self.memory.take(length):
                    raise BadHead(503, "too many request bodies are held in memory")
                self._held = length
                self.deadline = self._server.now + self._server.limits.body + length / self._server.limits.rate
            self._give_leave()
            self._head, self._pending = head, data
            return None
        self._give_leave()
        self._head = None
        if self._held:
            self._let_go()
        content = b""
        if length > 0:
            content, data = data[:length], data[length:]
        if self._dispatch(Request(head, content, None, self)):
            return data
        self._pending = data
        return None

    def _let_go(self) -> None:
        self.memory.give(self._held)
        self._held = 0

    def _give_leave(self) -> None:
        # It may be left out when the body is here already; the reference sends it.
        if self._continue:
            self._continue = False
            self.transport.write(_CONTINUE)

    def _check_head(self, head: RequestHead) -> None:
        expect = head.headers.get("expect")
        if expect is not None and not head.old:
            if expect.lower() != "100-continue":
                raise BadHead(417, "unknown expectation")
            self._continue = True
        if head.headers.length > self._server.limits.max_body:
            raise BadHead(413, f"request body is longer than {self._server.limits.max_body} bytes")

    def _is_first_leg(self, head: RequestHead, data: bytes) -> bool:
        """Answer a request whose body, of which nothing is here, comes only after a redirect, if it is one."""
        ask = self._server.is_first_leg
        if ask is None or data or self._continue or head.method != "PUT":
            return False
        request = Request(head, b"", None, self)
        if not ask(request):
            return False
        request.first_leg = True
        self.close_after_reply = True
        self._dispatch(request)
        return True

    def _begin_body(self, head: RequestHead, length: int, data: bytes) -> bytes | None:
        """Serve a request whose body is read by its handler."""
        body = Body(self, length, self._server.limits.max_body)
        limits = self._server.limits
        self._intake = Pace(limits.body, limits.rate, self._server.now)
        request = Request(head, None, body, self)
        if data:
            try:
                self._pending = body.feed(data)
            except BodyTooLong as error:
                self._refuse(413, str(error))
                return None
            except BadBody as error:
                self._refuse(400, f"malformed chunked body: {error}")
                return None
        self._body = body
        self._pause()
        return self._answered() if self._dispatch(request) else None

    def _feed_body(self, body: Body, data: bytes) -> None:
        try:
            rest = body.feed(data)
        except BadBody:
            if self._busy:  # whoever reads it is told
                self.close_after_reply = True
            else:  # the answer is out already
                self._end()
            return
        if self._busy:
            self._pending = rest
            if not body.waited_for:
                self._pause()
            return
        body.discard()
        if body.complete:
            self._advance(self._answered(rest))

    # -- answering ---------------------------------------------------------------------------------------------

    def _dispatch(self, request: Request) -> bool:
        """Call the service; True if the answer is out and the next request may be served."""
        try:
            answer = self._service.handle(request)
        except Exception as error:
            answer = self._service.refuse(request, error)
        if type(answer) is bytes:
            head = request.head
            if head.keep_alive and not (self.close_after_reply or self._continue or head.old):
                self.transport.write(answer)
                return True
            self._send_bytes(head, answer)
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
        return not self._busy and not self._over

    def _be_busy(self) -> None:
        self._busy = True
        self.deadline = float("inf")

    def _finish(self, request: Request, pending: Pending) -> None:
        try:
            answer = pending.render(pending.future.result())
        except (Exception, asyncio.CancelledError) as error:
            answer = self._service.refuse(request, error)
        self._send_made(request, answer)
        self._advance(self._answered())

    async def _await(self, request: Request, coroutine: Coroutine[object, object, Answer]) -> None:
        try:
            answer = await coroutine
        except Exception as error:
            answer = self._service.refuse(request, error)
        finally:
            if request.body is not None:
                request.body.release()
        if not isinstance(answer, bytes) and not isinstance(answer.body, bytes):
            await self._send_slowly(request, answer)
            return
        self._send_made(request, answer)
        self._advance(self._answered())

    def _answered(self, rest: bytes = b"") -> bytes | None:
        """The answer is out: what to serve next, or None if the rest of an unread body comes first, or nothing comes any more."""
        self._busy = False
        if self._over:
            return None
        body = self._body
        if body is not None:
            body.discard()
            if not body.complete:
                if body.failed:
                    self._end()
                    return None
                self.deadline = self._intake.wait(self._server.now)
                self._unpause()
                return None
            self._body = None
            if self.close_after_reply:
                self._end()
                return None
        if not self._blocked:
            self.deadline = self._server.now + self._server.limits.idle
        self._unpause()
        data, self._pending = self._pending + rest, b""
        if not data and self._ended:
            self._end()
        return data

    def _closes(self, head: RequestHead) -> bool:
        """Whether the connection ends with this answer."""
        # While the client waits for leave to send a body, nobody can tell whether what comes next is the body or a request.
        return not head.keep_alive or self.close_after_reply or self._continue

    def _send_made(self, request: Request, answer: bytes | Reply) -> None:
        """Send an answer that took more than a call of the service."""
        if isinstance(answer, Reply):
            self._send(request, answer)
        else:
            self._service.answered(request, int(answer[9:12]), len(answer))
            self._send_bytes(request.head, answer)

    def _send_bytes(self, head: RequestHead, answer: bytes) -> None:
        if self._lost:
            return
        if self._closes(head):
            self.transport.write(answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            self._end_after_body()
        elif head.old:
            self.transport.write(answer.replace(b"\r\n", b"\r\nConnection: keep-alive\r\n", 1))
        else:
            self.transport.write(answer)

    def _send(self, request: Request, reply: Reply) -> None:
        assert isinstance(reply.body, bytes)
        if len(reply.body) > SMALL_BODY and not self._server.unread.has_room(len(reply.body)):
            reply = self._service.refuse(request, MemoryFull("too many answers wait for clients that do not take them"))
        closes = reply.close or self._closes(request.head)
        data = encode_reply_head(reply, request.head, chunked=False, close=closes)
        if request.method != "HEAD":
            data += cast("bytes", reply.body)
        self._service.answered(request, reply.status, len(data), whole=not self._lost)
        if self._lost:
            return
        self.transport.write(data)
        if closes:
            self._end_after_body()

    async def _send_slowly(self, request: Request, reply: Reply) -> None:
        """Send a body that is a file or is made while it is sent."""
        body = reply.body
        assert not isinstance(body, bytes)
        is_file = isinstance(body, FilePart)
        # HTTP/1.0 knows no chunks: without a length, there the end of the connection is the end of the body.
        sized = is_file or any(name == "Content-Length" for name, _ in reply.headers)
        chunked = not sized and not request.head.old
        closes = reply.close or self._closes(request.head) or not (sized or chunked)
        whole = False
        sent = 0
        try:
            self.check_alive()
            head = encode_reply_head(reply, request.head, chunked=chunked, close=closes)
            self.transport.write(head)
            sent = len(head)
            if request.method != "HEAD":
                if isinstance(body, FilePart):
                    await send_file(self, body)
                    sent += body.length
                else:
                    sent += await self._send_pieces(body, chunked)
            whole = True
        except ConnectionError:
            await self._break_off()
            return
        except Exception as error:
            # The head is out: all that is left is to cut the body short, so that it is not taken for whole.
            self._service.broke_off(request, error)
            await self._break_off()
            return
        finally:
            self._service.answered(request, reply.status, sent, whole=whole)
            if isinstance(body, FilePart):
                body.close()
            elif (
                close := getattr(body, "aclose", None)
            ) is not None:  # a generator holds what it reads from until it ends
                await close()
        if closes:
            self._end_after_body()
        self._advance(self._answered())

    # -- ending ------------------------------------------------------------------------------------------------

    def _refuse(self, status: int, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Answer what is no request, and end: nobody can tell where the next one would begin."""
        self._server.heads_refused += 1
        reply = Reply(status, (("Content-Type", "text/plain; charset=utf-8"), *headers), reason.encode())
        self.transport.write(encode_reply_head(reply, None, chunked=False, close=True) + reason.encode())
        self._end()

    def _end_after_body(self) -> None:
        """The last answer is out; the connection ends when the client has sent what belongs to its request."""
        self.close_after_reply = True
        if self._body is None or self._body.complete or self._body.failed or self._continue:
            self._end()

    def _end(self) -> None:
        """Close so that the client can still read what it was sent.

        A socket that is closed with unread bytes in it resets the connection, which destroys answers on their way. So only this side
        is ended first, and what the client still sends is dropped for a moment.
        """
        if self._over:
            return
        self._over = True
        self._pending = b""
        transport = self.transport
        if self._ended or not transport.can_write_eof() or transport.is_closing():
            transport.close()
            return
        try:
            transport.write_eof()
        except OSError:  # the client is gone already
            transport.abort()
            return
        self.deadline = self._server.now + self._server.limits.linger
        self._unpause()

    def refused(self) -> None:
        """The client was told why there is no connection: a moment to read it, nothing else counts."""
        self._over = True
        self.deadline = self._server.now + self._server.limits.linger

    def expire(self) -> None:
        """A time limit has passed."""
        if self._blocked and not self._over and self.takes_more():
            return
        if self._body is not None and not self._body.complete:
            self._body.fail(BrokenRequest("no byte of the request body arrived in time"))
        self.cut()

    def cut(self) -> None:
        """End at once."""
        if self._over or not (self._blocked or self._waiter is not None):
            self.transport.abort()
        else:
            self.drop()

    @property
    def is_at_work(self) -> bool:
        """Whether a request is under way: some of it came, and its answer is not out."""
        return not self._over and (self._busy or self._blocked or self._head_began or self._head is not None)

    def end_soon(self) -> None:
        """The server stops: finish the request that is under way, and begin no other."""
        self.close_after_reply = True
        now, limits = self._server.now, self._server.limits
        if self.deadline != float("inf"):  # it waits for the client
            self.deadline = min(self.deadline, now + max(limits.body, limits.write))
        if not self.is_at_work and not self.transport.is_closing():
            self._over = True
            self.transport.close()
