"""The asyncio driver of an HTTP/1.1 server: listening, the connections and their time limits.

A `Service` gets each request once its head (and, if small, its body) is there. It returns the encoded answer as bytes, a `Reply`, a
`Pending` one, or a coroutine; only the last costs a task. Requests of one connection are answered in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from aistore.http1.connection import Connection
from aistore.http1.incoming import Body, BrokenRequest, Memory, Request
from aistore.http1.message import Pending, Reply

if TYPE_CHECKING:
    import socket

__all__ = ["Answer", "Body", "BrokenRequest", "HttpServer", "Limits", "Request", "Result", "Service"]

_RECEIVE_BYTES: Final = 256 * 1024
_REFUSED_AT_ONCE: Final = 100  # connections beyond the limit that are told so
_STALLED_AT_STOP: Final = 1.0
_TICK: Final = 0.5

Answer = bytes | Reply
Result = bytes | Reply | Pending | Awaitable[Answer]


@dataclass
class Limits:
    """Bounds of a connection's life, in seconds, and of the number of connections."""

    head: float = 16.0
    idle: float = 75.0
    body: float = 30.0
    """Longest wait for the next byte of a request body, and how long one may arrive more slowly than `rate`."""
    rate: int = 1024
    """Bytes a second that a request body has to arrive with."""
    write: float = 60.0
    """Longest wait for a client to take the next byte of an answer."""
    linger: float = 2.0
    """How long what a client still sends is dropped after its last answer, so that it can read that."""
    connections: int = 10_000
    max_body: int = 1 << 50
    """Bytes of a request body, announced or in chunks."""
    memory: int = 512 << 20
    """Bytes of request bodies that are held in memory at once; requests that need more are answered 503."""


class Service(Protocol):
    """What a server does with requests."""

    def handle(self, request: Request) -> Result:
        """Answer one request."""

    def refuse(self, request: Request, error: BaseException) -> Reply:
        """The reply for an exception raised by `handle`."""

    def answered(self, request: Request, status: int, sent: int, *, whole: bool = True) -> None:
        """An answer of `sent` bytes is out (not `whole`: it broke off); not called for those that `handle` returned as bytes."""


class HttpServer:
    """Listens, keeps the connections and their time limits."""

    def __init__(self, service: Service, limits: Limits | None = None) -> None:
        self.service = service
        self.limits = limits or Limits()
        self.now = 0.0
        """Coarse clock of the time limits (seconds, one step behind at most)."""
        self.receive_view = memoryview(bytearray(_RECEIVE_BYTES))
        self.memory = Memory(self.limits.memory)
        self.accepted = 0
        """Connections so far."""
        self.turned_away = 0
        """Those of them that were too many."""
        self.heads_refused = 0
        """Answers without a service: to what is no request, or too long, and to connections that were too many."""
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[asyncio.Server] = []
        self._ticker: asyncio.TimerHandle | None = None

    async def listen(self, sock: socket.socket) -> None:
        """Accept connections on a bound socket."""
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        self._listeners.append(await loop.create_server(lambda: Connection(self), sock=sock, backlog=1024))
        if self._ticker is None:
            self._tick()

    async def stop(self, grace: float = 10.0) -> None:
        """Accept no more, let running requests finish within `grace` seconds, close everything.

        Nobody waits long for clients that have stopped to send or to read what belongs to their requests.
        """
        stalled = min(_STALLED_AT_STOP, self.limits.body, self.limits.write)
        self.limits = replace(self.limits, body=stalled, write=stalled)
        for listener in self._listeners:
            listener.close()
        deadline = asyncio.get_running_loop().time() + grace
        while self._connections and asyncio.get_running_loop().time() < deadline:
            for connection in list(self._connections):
                connection.end_soon()
            await asyncio.sleep(0.01)
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

    def admit(self, connection: Connection) -> bool:
        """Note a new connection; False if there are too many."""
        self._connections.add(connection)
        self.accepted += 1
        if len(self._connections) > self.limits.connections + _REFUSED_AT_ONCE:
            connection.transport.abort()
        admitted = len(self._connections) <= self.limits.connections
        self.turned_away += not admitted
        return admitted

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)

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
        self._ticker = loop.call_later(_TICK, self._tick)
