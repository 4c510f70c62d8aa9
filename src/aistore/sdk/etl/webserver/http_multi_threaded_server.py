"""Transformers on the standard library's server: one process, one thread for each connection."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Final

from aistore.http1.head import CHUNKED, MAX_HEAD, BadHead, parse_request
from aistore.sdk.etl.webserver._failures import ClientLeft
from aistore.sdk.etl.webserver._listening import BACKLOG, listening_socket
from aistore.sdk.etl.webserver._order import order_of
from aistore.sdk.etl.webserver._steps import transformation
from aistore.sdk.etl.webserver._streams import streamed_transformation
from aistore.sdk.etl.webserver._visitors import REFUSAL, is_stranger
from aistore.sdk.etl.webserver.base_etl_server import ETLServer
from aistore.wire import etl
from aistore.wire.headers import TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aistore.http1.head import RequestHead
    from aistore.sdk.etl.webserver._order import Order
    from aistore.sdk.etl.webserver._steps import Bytes, Result

__all__ = ["HTTPMultiThreadedServer", "ThreadedHTTPServer"]

_DRAINED: Final = 1024 * 1024
"""Bytes of a body that are read to keep its connection when nobody wanted them."""

_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,15}")
_CHUNK_LINE: Final = 4096
_IDLE_SECONDS: Final = 120.0
_PIECE: Final = 256 * 1024


class _Body:
    """The body of a request, as a file."""

    def __init__(self, handler: HTTPMultiThreadedServer.RequestHandler, length: int) -> None:
        self._file = handler.rfile
        self.left = length

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, all with -1; raises ConnectionError if the client leaves before the end."""
        wanted = self.left if size < 0 else min(size, self.left)
        if not wanted:
            return b""
        data = self._take(wanted)
        self.left -= len(data)
        if len(data) < wanted:
            raise ClientLeft(f"the body ended {self.left} bytes early")
        return data

    def _take(self, wanted: int) -> bytes:
        try:
            return self._file.read(wanted)
        except (ConnectionError, TimeoutError) as error:
            raise ClientLeft(f"the body stalled or broke off: {error}") from error

    def close(self) -> None:
        """Nothing: what is left is read, or given up, after the answer."""


class _ChunkedBody(_Body):
    """A body in chunks; `left` is 0 at its end."""

    def __init__(self, handler: HTTPMultiThreadedServer.RequestHandler) -> None:
        super().__init__(handler, 1)
        self._chunk = 0

    def read(self, size: int = -1, /) -> bytes:
        found: list[bytes] = []
        wanted = size
        while self.left and wanted:
            if not self._chunk:
                self._next_chunk()
                continue
            data = self._take(self._chunk if wanted < 0 else min(wanted, self._chunk))
            if not data:
                raise ClientLeft("the body ended within a chunk")
            found.append(data)
            self._chunk -= len(data)
            wanted -= len(data) if wanted > 0 else 0
            if not self._chunk:
                self._line()
        return b"".join(found)

    def _next_chunk(self) -> None:
        text = self._line().partition(b";")[0].strip()
        if _CHUNK_SIZE.fullmatch(text) is None:
            self.left = 0
            raise ClientLeft("malformed chunk")
        self._chunk = int(text, 16)
        if not self._chunk:
            while self._line():
                pass  # trailers
            self.left = 0

    def _line(self) -> bytes:
        try:
            line = self._file.readline(_CHUNK_LINE)
        except (ConnectionError, TimeoutError) as error:
            raise ClientLeft(f"the body stalled or broke off: {error}") from error
        if not line.endswith(b"\r\n"):
            self.left = 0
            raise ClientLeft("the body ended within a chunk")
        return line[:-2]


class ThreadedHTTPServer(ThreadingMixIn, HTTPServer):
    """Accepts connections for a transformer."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = BACKLOG
    allow_reuse_address = True

    def __init__(
        self,
        server_address: tuple[str, int],
        handler_class: type[BaseHTTPRequestHandler],
        etl_server: HTTPMultiThreadedServer,
    ) -> None:
        self.etl_server = etl_server
        super().__init__(server_address, handler_class, bind_and_activate=False)
        self.socket.close()
        self.socket = listening_socket(*server_address)
        self.server_address = self.socket.getsockname()[:2]
        # Workers may share the socket: another one may have taken the connection that this one was woken for.
        self.socket.setblocking(False)

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        connection.setblocking(True)
        return connection, address

    def handle_error(self, _: object, client_address: object) -> None:
        """Errors of one connection: those who left are no news."""
        import sys

        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            self.etl_server.logger.exception("connection of %s failed", client_address)


class HTTPMultiThreadedServer(ETLServer):
    """A transformer served by the standard library, with a thread for each connection; `transform` runs in these threads.

    `host` and `port` are where `start` listens, until SIGTERM or SIGINT. Connections are kept. No WebSocket.
    """

    def __init__(self, host: str = "0.0.0.0", port: int = 8000) -> None:  # noqa: S104  as documented; in a container it has to be
        super().__init__()
        self.host = host
        self.port = port

    def start(self) -> None:
        """Serve until SIGTERM or SIGINT; in the main thread, where signals arrive."""
        server = ThreadedHTTPServer((self.host, self.port), self.RequestHandler, self)

        def end(*_: object) -> None:
            # serve_forever() runs in this thread: shutdown() would wait for itself.
            threading.Thread(target=server.shutdown).start()

        previous = {}
        if threading.current_thread() is threading.main_thread():
            previous = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
        self.logger.info("Listening on %s:%d", *server.server_address[:2])
        try:
            server.serve_forever(poll_interval=0.2)
        finally:
            server.server_close()
            for number, handler in previous.items():
                signal.signal(number, handler)

    class RequestHandler(BaseHTTPRequestHandler):
        """One connection: health checks and transformations, one after the other."""

        server: ThreadedHTTPServer
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = _IDLE_SECONDS
        rbufsize = 64 * 1024

        def handle_one_request(self) -> None:
            """Read a head, and answer."""
            self.close_connection = True
            try:
                data = self._read_head()
                if not data:
                    return
                head = parse_request(data)
            except BadHead as bad:
                self._send(bad.status, bad.reason.encode(), {"Content-Type": TEXT})
                return
            except TimeoutError:
                return
            self.command, self.request_version = head.method, "HTTP/1.0" if head.old else "HTTP/1.1"
            fields = head.headers
            from_browser = "origin" in fields or "sec-fetch-site" in fields
            query = head.target.decode("latin-1").partition("?")[2]
            if is_stranger(fields.get("host", ""), from_browser, fields.get(etl.KEY.lower(), ""), query):
                self._send(403, REFUSAL, {"Content-Type": TEXT})
                return
            length = fields.length
            self.close_connection = not head.keep_alive
            if head.headers.get("expect", "").lower() == "100-continue":
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = _ChunkedBody(self) if length == CHUNKED else _Body(self, max(length, 0))
            if head.method == "GET" and head.target == b"/health":
                self._send(200, b"Running", {"Content-Type": self._etl.get_mime_type()})
            elif head.method in ("GET", "PUT"):
                self._transform(head, body)
            else:
                self._send_text(501, f"Unsupported method ({head.method!r})")
            self._drain(body)

        @property
        def _etl(self) -> HTTPMultiThreadedServer:
            return self.server.etl_server

        def _read_head(self) -> bytes:
            lines: list[bytes] = []
            total = 0
            while True:
                line = self.rfile.readline(MAX_HEAD)
                total += len(line)
                if not line:
                    return b""
                if line == b"\r\n" and not lines:
                    continue  # RFC 9112 2.2: a blank line before a request
                lines.append(line)
                if line == b"\r\n":
                    return b"".join(lines)
                if total > MAX_HEAD or not line.endswith(b"\r\n"):
                    raise BadHead(431 if total > MAX_HEAD else 400, "malformed or too long head")

        def _transform(self, head: RequestHead, body: _Body) -> None:
            server = self._etl
            path, _, query = head.target.decode("latin-1").partition("?")
            order: Order | None = None
            try:
                order = self._order(head, path, query)
                result = self._result(order, body, head.method == "PUT")
            except ClientLeft:
                self.close_connection = True
                return
            except ValueError as error:
                if order is not None:
                    self._fail(error, order, path)
                else:
                    self._send_text(400, f"Invalid pipeline header: {error}")
                return
            except Exception as error:
                self._fail(error, order, path)
                return
            headers = {**result.headers, "Content-Type": server.get_mime_type()}
            if isinstance(result.body, (bytes, bytearray, memoryview)):
                self._send(result.status, result.body, headers)
            else:
                self._send_pieces(result.body, headers, body)

        def _order(self, head: RequestHead, path: str, query: str) -> Order:
            from urllib.parse import unquote

            source = f"{self._etl.host_target}{path}" if head.method == "GET" else ""
            return order_of(path, unquote(path), query, head.headers.get(etl.NODE_URL.lower()), source)

        def _result(self, order: Order, body: _Body, has_body: bool) -> Result:
            server = self._etl
            if server.use_streaming:
                return streamed_transformation(server, order, body if has_body else None)
            return server._run(transformation(server, order, body.read() if has_body else None))

        def _fail(self, error: Exception, order: Order | None, path: str) -> None:
            failure = self._etl._failure(error, path, order)
            text = failure.text
            if failure.kind == "transform":
                text = f"Internal error during transformation: {text}"
            self._send_text(failure.status, text, dict(failure.headers))

        # -- answers --

        def _send_text(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
            self._send(status, text.encode(), {**(headers or {}), "Content-Type": TEXT})

        def _send(self, status: int, body: Bytes, headers: Mapping[str, str]) -> None:
            head = self._head(status, headers, f"Content-Length: {len(body)}\r\n" if status != 204 else "")
            if not body or status == 204:
                self.wfile.write(head)
            elif len(body) <= _PIECE:
                self.wfile.write(head + body)
            else:
                self.wfile.write(head)
                self.wfile.write(body)

        def _send_pieces(self, pieces: Iterator[Bytes], headers: Mapping[str, str], body: _Body) -> None:
            """Send pieces as they are made. One that fails breaks the connection off: the answer must not look whole."""
            in_chunks = self.request_version != "HTTP/1.0"
            self.close_connection = self.close_connection or not in_chunks
            head = self._head(200, headers, "Transfer-Encoding: chunked\r\n" if in_chunks else "")
            with contextlib.closing(pieces):  # type: ignore[type-var]  # it is a generator, or an empty iterator
                try:
                    for piece in pieces:
                        framed = b"%x\r\n%b\r\n" % (len(piece), bytes(piece)) if in_chunks else piece
                        self.wfile.write(head + framed if head else framed)
                        head = b""
                    self.wfile.write(head + (b"0\r\n\r\n" if in_chunks else b""))
                except Exception as error:
                    self.close_connection = True
                    body.left = 0
                    if not isinstance(error, ConnectionError):
                        self._etl.logger.exception("transformation failed half way")
                    with contextlib.suppress(OSError):
                        self.connection.shutdown(socket.SHUT_RDWR)

        def _head(self, status: int, headers: Mapping[str, str], framing: str) -> bytes:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            close = "Connection: close\r\n" if self.close_connection else ""
            try:
                reason = HTTPStatus(status).phrase
            except ValueError:
                reason = ""
            return f"HTTP/1.1 {status} {reason}\r\n{lines}{framing}{close}\r\n".encode("latin-1", "replace")

        def _drain(self, body: _Body) -> None:
            """Read what nobody wanted of the body, so that the connection can go on; give up a long one."""
            if self.close_connection or not body.left:
                return
            if body.left > _DRAINED:
                self.close_connection = True
                return
            try:
                body.read()
            except ClientLeft:
                self.close_connection = True
