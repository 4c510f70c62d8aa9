"""Transformers on FastAPI and uvicorn: one event loop for each worker process; HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from aistore.sdk.etl.webserver._failures import ClientLeft
from aistore.sdk.etl.webserver._order import Order, order_of
from aistore.sdk.etl.webserver._outbound import (
    TIMEOUT,
    HopAnswer,
    TargetRefused,
    never_again,
    outbound_request,
    tls_of_environment,
)
from aistore.sdk.etl.webserver._serving import serve_asgi
from aistore.sdk.etl.webserver._steps import Fetch, Pause, Put, ReadFile, transformation
from aistore.sdk.etl.webserver._streams import streamed_transformation
from aistore.sdk.etl.webserver.base_etl_server import ETLServer, _read
from aistore.sdk.etl.webserver.fastapi_streaming import BodyReader, PieceQueue
from aistore.sdk.etl.webserver.utils import parse_etl_pipeline
from aistore.transport.aio import AsyncTransport
from aistore.wire import etl
from aistore.wire.headers import JSON

try:
    from fastapi import FastAPI
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocketDisconnect
except ImportError as missing:
    raise ImportError("FastAPIServer needs FastAPI and uvicorn: pip install 'aistore-py[etl]'") from missing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping

    from starlette.websockets import WebSocket

    from aistore.sdk.etl.webserver._steps import Bytes, Result, Steps

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

__all__ = ["FastAPIServer"]

KEPT_CONNECTIONS: Final = int(os.environ.get("MAX_KEEPALIVE_CONN", "128"))
STREAMS: Final = 64
"""Streamed transformations at a time in one process; more wait."""

_INLINE_FILE: Final = 1024 * 1024
"""Bytes of a file that the event loop reads itself: they are in the page cache, where the target has just put them."""


class FastAPIServer(ETLServer):
    """A transformer served by FastAPI and uvicorn, over HTTP and WebSocket.

    `app` is the ASGI application; it needs its lifespan events. `transform` runs on the event loop, one at a time in each process (over
    WebSocket in a thread), `transform_stream` in threads, and not over WebSocket. `host` and `port` are where `start` listens.
    """

    _waits_for_hops = True

    def __init__(self, host: str = "0.0.0.0", port: int = 8000) -> None:  # noqa: S104  as documented; in a container it has to be
        super().__init__()
        self.host = host
        self.port = port
        self.client: AsyncTransport | None = None
        self.active_connections: list[WebSocket] = []
        self.chunk_size = _chunk_size()
        self._threads: ThreadPoolExecutor | None = None
        self.app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=self._lifespan)
        self.app.state.etl_server = self
        self.app.router.routes.extend(
            (
                Route("/health", _Endpoint(self._health)),
                WebSocketRoute("/ws", self._serve_websocket),
                Route("/{path:path}", _Endpoint(self._serve)),
            )
        )

    def start(self) -> None:
        """Serve with uvicorn, in this process, until it is told to end."""
        serve_asgi(self.app, self.host, self.port)

    async def startup_event(self) -> None:
        """Open what belongs to the event loop."""
        self._client()

    async def shutdown_event(self) -> None:
        """Close it."""
        client, self.client = self.client, None
        if client is not None:
            await client.close()
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        await self.startup_event()
        try:
            yield
        finally:
            await self.shutdown_event()

    def _client(self) -> AsyncTransport:
        if self.client is None:
            self.client = AsyncTransport(
                self.host_target,
                timeout=TIMEOUT,
                retry=never_again,
                token=self.token,
                tls=tls_of_environment(),
                pool_size=KEPT_CONNECTIONS,
            )
        return self.client

    # -- HTTP --

    async def _health(self, scope: Message, _: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            await _send_detail(send, 405, "Method Not Allowed")
        else:
            await _send(send, 200, b"Running", ())

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method not in ("GET", "PUT"):
            await _send_detail(send, 405, "Method Not Allowed")
            return
        path = scope["path"].lstrip("/")
        order: Order | None = None
        try:
            order = self._order(scope, path)
        except ValueError as error:
            await _send_detail(send, 400, f"Invalid pipeline header: {error}")
            return
        try:
            if self.use_streaming:
                await self._stream(order, receive, send, has_body=method == "PUT")
                return
            body = await _whole_body(receive) if method == "PUT" else None
            result = await self._await(transformation(self, order, body))
        except ClientLeft:
            return
        except Exception as error:
            await self._fail(send, error, path, order)
            return
        await self._send_result(send, result)

    def _order(self, scope: Message, path: str) -> Order:
        hops = None
        for name, value in scope["headers"]:
            if name == _NODE_URL:
                hops = value.decode("latin-1")
        source = ""
        if scope["method"] == "GET":
            raw: bytes = scope.get("raw_path") or scope["path"].encode()
            source = self.host_target + raw.partition(b"?")[0].decode("latin-1")
        return order_of(path, path, scope["query_string"].decode("latin-1"), hops, source)

    async def _await(self, steps: Steps) -> Result:
        """Do what a transformation wants done, without blocking the loop."""
        result: object = None
        error: Exception | None = None
        while True:
            try:
                step = steps.send(result) if error is None else steps.throw(error)
            except StopIteration as end:
                final: Result = end.value
                return final
            result, error = None, None
            try:
                if isinstance(step, ReadFile):
                    result = await _read_file(step.path)
                elif isinstance(step, Put):
                    result = await self._put(step)
                elif isinstance(step, Fetch):
                    result = await self._fetch(step.url)
                elif isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
            except Exception as failure:
                error = failure

    async def _put(self, step: Put) -> HopAnswer:
        if type(self).client_put is not ETLServer.client_put:
            # A way of sending of the user's own, which blocks.
            return await asyncio.to_thread(self.client_put, step.url, step.data, step.headers)
        answer = await self._client().exchange(outbound_request("PUT", step.url, step.headers, step.data))
        return HopAnswer.of(answer, answer.content)

    async def _fetch(self, url: str) -> bytes:
        answer = await self._client().exchange(outbound_request("GET", url, {}))
        if answer.status >= 300:
            raise TargetRefused(answer.status)
        return answer.content

    async def _fail(self, send: Send, error: Exception, path: str, order: Order | None) -> None:
        failure = self._failure(error, path, order)
        text = f"Processing error: {failure.text}" if failure.kind == "transform" else failure.text
        await _send_detail(send, failure.status, text, failure.headers)

    async def _send_result(self, send: Send, result: Result) -> None:
        assert isinstance(result.body, (bytes, bytearray, memoryview))
        headers = tuple(result.headers.items())
        if not result.from_hop:
            headers = (*headers, ("content-type", self._content_type()))
        await _send(send, result.status, result.body, headers)

    def _content_type(self) -> str:
        mime = self.get_mime_type()
        return f"{mime}; charset=utf-8" if mime.startswith("text/") and "charset=" not in mime else mime

    # -- streams --

    async def _stream(self, order: Order, receive: Receive, send: Send, *, has_body: bool) -> None:
        loop = asyncio.get_running_loop()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(STREAMS, thread_name_prefix="transform")
        reader, pieces = BodyReader(receive), PieceQueue()
        started: asyncio.Future[Result] = loop.create_future()

        def work() -> None:
            try:
                result = streamed_transformation(self, order, reader if has_body else None)
            except Exception as error:
                _tell(loop, started, None, error)
                return
            _tell(loop, started, result, None)
            if not isinstance(result.body, (bytes, bytearray, memoryview)):
                pieces.put_all(result.body)

        filling = loop.create_task(reader.fill())
        filling.add_done_callback(lambda _: pieces.leave())
        working = loop.run_in_executor(self._threads, work)
        try:
            try:
                result = await started
            except (ClientLeft, asyncio.CancelledError):
                raise
            except Exception as error:
                await self._fail(send, error, order.path, order)
                return
            if isinstance(result.body, (bytes, bytearray, memoryview)):
                await self._send_result(send, result)
            else:
                await self._send_pieces(send, pieces, order)
        finally:
            filling.cancel()
            pieces.leave()
            reader.close()
            working.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _send_pieces(self, send: Send, pieces: PieceQueue, order: Order) -> None:
        """Send pieces as they are made. One that fails ends the connection before the answer's end: it must not look whole."""
        lines = [(b"content-type", self._content_type().encode("latin-1"))]
        await send({"type": "http.response.start", "status": 200, "headers": lines})
        try:
            async for piece in pieces:
                await send({"type": "http.response.body", "body": bytes(piece), "more_body": True})
        except Exception as error:
            if not isinstance(error, ClientLeft):
                self._failure(error, order.path, order)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    # -- WebSocket --

    async def _serve_websocket(self, socket: WebSocket) -> None:
        """Transform one object after the other: a message about it, its content unless that names a file, and one message back."""
        if self.use_streaming:
            # Not in the official framework either. Refused here, it fails where the ETL is started, and not with the first object.
            self.logger.error(
                "transform_stream() cannot serve WebSocket: override transform(), or use another communication type"
            )
            await socket.close(1003)
            return
        await socket.accept()
        self.active_connections.append(socket)
        try:
            while True:
                control = json.loads(await socket.receive_bytes())
                body = None if control.get(etl.WS_FQN) else await socket.receive_bytes()
                answer = await self._answer_message(control, body)
                if isinstance(answer, str):
                    await socket.send_text(answer)
                else:
                    await socket.send_bytes(bytes(answer))
        except WebSocketDisconnect:
            pass
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            self.logger.warning("malformed message over WebSocket: %s", error)
            with contextlib.suppress(RuntimeError):
                await socket.close(1003)
        finally:
            self.active_connections.remove(socket)

    async def _answer_message(self, control: Mapping[str, str], body: bytes | None) -> Bytes | str:
        path = control.get(etl.WS_PATH) or ""
        args = (control.get(etl.WS_ARGS) or "").strip()
        try:
            hop, more = parse_etl_pipeline(control.get(etl.WS_PIPELINE))
        except ValueError as error:
            return f"Invalid pipeline header: {error}"
        order = Order(path, args, control.get(etl.WS_FQN) or "", hop, more, path)
        try:
            result = await asyncio.to_thread(self._run, transformation(self, order, body))
        except Exception as error:
            return f"Transform error: {self._failure(error, path, order).text}"
        assert isinstance(result.body, (bytes, bytearray, memoryview))
        if result.status == 200:
            return result.body
        if result.status == 204:
            return result.headers.get(etl.DIRECT_PUT_LENGTH, "0")
        return f"Transform error: the next hop answered {result.status}: {bytes(result.body[:2000]).decode('utf-8', 'replace')}"


_NODE_URL = etl.NODE_URL.lower().encode()


class _Endpoint:
    """An ASGI application for a route, which Starlette then calls as it is."""

    def __init__(self, serve: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        self._serve = serve

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        await self._serve(scope, receive, send)


async def _whole_body(receive: Receive) -> bytes:
    message = await receive()
    pieces: list[bytes] = []
    while True:
        if message["type"] == "http.disconnect":
            raise ClientLeft("the client left before the end of the body")
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            return b"".join((*pieces, body)) if pieces else body
        pieces.append(body)
        message = await receive()


async def _read_file(path: str) -> bytes:
    # os.stat() of a local file that exists does not block.
    if os.stat(path).st_size <= _INLINE_FILE:  # noqa: PTH116  as above
        return _read(path)
    return await asyncio.to_thread(_read, path)


async def _send(send: Send, status: int, body: Bytes, headers: tuple[tuple[str, str], ...]) -> None:
    lines = [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
    if status != 204:
        lines.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": bytes(body)})


async def _send_detail(send: Send, status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
    body = json.dumps({"detail": text}, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    await _send(send, status, body, (*headers, ("content-type", JSON)))


def _tell(
    loop: asyncio.AbstractEventLoop, started: asyncio.Future[Result], result: Result | None, error: Exception | None
) -> None:
    """Settle a future from another thread, unless nobody waits any more."""

    def settle() -> None:
        if started.done():
            return
        if error is not None:
            started.set_exception(error)
        elif result is not None:
            started.set_result(result)

    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)


def _chunk_size() -> int:
    text = os.environ.get("AIS_DIRECT_PUT_CHUNK_SIZE", "")
    return int(text) if text.isascii() and text.isdigit() and int(text) else 1024 * 1024
