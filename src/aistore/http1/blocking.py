"""One HTTP/1.1 client connection on a blocking socket.

Timeouts are the kernel's (`SO_RCVTIMEO`, `SO_SNDTIMEO`): a socket with a Python timeout polls before every call, which costs a second
system call each. Bodies go from the socket straight into the memory that the caller gets.
"""

from __future__ import annotations

import os
import socket
import struct
import weakref
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast

from aistore.http1.answer import read_head
from aistore.http1.body import ChunkedBody, ClosingBody, SizedBody
from aistore.http1.failures import BodySourceChanged, ConnectTimedOut, HeadCut, NoAnswer, ReadTimedOut, WriteTimedOut
from aistore.http1.head import CHUNKED, MAX_HEAD, NO_LENGTH, BadHead, ResponseHead, parse_response, response_framing
from aistore.http1.payload import EXPECT_WAIT, BytesPayload, FilePayload, Payload

if TYPE_CHECKING:
    import ssl

    from aistore.http1.body import BlockingBody
    from aistore.http1.tls_socket import TlsSocket

__all__ = ["BlockingConnection", "TlsConnection"]

FIRST_READ: Final = 64 * 1024
"""Bytes asked for with the head: most small objects come whole with it."""

SENDFILE_PIECE: Final = 64 * 1024 * 1024
_MORE: Final[int] = getattr(socket, "MSG_MORE", 0)


class BlockingConnection:
    """A plain TCP connection: `send` a request, `receive` its answer, one after the other.

    Whoever uses it closes it after any exception: nothing is known then about what is on the wire.
    """

    __slots__ = ("__weakref__", "_last", "_recv", "_sock", "_timeout", "pid", "reusable")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._recv = sock.recv
        self._timeout: float | None = None
        self._last = False
        # Dropped with its pool or an abandoned response: that is no leak, so no ResourceWarning. A `__del__` would come too late where
        # both lie in a cycle: the collector may finalize the socket first.
        weakref.finalize(self, sock.close).atexit = False
        self.pid = os.getpid()
        """The process that opened it: after a fork, parent and child must not both use it."""
        self.reusable = True
        """True when the last answer was read to its end and the server keeps the connection."""

    @classmethod
    def connect(cls, host: str, port: int, timeout: float | None) -> BlockingConnection:
        """Connect within `timeout` seconds for each address of `host`; `ConnectTimedOut` or the system's `OSError`."""
        sock = _open(host, port, timeout)
        sock.settimeout(None)
        return cls(sock)

    def set_timeout(self, seconds: float | None) -> None:
        """Seconds without progress, receiving or sending, after which a call gives up; None waits for ever.

        A body that stalls after a part of what was asked for is given up after twice the time: the kernel then returns the part first.
        """
        if seconds == self._timeout:
            return
        value = _timeval(seconds)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
        self._timeout = seconds

    def ended(self, keep_alive: bool) -> None:
        """The answer was read to its end."""
        self.reusable = keep_alive and not self._last

    def close(self) -> None:
        """Close the socket; harmless when closed."""
        self.reusable = False
        self._sock.close()

    def is_alive(self) -> bool:
        """False when the peer closed this idle connection or sent something nobody asked for."""
        return self._is_silent(self._sock)

    @staticmethod
    def _is_silent(sock: socket.socket) -> bool:
        try:
            socket.socket.recv(sock, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _has_answer(self) -> bool:
        """Whether something came that can be read."""
        with suppress(OSError):
            return bool(socket.socket.recv(self._sock, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        return False

    # -- sending ------------------------------------------------------------------------------------------------------------------

    def send_head(self, head: bytes) -> None:
        """Send a request without a body. `NoAnswer` when the peer is gone, `WriteTimedOut`."""
        self.reusable = False
        try:
            self._sock.sendall(head)
        except ConnectionError as e:
            raise NoAnswer("the server closed the connection") from e
        except (BlockingIOError, TimeoutError) as e:
            raise WriteTimedOut("the server takes no data") from e

    def send(
        self, method: str, head: bytes, payload: Payload, *, expect: bool
    ) -> tuple[ResponseHead, bytes | BlockingBody] | None:
        """Send a request with its body; the answer if it came before the body was sent (this connection then ends with it), else None.

        With `expect` the head announces `Expect: 100-continue`, and the body waits a second at most for the server's word. Raises as
        `send_head`, and what reading the body's source raises.
        """
        self.reusable = False
        if expect:
            self.send_head(head)
            early = self._await_continue(method)
            if early is not None:
                return early
            head = b""
        try:
            self._send_payload(head, payload)
        except (NoAnswer, WriteTimedOut):
            # A server that refuses a body answers and closes: its answer tells more than the broken pipe.
            early = self._answer_of_refusal(method)
            if early is None:
                raise
            return early
        return None

    def _send_payload(self, head: bytes, payload: Payload) -> None:
        try:
            if isinstance(payload, BytesPayload):
                self._send_buffers(head, payload.view)
            elif isinstance(payload, FilePayload) and payload.descriptor >= 0 and self._can_sendfile:
                self._send_file(head, payload)
            else:
                self._send_pieces(head, payload)
        except ConnectionError as e:
            raise NoAnswer("the server closed the connection while the body was sent") from e
        except (BlockingIOError, TimeoutError) as e:
            raise WriteTimedOut("the server takes no data") from e

    def _send_buffers(self, head: bytes, body: memoryview) -> None:
        sent = self._sock.sendmsg((head, body)) if head else self._sock.send(body)
        total = len(head) + len(body)
        if sent < total:
            if sent < len(head):
                self._sock.sendall(head[sent:])
                sent = len(head)
            self._sock.sendall(body[sent - len(head) :])

    @property
    def _can_sendfile(self) -> bool:
        return hasattr(os, "sendfile")

    def _send_file(self, head: bytes, payload: FilePayload) -> None:
        """Send head and file; the file's pages never enter this process."""
        assert payload.length is not None  # a descriptor implies a length
        if head:
            self._sock.sendall(head, _MORE if payload.length else 0)
        payload.started = True
        out, offset, end = self._sock.fileno(), payload.offset, payload.offset + payload.length
        while offset < end:
            sent = os.sendfile(out, payload.descriptor, offset, min(SENDFILE_PIECE, end - offset))
            if sent == 0:
                raise BodySourceChanged(
                    f"the file to send ended {end - offset} bytes early: it was {payload.length} bytes long when the request started"
                )
            offset += sent
        payload.sent_by_descriptor(payload.length)

    def _send_pieces(self, head: bytes, payload: Payload) -> None:
        pieces = payload.passing_pieces() if isinstance(payload, FilePayload) else payload.pieces()
        if payload.length is not None:
            for piece in pieces:
                self._send_buffers(head, memoryview(piece).cast("B"))
                head = b""
            if head:
                self._sock.sendall(head)
            return
        for piece in pieces:
            view = memoryview(piece).cast("B")
            self._send_buffers(head + b"%x\r\n" % len(view), view)
            head = b"\r\n"
        self._sock.sendall(head + b"0\r\n\r\n")

    def _await_continue(self, method: str) -> tuple[ResponseHead, bytes | BlockingBody] | None:
        """The final answer that came instead of `100 Continue`; None when the body is to be sent."""
        timeout = self._timeout
        self.set_timeout(EXPECT_WAIT if timeout is None else min(EXPECT_WAIT, timeout))
        try:
            data = self._receive()
        except ReadTimedOut:
            return None
        finally:
            self.set_timeout(timeout)
        if not data:
            raise NoAnswer("the server closed the connection instead of asking for the body")
        self._last = True
        answer = self._answer(method, data, stop_at_continue=True)
        self._last = answer is not None
        return answer

    def _answer_of_refusal(self, method: str) -> tuple[ResponseHead, bytes | BlockingBody] | None:
        self._last = True
        with suppress(OSError, BadHead):
            if self._has_answer():
                return self.receive(method)
        return None

    # -- receiving ----------------------------------------------------------------------------------------------------------------

    def receive(self, method: str) -> tuple[ResponseHead, bytes | BlockingBody]:
        """The answer to the request sent: its head, and its body as bytes when it came whole with the head, else to be read.

        Raises `NoAnswer` when the connection ended before the first byte, `ReadTimedOut`, `BadHead`, or the system's `OSError`.
        """
        try:
            data = self._recv(FIRST_READ)
        except (BlockingIOError, TimeoutError) as e:
            raise ReadTimedOut("no answer") from e
        except ConnectionError as e:
            raise NoAnswer("the server reset the connection instead of answering") from e
        if not data:
            raise NoAnswer("the server closed the connection without an answer")
        answer = self._answer(method, data)
        assert answer is not None  # None only for stop_at_continue
        return answer

    def _answer(
        self, method: str, data: bytes, *, stop_at_continue: bool = False
    ) -> tuple[ResponseHead, bytes | BlockingBody] | None:
        end = data.find(b"\r\n\r\n") + 4
        if 4 <= end <= MAX_HEAD:
            head = parse_response(data[:end])
            if head.status >= 200:
                return head, self._body_of(method, head, data[end:])
        steps = read_head(data, stop_at_continue=stop_at_continue)
        try:
            next(steps)
            while True:
                steps.send(self._receive())
        except StopIteration as found:
            if found.value is None:
                return None
            head, surplus = found.value
            return head, self._body_of(method, head, surplus)

    def _body_of(self, method: str, head: ResponseHead, surplus: bytes) -> bytes | BlockingBody:
        length = response_framing(head, method)
        if length == len(surplus):
            self.ended(head.keep_alive)
            return surplus
        if length >= 0:
            if len(surplus) > length:
                return surplus[:length]
            return SizedBody(self, length, surplus, head.keep_alive)
        if length == CHUNKED:
            return ChunkedBody(self, surplus, head.keep_alive)
        assert length == NO_LENGTH
        return ClosingBody(self, surplus)

    def _receive(self) -> bytes:
        try:
            return self._recv(FIRST_READ)
        except ConnectionError as e:
            raise HeadCut("reset within the head") from e
        except (BlockingIOError, TimeoutError) as e:
            raise ReadTimedOut("the answer stalled") from e

    def receive_some(self, size: int) -> bytes:
        """At most `size` bytes of a body as soon as there are any; empty at the end. `ReadTimedOut` or `OSError`."""
        try:
            return self._recv(size)
        except (BlockingIOError, TimeoutError) as e:
            raise ReadTimedOut("the body stalled") from e

    def receive_exactly(self, size: int) -> bytes:
        """`size` bytes of a body in one object; fewer after a signal, a timeout or the end, none at the end."""
        try:
            return self._recv(size, socket.MSG_WAITALL)
        except (BlockingIOError, TimeoutError) as e:
            raise ReadTimedOut("the body stalled") from e

    def receive_into(self, view: memoryview) -> int:
        """Fill `view`; fewer bytes after a signal, a timeout or the end, 0 at the end."""
        try:
            return self._sock.recv_into(view, 0, socket.MSG_WAITALL)
        except (BlockingIOError, TimeoutError) as e:
            raise ReadTimedOut("the body stalled") from e


class TlsConnection(BlockingConnection):
    """The same over TLS, which knows neither scattered sends nor `MSG_WAITALL`."""

    __slots__ = ("_tls",)

    def __init__(self, tls: TlsSocket) -> None:
        super().__init__(cast("socket.socket", tls))  # all that the base class uses of one
        self._tls = tls

    @classmethod
    def handshake(cls, host: str, port: int, timeout: float | None, context: ssl.SSLContext) -> TlsConnection:
        """Connect and shake hands within `timeout` seconds each; `ssl.SSLError` when the peer is not who it should be."""
        from aistore.http1.tls_socket import TlsSocket

        sock = _open(host, port, timeout)
        try:
            tls = TlsSocket(sock, context, host)
        except TimeoutError as e:
            sock.close()
            raise ConnectTimedOut("TLS handshake") from e
        except BaseException:
            sock.close()
            raise
        sock.settimeout(None)
        return cls(tls)

    def is_alive(self) -> bool:
        # TLS data that nobody asked for counts as an end too: it may be the peer's.
        return self._tls.is_quiet() and self._is_silent(self._tls.raw)

    def _has_answer(self) -> bool:
        return not self._tls.is_quiet() or not self._is_silent(self._tls.raw)

    @property
    def _can_sendfile(self) -> bool:
        return False

    def _send_buffers(self, head: bytes, body: memoryview) -> None:
        # The beginning of a body goes with its head: a server sees that the client does not wait for a redirect (protocol/00 9.5).
        with_head = min(len(body), max(0, FIRST_READ - len(head))) if head else 0
        if head:
            with body[:with_head] as first:
                self._tls.sendall(head + first)
        with body[with_head:] as rest:
            self._tls.sendall(rest)

    def receive_exactly(self, size: int) -> bytes:
        return self.receive_some(size)

    def receive_into(self, view: memoryview) -> int:
        try:
            return self._tls.recv_into(view)
        except (BlockingIOError, TimeoutError) as e:
            raise ReadTimedOut("the body stalled") from e


def _open(host: str, port: int, timeout: float | None) -> socket.socket:
    try:
        sock = socket.create_connection((host, port), timeout)
    except TimeoutError as e:
        raise ConnectTimedOut(f"no connection to {host}:{port} within {timeout:g} s" if timeout else str(e)) from e
    except UnicodeError as e:
        raise socket.gaierror(socket.EAI_NONAME, "no valid host name") from e
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@lru_cache(maxsize=64)
def _timeval(seconds: float | None) -> bytes:
    if seconds is None:
        return struct.pack("@ll", 0, 0)
    whole = int(seconds)
    micros = int((seconds - whole) * 1e6)
    # Zero means "no timeout" to the kernel.
    return struct.pack("@ll", whole, micros if whole or micros else 1)
