"""A peer that misbehaves on purpose: a raw-socket server that runs a script for each connection."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, cast

from aistore.http1.chunked import ChunkedDecoder
from aistore.http1.head import CHUNKED, parse_request
from waiting import DEADLINE

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable


class Received(NamedTuple):
    """A request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class PeerConnection:
    """The server's end of one connection."""

    def __init__(self, peer: Peer, sock: socket.socket) -> None:
        self._peer = peer
        self._sock = sock
        self._data = b""

    def head(self) -> Received:
        """Read one request head, and what came with it stays unread. `EOFError` when the client has gone."""
        while b"\r\n\r\n" not in self._data:
            self._more()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        parsed = parse_request(head + b"\r\n\r\n")
        received = Received(parsed.method, parsed.target.decode(), dict(parsed.headers), b"")
        self._peer.requests.append(received)
        return received

    def body(self, length: int) -> bytes:
        """Read `length` bytes of a body, or a chunked one."""
        if length == CHUNKED:
            decoder, pieces = ChunkedDecoder(), []
            while not decoder.done:
                if not self._data:
                    self._more()
                pieces += decoder.feed(self._data)
                self._data = decoder.rest
            return b"".join(pieces)
        while len(self._data) < length:
            self._more()
        body, self._data = self._data[:length], self._data[length:]
        return body

    def request(self, *, agree: bool = True) -> Received:
        """Read one whole request; an `Expect` is agreed to."""
        received = self.head()
        if agree and "expect" in received.headers:
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = CHUNKED if "transfer-encoding" in received.headers else int(received.headers.get("content-length", 0))
        received = received._replace(body=self.body(length))
        self._peer.requests[-1] = received
        return received

    def send(self, data: bytes) -> None:
        """Send `data` as it is."""
        self._sock.sendall(data)

    def answer(self, status: int = 200, body: bytes = b"", *headers: str) -> None:
        """Send a well-formed answer."""
        lines = "".join(f"{line}\r\n" for line in headers)
        self.send(
            f"HTTP/1.1 {status} Some Reason\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode("latin-1") + body
        )

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Shake hands as a TLS server; what follows is encrypted."""
        self._sock = context.wrap_socket(self._sock, server_side=True)
        self._peer.keep(self._sock)

    def end_tls(self) -> None:
        """Say that this was all; the client may say so too, or close."""
        with suppress(OSError):
            cast("ssl.SSLSocket", self._sock).unwrap()

    def close(self) -> None:
        """Close, in good order if nothing is unread."""
        self._sock.close()

    def reset(self) -> None:
        """Close so that the client sees a reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def wait_for_end(self) -> None:
        """Return when the client has closed."""
        while True:
            try:
                if not self._sock.recv(65536):
                    return
            except ConnectionError:
                return

    def _more(self) -> None:
        data = self._sock.recv(65536)
        if not data:
            raise EOFError
        self._data += data


class Peer:
    """Listens on a free port, unless told otherwise; the n-th connection is given to the n-th script, and the last one serves all further ones."""

    def __init__(
        self, *scripts: Callable[[PeerConnection], None], tls: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        self._scripts = scripts
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", port))
        self._lock = threading.Lock()
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.requests: list[Received] = []
        self.connections = 0
        self.failures: list[BaseException] = []
        self._open: set[socket.socket] = set()
        self._over = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.keep(sock)
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            thread = threading.Thread(target=self._run, args=(script, sock), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, script: Callable[[PeerConnection], None], sock: socket.socket) -> None:
        sock.settimeout(DEADLINE)
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self.keep(sock)
            script(PeerConnection(self, sock))
        except (EOFError, ConnectionError, BrokenPipeError):
            pass
        except OSError as e:
            if sock.fileno() >= 0:
                self.failures.append(e)
        except BaseException as e:
            self.failures.append(e)
        finally:
            sock.close()

    def keep(self, sock: socket.socket) -> None:
        """Shut this socket down at the end."""
        with self._lock:
            self._open.add(sock)
            if self._over:
                self._end(sock)

    @staticmethod
    def _end(sock: socket.socket) -> None:
        with suppress(OSError):  # ended by the script or by the client a moment ago, perhaps
            sock.shutdown(socket.SHUT_RDWR)

    def seen(self, count: int) -> list[Received]:
        """The requests, once there are `count` of them: a client that gave up may be ahead of this server."""
        end = time.monotonic() + DEADLINE
        while len(self.requests) < count and time.monotonic() < end:
            time.sleep(0.005)
        return self.requests

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(DEADLINE)  # whom it was accepting is among those that follow
        with self._lock:
            self._over = True
            for sock in self._open:
                self._end(sock)
        for thread in self._threads:
            thread.join(DEADLINE)
        assert not self.failures, self.failures


def always(status: int = 200, body: bytes = b"", *headers: str) -> Callable[[PeerConnection], None]:
    """A script that answers every request of a connection alike."""

    def script(connection: PeerConnection) -> None:
        while True:
            connection.request()
            connection.answer(status, body, *headers)

    return script


def once(data: bytes) -> Callable[[PeerConnection], None]:
    """A script that answers one request with `data` as it is, and closes."""

    def script(connection: PeerConnection) -> None:
        connection.request()
        connection.send(data)

    return script


def closing(closed: threading.Event) -> Callable[[PeerConnection], None]:
    """A script that answers one request, without a word of it closes, and then tells."""

    def script(connection: PeerConnection) -> None:
        connection.request()
        connection.answer()
        connection.close()
        closed.set()

    return script


def refuse_at_length(connection: PeerConnection) -> None:
    """A script that answers one request with 404 and a terabyte of text, until it is left."""
    connection.request()
    connection.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000000000000\r\n\r\n")
    with suppress(OSError):
        while True:
            connection.send(bytes(1 << 20))


def echo(connection: PeerConnection) -> None:
    """A script that answers every request with its body."""
    while True:
        connection.answer(200, connection.request().body)
