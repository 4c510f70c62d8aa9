"""HTTP with a transformer: keep-alive connections to its port, answers that may lie, and a time limit for all of it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from aistore.http1.aio import AsyncConnection
from aistore.http1.encode import encode_headers, encode_request_line
from aistore.http1.failures import BadBody, HeadCut, NoAnswer, ReadTimedOut, ShortBody, WriteTimedOut
from aistore.http1.head import BadHead

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from aistore.http1.aio_body import AsyncBody
    from aistore.http1.payload import Payload

__all__ = ["Answer", "BadAnswer", "NoConnection", "Port", "TookTooLong"]

HELD: Final = 1 << 20
"""Bytes of an answer that are held in memory. A shorter one is whole before anything is done with it, and so one that is cut is an error."""

_PIECE: Final = 256 << 10
_IDLE_MAX: Final = 64
_AT_ONCE: Final = 128


class TookTooLong(Exception):
    """The time limit of one object has passed."""


class NoConnection(Exception):
    """Nobody listens, or the transformer went away instead of answering; `sent` says that it had the request."""

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class BadAnswer(Exception):
    """What came is no whole answer."""


class Answer:
    """Status, header fields and body; the body is whole in `data`, or begins there and goes on in `pieces()`.

    One that is not whole holds a connection until it was read or closed.
    """

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes, rest: _Rest | None) -> None:
        self.status = status
        self.headers = headers
        self.data = data
        self.rest = rest

    @property
    def whole(self) -> bool:
        """Whether all of the body is in `data`."""
        return self.rest is None

    @property
    def length(self) -> int | None:
        """Bytes of the whole body, None if nobody knows yet."""
        if self.rest is None:
            return len(self.data)
        length = self.headers.get("content-length", "")
        return int(length) if length.isdigit() else None

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body from its start. Raises `BadAnswer`, `TookTooLong`."""
        try:
            yield self.data
            if self.rest is not None:
                while piece := await self.rest.read():
                    yield piece
        finally:
            self.close()

    def close(self) -> None:
        """Give up what was not read."""
        if self.rest is not None:
            self.rest.close()


class _Rest:
    """The part of a body that is still coming."""

    def __init__(self, port: Port, connection: AsyncConnection, body: AsyncBody) -> None:
        self._port = port
        self._connection: AsyncConnection | None = connection
        self._body = body

    async def read(self) -> bytes:
        """The next piece, empty at the end."""
        if self._connection is None:
            return b""
        try:
            piece = await self._body.read(_PIECE)
        except BaseException as error:
            self._connection.close()
            self.close()
            if isinstance(error, (ReadTimedOut, TimeoutError)):
                raise TookTooLong("its answer stalled") from error
            if isinstance(error, (OSError, ShortBody, BadBody)):
                raise BadAnswer(str(error)) from error
            raise
        if not piece:
            self.close()
        return piece

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._port._give(connection)


class Port:
    """Connections to one transformer."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._idle: deque[AsyncConnection] = deque()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._closed = False

    def close(self) -> None:
        """Close what is idle; what is under way ends by itself."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    async def ask(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        payload: Callable[[], Payload | None],
        seconds: float,
    ) -> Answer:
        """One request and its answer, within `seconds` as far as it is held in memory; what comes after may take as long without a byte.

        Raises `TookTooLong`, `NoConnection`, `BadAnswer`.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            await asyncio.wait_for(self._turns.acquire(), seconds)
        except asyncio.TimeoutError:
            raise TookTooLong(f"{_AT_ONCE} objects before this one are not done") from None
        connection: AsyncConnection | None = None
        try:
            connection, reused = await self._take(deadline)
            while True:
                try:
                    return await self._exchange(connection, method, target, headers, payload(), deadline, seconds)
                except NoConnection:
                    if not reused:
                        raise
                # A connection that was idle may have been closed in this very moment.
                connection, reused = await self._connect(deadline), False
        except BaseException:
            if connection is not None:
                connection.close()
            self._turns.release()
            raise

    async def _take(self, deadline: float) -> tuple[AsyncConnection, bool]:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_alive():
                return connection, True
            connection.close()
        return await self._connect(deadline), False

    async def _connect(self, deadline: float) -> AsyncConnection:
        left = max(0.001, deadline - asyncio.get_running_loop().time())
        try:
            return await AsyncConnection.connect(self.host, self.port, left)
        except TimeoutError as error:
            raise TookTooLong("no connection") from error
        except OSError as error:
            raise NoConnection(f"dial tcp {self.host}:{self.port}: {error}", sent=False) from error

    async def _exchange(
        self,
        connection: AsyncConnection,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        payload: Payload | None,
        deadline: float,
        seconds: float,
    ) -> Answer:
        fields = [("Host", f"{self.host}:{self.port}"), *headers]
        if method == "PUT":
            assert payload is not None
            assert payload.length is not None
            fields.append(("Content-Length", str(payload.length)))
        head = encode_request_line(method, target) + encode_headers(fields) + b"\r\n"
        late = False

        def expire() -> None:
            nonlocal late
            late = True
            connection.close()

        timer = asyncio.get_running_loop().call_at(deadline, expire)
        connection.set_timeout(None)
        try:
            answer = await connection.send(method, head, payload, expect=False)
            if answer is None:
                answer = await connection.receive(method)
            response, body = answer
            if isinstance(body, bytes):
                self._give(connection)
                return Answer(response.status, response.headers, body, None)
            data = await body.read(HELD)
            if len(data) < HELD or body.done:
                # Fewer bytes than asked for are the end, or come before a failure, which the next call tells.
                if not body.done:
                    await body.read(1)
                self._give(connection)
                return Answer(response.status, response.headers, data, None)
        except (NoAnswer, ConnectionError, BadHead, HeadCut, ShortBody, BadBody, ReadTimedOut, WriteTimedOut) as error:
            connection.close()
            if late:
                raise TookTooLong("no answer") from error
            if isinstance(error, NoAnswer):
                raise NoConnection(str(error), sent=True) from error
            raise BadAnswer(str(error)) from error
        finally:
            timer.cancel()
        connection.set_timeout(seconds)
        return Answer(response.status, response.headers, data, _Rest(self, connection, body))

    def _give(self, connection: AsyncConnection) -> None:
        """Take a connection back after its answer."""
        self._turns.release()
        if self._closed or not connection.reusable or not connection.is_alive() or len(self._idle) >= _IDLE_MAX:
            connection.close()
        else:
            self._idle.append(connection)
