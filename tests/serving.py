"""The HTTP driver in a thread, with a service that shows what it was given, and a raw client that can break every rule."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import tempfile
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from aistore.http1.failures import BodyTooLong, MemoryFull
from aistore.http1.message import FilePart, Pending, Reply
from aistore.http1.server import BrokenRequest, HttpServer, Limits, Request, Result
from waiting import DEADLINE

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Coroutine
    from types import TracebackType

    import pytest

T = TypeVar("T")


def summary(request: Request, body: bytes) -> bytes:
    """What the service saw of a request."""
    return json.dumps([request.method, request.path, len(body), zlib.crc32(body)]).encode()


def expected(method: str, path: str, body: bytes = b"") -> list[object]:
    return [method, path, len(body), zlib.crc32(body)]


class ShowingService:
    """Answers in every way that a service can.

    `/echo` what it was given; `/ignore` without looking at the body; `/refuse` an exception at once; `/late` after `release` was set;
    `/raw/N`, `/whole/N`, `/file/N`, `/pieces/N` N bytes as encoded bytes, in one piece, file or generator; `/broken` a body that breaks off.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.errors: list[BaseException] = []
        self.answers: list[tuple[str, int, int, bool]] = []
        self.release = asyncio.Event()
        self.files_open = 0
        self.generators_open = 0

    def handle(self, request: Request) -> Result:
        self.seen.append((request.method, request.path))
        _, kind, *rest = request.path.split("/")
        size = int(rest[0]) if rest and kind in ("raw", "whole", "file", "pieces") else 0
        if kind == "refuse":
            raise ValueError("refused")
        if kind == "ignore":
            return Reply(404, (), b"not looked at")
        if kind == "raw":
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (size, b"x" * size)
        if kind == "whole":
            return Reply(200, (), b"x" * size)
        if kind == "file":
            return Reply(200, (), self._file(size))
        if kind == "pieces":
            return Reply(200, (), self._pieces(size, broken=False))
        if kind == "broken":
            return Reply(200, (), self._pieces(100_000, broken=True))
        if kind == "late":
            return self._late(request)
        if kind == "pending":
            future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_result, 7)
            return Pending(future, lambda number: Reply(200, (), b"%d" % number))
        if request.content is not None:
            return Reply(200, (("X-Blank", "a\r\nb\0c"),), summary(request, request.content))
        return self._echo(request)

    async def _echo(self, request: Request) -> Reply:
        return Reply(200, (), summary(request, await request.read(1 << 30)))

    async def _late(self, request: Request) -> Reply:
        await self.release.wait()
        return Reply(200, (), summary(request, b""))

    def _file(self, size: int) -> FilePart:
        fd, path = tempfile.mkstemp()
        Path(path).unlink()
        os.truncate(fd, size)
        self.files_open += 1

        def released() -> None:
            self.files_open -= 1

        return FilePart(fd, 0, size, released)

    async def _pieces(self, size: int, *, broken: bool) -> AsyncIterator[bytes]:
        self.generators_open += 1
        try:
            while size:
                n = min(size, 50_000)
                yield b"x" * n
                size -= n
            if broken:
                raise RuntimeError("broke off")
        finally:
            self.generators_open -= 1

    def answered(self, request: Request, status: int, sent: int, *, whole: bool = True) -> None:
        self.answers.append((request.path, status, sent, whole))

    def broke_off(self, request: Request, error: Exception) -> None:
        self.errors.append(error)

    def refuse(self, request: Request, error: BaseException) -> Reply:
        self.errors.append(error)
        status = 400 if isinstance(error, BrokenRequest) else 413 if isinstance(error, BodyTooLong) else 500
        if isinstance(error, MemoryFull):
            status = 503
        return Reply(status, (), str(error).encode(), close=isinstance(error, BrokenRequest))


class Serving:
    """A server in a thread of its own, for as long as the `with` block."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits
        self.tls: Callable[[], ssl.SSLContext] | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self.port = 0
        self.service: ShowingService
        self.server: HttpServer
        self.loop: asyncio.AbstractEventLoop

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.failures: list[dict[str, object]] = []
        self.loop.set_exception_handler(lambda _, context: self.failures.append(context))
        self.service = ShowingService()
        self.server = HttpServer(self.service, self._limits)
        sock = socket.create_server(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        await self.server.listen(sock, self.tls)
        self._stop = asyncio.Event()
        self._started.set()
        await self._stop.wait()
        await self.server.stop(grace=DEADLINE)

    def __enter__(self) -> Serving:
        self._thread.start()
        assert self._started.wait(DEADLINE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None:
            assert self.failures == []

    def stop(self) -> None:
        """Stop the server and wait for its end."""
        with contextlib.suppress(RuntimeError):  # it was stopped before
            self.call(self._stop.set)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()

    def call(self, function: Callable[[], object]) -> None:
        """Call something on the server's loop."""
        self.loop.call_soon_threadsafe(function)

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Run something on the server's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(DEADLINE)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is true on the server's loop."""

        async def wait() -> None:
            while not condition():  # noqa: ASYNC110 (what changes it does not know of us)
                await asyncio.sleep(0.002)

        self.run(asyncio.wait_for(wait(), DEADLINE))

    def connect(self) -> Raw:
        return Raw(self.port)


def pass_time(serving: Serving, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move the clock of the server's loop on, and let it look."""
    clock = serving.loop.time
    then = clock() + seconds
    monkeypatch.setattr(serving.loop, "time", lambda: clock() + seconds)
    serving.until(lambda: serving.server.now >= then)


class Answer(NamedTuple):
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def shown(self) -> list[object]:
        """What `/echo` saw."""
        shown: list[object] = json.loads(self.body)
        return shown


class Raw:
    """A client's end of a connection, byte by byte."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(DEADLINE)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.sock.connect(("127.0.0.1", port))
        except OSError:
            self.sock.close()
            raise
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def send(self, data: bytes, step: int = 0) -> None:
        """Send, in pieces of `step` bytes if that is not 0."""
        if not step:
            self.sock.sendall(data)
            return
        for at in range(0, len(data), step):
            self.sock.sendall(data[at : at + step])

    def end(self) -> None:
        """Send no more, but go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection off."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._data:
            self._more()
        found, _, self._data = self._data.partition(mark)
        return found

    def _exactly(self, count: int) -> bytes:
        while len(self._data) < count:
            self._more()
        found, self._data = self._data[:count], self._data[count:]
        return found

    def _more(self) -> None:
        data = self.sock.recv(1 << 20)
        if not data:
            raise EOFError(f"the server closed the connection after {self._data[:200]!r}")
        self._data += data

    def answer(self, method: str = "GET") -> Answer:
        """The next answer; `EOFError` if the connection ends before it does."""
        head = self._until(b"\r\n\r\n").decode("latin-1")
        first, *lines = head.split("\r\n")
        status = int(first.split(" ")[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if method == "HEAD" or status in (100, 204, 304):
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, self._chunks())
        if "content-length" in headers:
            return Answer(status, headers, self._exactly(int(headers["content-length"])))
        return Answer(status, headers, self.rest())

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._until(b"\r\n"), 16):
            body += self._exactly(size)
            assert self._exactly(2) == b"\r\n"
        assert self._exactly(2) == b"\r\n"
        return body

    def rest(self) -> bytes:
        """All that comes until the server closes the connection."""
        with contextlib.suppress(EOFError):
            while True:
                self._more()
        data, self._data = self._data, b""
        return data

    def ask(self, method: str, path: str, body: bytes = b"", headers: str = "", step: int = 0) -> Answer:
        """One request and its answer."""
        self.send(request(method, path, body, headers), step)
        return self.answer(method)


def request(method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}{headers}\r\n".encode() + body


def chunked(method: str, path: str, chunks: list[bytes], trailer: bytes = b"") -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailer + b"\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + body
