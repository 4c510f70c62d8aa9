"""The asyncio driver of an HTTP/1.1 server: listening, the connections and their time limits.

A `Service` gets each request once its head (and, if small, its body) is there. It returns the encoded answer as bytes, a `Reply`, a
`Pending` one, or a coroutine; only the last costs a task. Requests of one connection are answered in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Protocol

from aistore.http1.connection import Connection
from aistore.http1.incoming import Body, BrokenRequest, Memory, Request
from aistore.http1.limits import Limits
from aistore.http1.message import Pending, Reply
from aistore.http1.turns import Turns

if TYPE_CHECKING:
    import socket
    import ssl

logger = logging.getLogger("aistore.server.connections")  # below the name under which servers log

__all__ = ["Answer", "Body", "BrokenRequest", "HttpServer", "Limits", "Request", "Result", "Service"]

REFUSED_AT_ONCE: Final = 100
"""Connections beyond a limit that are told so; more are closed without a word."""

_RECEIVE_BYTES: Final = 256 * 1024
_BACKLOG: Final = 1024
_STALL_SHARE: Final = 4  # of the time that a stop gives: whoever is silent for that long is not waited for
_TICK: Final = 0.5
_TOLD_EVERY: Final = 60.0
_NETWORK_BITS: Final = 64  # of an IPv6 address: who has one address has all of its network

Answer = bytes | Reply
Result = bytes | Reply | Pending | Awaitable[Answer]


class Service(Protocol):
    """What a server does with requests."""

    def handle(self, request: Request) -> Result:
        """Answer one request."""

    def refuse(self, request: Request, error: BaseException) -> Reply:
        """The reply for an exception raised by `handle`."""

    def answered(self, request: Request, status: int, sent: int, *, whole: bool = True) -> None:
        """An answer of `sent` bytes is out (not `whole`: it broke off); not called for those that `handle` returned as bytes."""

    def broke_off(self, request: Request, error: Exception) -> None:
        """What made the body of an answer failed, and the client got a part of it."""


class HttpServer:
    """Listens, keeps the connections and their time limits."""

    def __init__(self, service: Service, limits: Limits | None = None) -> None:
        self.service = service
        self.limits = limits or Limits()
        self.now = 0.0
        """Coarse clock of the time limits (seconds, one step behind at most)."""
        self.receive_view = memoryview(bytearray(_RECEIVE_BYTES))
        self.memory = Memory(self.limits.memory)
        self.is_first_leg: Callable[[Request], bool] | None = None
        """Tells which PUT, without `Expect` and of whose body nothing came with its head, is answered from the head alone: its client may
        be waiting for a redirect, and sends no byte before it."""
        self.unread = Memory(self.limits.unread)
        """Answers that clients do not take."""
        self.turns = Turns()
        """For what takes long on the loop: long answers are sent in steps."""
        self.accepted = 0
        """Connections so far."""
        self.turned_away = 0
        """Those of them that were too many."""
        self._silent_until = 0.0
        """When it is told again that connections are refused."""
        self.heads_refused = 0
        """Answers without a service: to what is no request, or too long, and to connections that were too many."""
        self._connections: set[Connection] = set()
        self._from: dict[str, int] = {}
        """Number of connections from each address of another machine."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[asyncio.Server] = []
        self._ticker: asyncio.TimerHandle | None = None

    async def listen(self, sock: socket.socket, tls: Callable[[], ssl.SSLContext] | None = None) -> None:
        """Accept connections on a bound socket; over TLS, each with the context that `tls` gives then."""
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        make: Callable[[], asyncio.BaseProtocol] = lambda: Connection(self)  # noqa: E731  another one below
        if tls is not None:
            from aistore.http1.tls import RECEIVE, TlsTransport

            context = tls
            encrypted = memoryview(bytearray(RECEIVE))  # consumed like `receive_view`, into which it is decrypted
            make = lambda: TlsTransport(context(), Connection(self), encrypted)  # noqa: E731  see above
        self._listeners.append(await loop.create_server(make, sock=sock, backlog=_BACKLOG))
        if self._ticker is None:
            self._tick()

    async def stop(self, grace: float = 10.0) -> int:
        """Accept no more, let running requests finish within `grace` seconds, close everything. The number of requests that were cut off.

        Nobody waits long for clients that have stopped to send or to read what belongs to their requests.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        # Who has connected and sent a request already is answered: what lies in the kernel comes with the next pass of the loop.
        for _ in range(2):
            await asyncio.sleep(0)
        for listener in self._listeners:
            listener.close()
        limits, stalled = self.limits, grace / _STALL_SHARE
        self.limits = replace(
            limits, head=min(stalled, limits.head), body=min(stalled, limits.body), write=min(stalled, limits.write)
        )
        while self._connections and loop.time() < deadline:
            for connection in list(self._connections):
                connection.end_soon()
            await asyncio.sleep(0.01 if len(self._connections) < REFUSED_AT_ONCE else 0.1)
        cut = sum(connection.is_at_work for connection in self._connections)
        for connection in list(self._connections):
            connection.cut()
        if self._ticker is not None:
            self._ticker.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return cut

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._connections)

    def admit(self, connection: Connection) -> str:
        """Note a new connection; why it is one too many, or nothing."""
        self._connections.add(connection)
        self.accepted += 1
        reason = self._too_many(connection)
        if reason:
            self.turned_away += 1
            if self.now >= self._silent_until:
                self._silent_until = self.now + _TOLD_EVERY
                logger.warning("%s: that of %s is refused (%d were so far)", reason, connection.peer, self.turned_away)
        return reason

    def _too_many(self, connection: Connection) -> str:
        most = self.limits.connections
        if len(self._connections) > most:
            if len(self._connections) > most + REFUSED_AT_ONCE:
                connection.transport.abort()
            return "too many connections"
        origin, most = origin_of(connection.peer.rpartition(":")[0]), self.limits.per_address
        if origin:
            connection.origin = origin
            count = self._from[origin] = self._from.get(origin, 0) + 1
            if count > most:
                if count > most + REFUSED_AT_ONCE:
                    connection.transport.abort()
                return "too many connections from one address"
        return ""

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        origin = connection.origin
        if origin:
            connection.origin = ""
            self._from[origin] -= 1
            if not self._from[origin]:
                del self._from[origin]

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


@lru_cache(1024)
def origin_of(address: str) -> str:
    """Whose connections count together: those of an address, or of an IPv6 network; empty for this machine itself."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if found.version == 6:
        if found.ipv4_mapped is None:
            network = int(found) >> (128 - _NETWORK_BITS)
            return "" if found.is_loopback else f"{network:x}"
        found = found.ipv4_mapped
    return "" if found.is_loopback else str(found)
