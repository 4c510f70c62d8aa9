"""Transformers on Flask: WSGI, a thread for each request."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from aistore.sdk.etl.webserver._failures import ClientLeft
from aistore.sdk.etl.webserver._listening import listening_socket
from aistore.sdk.etl.webserver._order import Order, order_of
from aistore.sdk.etl.webserver._steps import transformation
from aistore.sdk.etl.webserver._streams import streamed_transformation
from aistore.sdk.etl.webserver._visitors import wsgi_without_strangers
from aistore.sdk.etl.webserver.base_etl_server import ETLServer
from aistore.wire import etl
from aistore.wire.headers import JSON

try:
    from flask import Flask, Response, request, stream_with_context
except ImportError as missing:
    raise ImportError("FlaskServer needs Flask and gunicorn: pip install 'aistore-py[etl]'") from missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.sdk.etl.webserver._steps import Bytes, Result

__all__ = ["FlaskServer"]

_DRAINED = 1024 * 1024
_HTML = "text/html; charset=utf-8"


class FlaskServer(ETLServer):
    """A transformer served by Flask. `app` is the WSGI application; no WebSocket.

    `host` and `port` are where `start` listens. Clusters serve `app` with gunicorn.
    """

    def __init__(self, host: str = "0.0.0.0", port: int = 8000) -> None:  # noqa: S104  as documented; in a container it has to be
        super().__init__()
        self.host = host
        self.port = port
        self.app = Flask(type(self).__name__, static_folder=None)
        self.app.add_url_rule("/health", "health", self._health, methods=["GET"])
        self.app.add_url_rule("/<path:path>", "transform", self._serve, methods=["GET", "PUT"])

    def start(self) -> None:
        """Serve in this process, with a thread for each connection, until it is told to end."""
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Handler(WSGIRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                """Nothing: a line for each object is too much."""

        listening = listening_socket(self.host, self.port)
        with listening:
            server = make_server(
                self.host,
                self.port,
                wsgi_without_strangers(self.app),
                threaded=True,
                request_handler=Handler,
                fd=listening.fileno(),
            )
            self.logger.info("Listening on %s:%d", *listening.getsockname()[:2])
            with server:
                server.serve_forever()

    def _health(self) -> Response:
        return Response(b"Running", 200, content_type=_HTML)

    def _serve(self, path: str) -> Response:
        if request.method == "HEAD":  # Flask serves it with every GET
            return Response(status=405)
        try:
            order = self._order(path)
        except ValueError as error:
            return Response(f"Invalid pipeline header: {error}", 400, content_type=_HTML)
        try:
            result = self._result(order)
        except Exception as error:
            failure = self._failure(error, path, order)
            text = json.dumps({"error": failure.text}, separators=(",", ":")) + "\n"
            return Response(text, failure.status, headers=failure.headers, content_type=JSON)
        content_type = _HTML if result.from_hop else self.get_mime_type()
        if isinstance(result.body, (bytes, bytearray, memoryview)):
            _drain()
            return Response(bytes(result.body), result.status, headers=result.headers, content_type=content_type)
        pieces = stream_with_context(self._logged(result.body, path, order))
        return Response(pieces, 200, content_type=content_type)

    def _order(self, path: str) -> Order:
        # Undecoded, as it came: `path` has lost which slashes were escaped.
        raw = request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI") or request.full_path
        raw_path = str(raw).partition("?")[0]
        source = self.host_target + raw_path if request.method == "GET" else ""
        query = request.query_string.decode("latin-1")
        return order_of(path, path, query, request.headers.get(etl.NODE_URL), source)

    def _result(self, order: Order) -> Result:
        has_body = request.method == "PUT"
        if self.use_streaming:
            return streamed_transformation(self, order, _Body() if has_body else None)
        return self._run(transformation(self, order, _Body().read() if has_body else None))

    def _logged(self, pieces: Iterator[Bytes], path: str, order: Order) -> Iterator[bytes]:
        """Pieces; one that fails is logged, and ends the connection: the answer must not look whole."""
        try:
            for piece in pieces:
                yield bytes(piece)
        except Exception as error:
            self._failure(error, path, order)
            raise
        else:
            _drain()
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()


class _Body:
    """The body of a request. WSGI servers end one that the client broke off like any other, so bytes are counted."""

    def __init__(self) -> None:
        self._stream = request.stream
        self._left = request.content_length  # None for chunks, whose end is marked

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, all with -1. Raises ConnectionError where the client left before the end."""
        try:
            data: bytes = self._stream.read(size)
        except OSError as error:
            raise ClientLeft(f"the body broke off: {error}") from error
        if self._left is not None:
            self._left -= len(data)
            if self._left > 0 and (size < 0 or len(data) < size):
                raise ClientLeft(f"the client left {self._left} bytes before the end of the body")
        return data

    def close(self) -> None:
        """Nothing: what is left is read after the answer."""


def _drain() -> None:
    """Read what nobody wanted of the body, so that the connection can go on: gunicorn closes one with unread data."""
    left = _DRAINED
    with contextlib.suppress(OSError):
        while left > 0 and (piece := request.stream.read(65536)):
            left -= len(piece)
