"""The asyncio transport: the same rules as the blocking one, on one event loop of one process."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NoReturn

from aistore.http1.aio import AsyncConnection
from aistore.http1.failures import NoAnswer
from aistore.transport.base import (
    REFUSAL_MAX,
    REFUSAL_PIECE,
    BaseTransport,
    check_scheme,
    may_resend,
    raise_typed,
    transport_error,
)
from aistore.transport.policy import Leg, Sleep, recover
from aistore.transport.redirect import FOLLOWED
from aistore.transport.response import BaseResponse, StreamConsumed
from aistore.transport.turns import Turns

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aistore.http1.aio_body import AsyncBody
    from aistore.http1.head import ResponseHead
    from aistore.transport.errors import TransportError
    from aistore.transport.request import Request, Timeout
    from aistore.transport.response import Response
    from aistore.transport.retry import Retry
    from aistore.transport.tls import TlsConfig
    from aistore.transport.token import TokenFile
    from aistore.transport.turns import Holder
    from aistore.transport.url import Origin

__all__ = ["AsyncResponse", "AsyncTransport"]

MAX_CONNECTIONS: Final = 100
"""Requests that are under way at a time; more wait, so that ten thousand tasks do not need ten thousand descriptors."""


class AsyncTransport(BaseTransport):
    """Sends requests below `endpoint`'s `/v1/`; parameters as for `Transport`.

    It belongs to the event loop and the process of its first request. At most 100 requests are under way at a time (see `Turns`),
    streamed responses that are not closed included; `pool_size` idle connections are kept for each node.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        timeout: Timeout | None = None,
        retry: Retry = None,
        token: str | TokenFile | None = None,
        tls: TlsConfig | None = None,
        pool_size: int = 10,
    ) -> None:
        super().__init__(endpoint, timeout=timeout, retry=retry, token=token, tls=tls, pool_size=pool_size)
        self._idle: dict[Origin, deque[AsyncConnection]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._turns = Turns(MAX_CONNECTIONS)

    async def exchange(self, request: Request) -> AsyncResponse:
        """The answer to `request`, whatever its status; its body is read already unless `request.stream` and the status is good.

        Raises `TransportError` when there is no answer, and when the last one after all retries was a status that is retried. A
        cancelled request closes its connection and nothing else.
        """
        self._check_owner()
        leg = self._leg(request)
        started = time.monotonic()
        try:
            response = await self._send(leg)
        except Exception as e:
            return await self._recover(leg, transport_error(e), started)
        if self._is_final(response.status):
            return response
        return await self._recover(leg, response, started)

    async def close(self) -> None:
        """Close the idle connections; the transport stays usable."""
        if self._loop is not None:
            self._check_owner()
        idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()
        self._proxies.close()
        # The event loop closes a socket in its next turn.
        await asyncio.sleep(0)

    def __repr__(self) -> str:
        idle = ", ".join(f"{origin}: {len(connections)}" for origin, connections in self._idle.items() if connections)
        return f"<AsyncTransport {self.base_url} idle {idle or 'none'}, at most {self.pool_size} each>"

    def _check_owner(self) -> None:
        # First: a loop that was forked is none that runs.
        if self._loop is not None and self._pid != os.getpid():
            raise RuntimeError("this asyncio client was made before a fork: make a new one in the child process")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop, self._pid = loop, os.getpid()
        elif self._loop is not loop:
            raise RuntimeError("this asyncio client belongs to another event loop: make one for each loop")

    async def _recover(self, leg: Leg, outcome: AsyncResponse | TransportError, started: float) -> AsyncResponse:
        steps = recover(leg, outcome, self._rules, started, self._leg)
        result: AsyncResponse | TransportError | None = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as end:
                response: AsyncResponse = end.value
                return response
            if isinstance(step, Sleep):
                await asyncio.sleep(step.seconds)
                result = None
                continue
            try:
                result = await self._send(step)
            except Exception as e:
                result = transport_error(e)

    async def _send(self, leg: Leg) -> AsyncResponse:
        self._prepare(leg.origin)
        if (proxy := self._proxies.get(leg.origin)) is not None:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(None, proxy.send, leg, leg.request.timeout or self.timeout)
            return AsyncResponse(leg, answer.head, _InThread(answer) if leg.request.stream else answer.content)
        turn = await self._turns.take()
        try:
            connection, head, body = await self._ask(leg, self._take(leg.origin))
        except BaseException as failure:
            self._turns.give(turn)
            raise_typed(failure, leg)
        if isinstance(body, bytes):
            self._give(leg.origin, connection, turn)
            check_scheme(leg, head.status, body)
            return AsyncResponse(leg, head, body)
        source = _Source(self, connection, body, leg, turn)
        if leg.request.stream and head.status < 300:
            return AsyncResponse(leg, head, source)
        return AsyncResponse(leg, head, await _rest(source, head.status))

    async def _ask(
        self, leg: Leg, connection: AsyncConnection | None
    ) -> tuple[AsyncConnection, ResponseHead, bytes | AsyncBody]:
        request, payload, origin, _, _ = leg
        timeout = request.timeout or self.timeout
        head, expect = self._head(leg)
        reused = connection is not None
        while True:
            if connection is None:
                context = self._context if origin.scheme == "https" else None
                connection = await AsyncConnection.connect(origin.host, origin.port, timeout.connect, context)
            try:
                connection.set_timeout(timeout.read)
                answer = await connection.send(request.method, head, payload, expect=expect)
                if answer is None:
                    answer = await connection.receive(request.method)
            except NoAnswer:
                connection.close()
                if not reused or not may_resend(leg):
                    raise
                connection, reused = None, False
            except BaseException:
                connection.close()
                raise
            else:
                return connection, *answer

    def _take(self, origin: Origin) -> AsyncConnection | None:
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_alive():
                return connection
            connection.close()
        return None

    def _give(self, origin: Origin, connection: AsyncConnection, turn: Holder) -> None:
        """Take back a connection after its answer, and let the next request start."""
        self._turns.give(turn)
        if not connection.reusable or not connection.is_alive():
            connection.close()
            return
        idle = self._idle.setdefault(origin, deque())
        idle.append(connection)
        # Requests that wait for their turn need one in a moment.
        while len(idle) > self.pool_size + self._turns.waiting:
            idle.popleft().close()

    def _abandon(self, origin: Origin, connection: AsyncConnection, turn: Holder) -> None:
        """Take back a connection from a garbage collection, which may run in any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._give, origin, connection, turn)


class AsyncResponse(BaseResponse):
    """An answer, with its body here (`content`) or still on its way (a streamed one).

    Read it to the end or close it: until then it holds a connection, and an early close costs that connection.
    """

    __slots__ = ("_source",)

    def __init__(self, leg: Leg, head: ResponseHead, body: bytes | _Source | _InThread) -> None:
        super().__init__(leg.request, leg.origin, leg.target, head)
        self._source: _Source | _InThread | _Memory
        if isinstance(body, bytes):
            self._content = body
            self._source = _Memory(body)
        else:
            self._source = body

    @property
    def content(self) -> bytes:
        """The whole body of a response that is not streamed; `StreamConsumed` for one that is."""
        if self._content is None:
            raise StreamConsumed("the body is streamed: await read() or iterate over chunks()")
        return self._content

    async def read(self, n: int = -1) -> bytes:
        """The next `n` bytes of the body, by default all the rest; empty at the end. Raises `TransportError` where the body is cut."""
        return await (self._source.read_rest() if n < 0 else self._source.read(n))

    async def readinto(self, view: memoryview) -> int:
        """Fill `view` (of bytes) with the next part of the body; fewer only before the end or a failure, 0 at the end."""
        return await self._source.readinto(view)

    async def read_some(self) -> bytes:
        """The next bytes of the body as soon as any are there; empty at the end. Raises `TransportError` where the body is cut."""
        return await self._source.read_some()

    async def chunks(self, size: int) -> AsyncGenerator[bytes, None]:
        """The body in pieces of `size` bytes, the last one shorter. Leaving the loop early closes the connection."""
        if size <= 0:
            raise ValueError(f"chunk size {size} is not positive")
        try:
            while data := await self._source.read(size):
                yield data
        finally:
            self.close()

    def close(self) -> None:
        """Give up what was not read."""
        self._source.close()

    async def __aenter__(self) -> AsyncResponse:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class _Source:
    """The rest of a body on a connection of the transport."""

    __slots__ = ("_body", "_connection", "_leg", "_transport", "_turn")

    def __init__(
        self, transport: AsyncTransport, connection: AsyncConnection, body: AsyncBody, leg: Leg, turn: Holder
    ) -> None:
        self._transport = transport
        self._connection: AsyncConnection | None = connection
        self._body = body
        self._leg = leg
        self._turn = turn

    async def read(self, size: int) -> bytes:
        if self._connection is None:
            return b""
        try:
            data = await self._body.read(size)
        except BaseException as failure:
            self._fail(failure)
        if self._body.done:
            self.close()
        return data

    async def readinto(self, view: memoryview) -> int:
        if self._connection is None:
            return 0
        try:
            count = await self._body.readinto(view)
        except BaseException as failure:
            self._fail(failure)
        if self._body.done:
            self.close()
        return count

    async def read_some(self) -> bytes:
        if self._connection is None:
            return b""
        try:
            data = await self._body.read_some()
        except BaseException as failure:
            self._fail(failure)
        if self._body.done:
            self.close()
        return data

    async def read_rest(self) -> bytes:
        if self._connection is None:
            return b""
        try:
            data = await self._body.read_rest()
        except BaseException as failure:
            self._fail(failure)
        self.close()
        return data

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport._give(self._leg.origin, connection, self._turn)

    def _fail(self, failure: BaseException) -> NoReturn:
        if self._connection is not None:
            self._connection.close()
            self.close()
        raise_typed(failure, self._leg)

    def __del__(self) -> None:
        # Dropped half read: its connection must not stay open, nor its slot taken.
        if self._connection is not None:
            self._transport._abandon(self._leg.origin, self._connection, self._turn)


class _Memory:
    """A body that is here already."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, size: int) -> bytes:
        data, self._data = self._data[:size], self._data[size:]
        return data

    async def readinto(self, view: memoryview) -> int:
        data = await self.read(len(view))
        view[: len(data)] = data
        return len(data)

    async def read_some(self) -> bytes:
        return await self.read(len(self._data))

    async def read_rest(self) -> bytes:
        return await self.read(len(self._data))

    def close(self) -> None:
        self._data = b""


class _InThread:
    """A body that comes through a proxy, read in threads."""

    __slots__ = ("_response",)

    def __init__(self, response: Response) -> None:
        self._response = response

    async def read(self, size: int) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(None, self._response.read, size)

    async def readinto(self, view: memoryview) -> int:
        return await asyncio.get_running_loop().run_in_executor(None, self._response.readinto, view)

    async def read_some(self) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(None, self._response.read_some)

    async def read_rest(self) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(None, self._response.read)

    def close(self) -> None:
        self._response.close()


async def _rest(source: _Source, status: int) -> bytes:
    """The rest of a body; that of a redirect may be missing, its `Location` says all, a refusal's may be cut."""
    try:
        if status < 300:
            return await source.read_rest()
        found = bytearray()
        while len(found) < REFUSAL_MAX and (piece := await source.read(REFUSAL_PIECE)):
            found += piece
    except Exception as e:
        if status not in FOLLOWED:
            raise
        transport_error(e)
        return b""
    source.close()
    return bytes(found)
