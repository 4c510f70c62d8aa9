"""HTTP with a transformer: keep-alive connections to its port, answers that may lie, and a time limit for all of it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from aistore.http1.aio import AsyncConnection
from aistore.http1.encode import encode_headers, encode_request_line
from aistore.http1.failures import BadBody, NoAnswer, ShortBody
from aistore.http1.head import BadHead

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from aistore.http1.aio_body import AsyncBody
    from aistore.http1.payload import Payload

__all__ = ["Answer", "BadAnswer", "NoConnection", "Port", "TookTooLong"]

HELD: Final = 1 << 20
"""Bytes of an answer that are held in memory. A shorter one is whole before anything is done with it, and so one that is cut is an error."""

_PIECE: Final = 256 << 10
_SENT_AT_ONCE: Final = 64 << 10
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
        self.at_end: Callable[[], Awaitable[None]] | None = None
        """Awaited when the last of `pieces()` was read; may raise."""

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
                if self.at_end is not None:
                    await self.at_end()
        finally:
            self.close()

    def close(self) -> None:
        """Give up what was not read."""
        if self.rest is not None:
            self.rest.close()


class _Rest:
    """The part of a body that is still coming."""

    def __init__(
        self, port: Port, connection: AsyncConnection, body: AsyncBody, sending: _Sending, seconds: float
    ) -> None:
        self._port = port
        self._connection: AsyncConnection | None = connection
        self._body = body
        self._sending = sending
        self._seconds = seconds

    async def read(self) -> bytes:
        """The next piece, empty at the end."""
        if self._connection is None:
            return b""
        limit = _Limit(self._connection, asyncio.get_running_loop().time() + self._seconds)
        try:
            piece = await self._body.read(_PIECE)
        except BaseException as error:
            self._connection.close()
            self.close()
            if limit.passed:
                raise TookTooLong("its answer stalled") from error
            if isinstance(error, (OSError, ShortBody, BadBody)):
                raise BadAnswer(str(error)) from error
            raise
        finally:
            limit.end()
        if not piece:
            self.close()
        return piece

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._sending.end()
            self._port._give(connection)


class _Limit:
    """Closes a connection when its time is over."""

    def __init__(self, connection: AsyncConnection, deadline: float) -> None:
        self.passed = False
        self._connection = connection
        self._timer = asyncio.get_running_loop().call_at(deadline, self._pass)

    def _pass(self) -> None:
        self.passed = True
        self._connection.close()

    def end(self) -> None:
        self._timer.cancel()


class _Sending:
    """A request on its way; a large body is sent while the answer is read, since it may be made from the body's beginning."""

    def __init__(self, connection: AsyncConnection, head: bytes, payload: Payload | None) -> None:
        self._connection = connection
        self._task: asyncio.Task[None] | None = None
        self._start = (head, payload)

    async def begin(self, method: str) -> None:
        head, payload = self._start
        if payload is None or (payload.length or 0) <= _SENT_AT_ONCE:
            early = await self._connection.send(method, head, payload, expect=False)
            assert early is None  # what is sent at once is not interrupted
            return
        self._task = asyncio.ensure_future(self._connection.send_both_ways(head, payload))
        self._task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        # A transformer that hangs up may have answered all the same; what cannot be read from the disk ends the exchange.
        if not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), NoAnswer):
            self._connection.close()

    @property
    def failure(self) -> BaseException | None:
        """Why the body could not be read, if that is so."""
        task = self._task
        if task is None or not task.done() or task.cancelled() or isinstance(task.exception(), NoAnswer):
            return None
        return task.exception()

    def end(self) -> None:
        """The answer is over; a connection on which something is still to be sent is of no more use."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self._connection.close()


class Port:
    """Connections to one transformer."""

    def __init__(self, host: str, port: int, headers: Sequence[tuple[str, str]] = ()) -> None:
        """`headers` are those of every request."""
        self.host = host
        self._headers = headers
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
        await self._take_turn(seconds)
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

    async def _take_turn(self, seconds: float) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        # Not `wait_for`: until 3.12 it may lose a turn that comes together with the end of the wait.
        turn = asyncio.ensure_future(self._turns.acquire())
        try:
            await asyncio.wait([turn], timeout=seconds)
        except asyncio.CancelledError:
            if turn.done():
                self._turns.release()
            raise
        finally:
            late = not turn.done()
            turn.cancel()
        if late:
            raise TookTooLong(f"{_AT_ONCE} objects before this one are not done")

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
        fields = [("Host", f"{self.host}:{self.port}"), *self._headers, *headers]
        if method == "PUT":
            assert payload is not None
            assert payload.length is not None
            fields.append(("Content-Length", str(payload.length)))
        head = encode_request_line(method, target) + encode_headers(fields) + b"\r\n"
        limit = _Limit(connection, deadline)
        sending = _Sending(connection, head, payload)
        try:
            await sending.begin(method)
            response, body = await connection.receive(method)
            if isinstance(body, bytes):
                sending.end()
                self._give(connection)
                return Answer(response.status, response.headers, body, None)
            data = await body.read(HELD)
            if len(data) < HELD or body.done:
                # Fewer bytes than asked for are the end, or come before a failure, which the next call tells.
                if not body.done:
                    await body.read(1)
                sending.end()
                self._give(connection)
                return Answer(response.status, response.headers, data, None)
        except (OSError, BadHead, ShortBody, BadBody) as error:
            sending.end()
            connection.close()
            if sending.failure is not None:
                raise sending.failure from error
            if limit.passed:
                raise TookTooLong("no answer") from error
            if isinstance(error, NoAnswer):
                raise NoConnection(str(error), sent=True) from error
            raise BadAnswer(str(error)) from error
        except BaseException:
            sending.end()
            raise
        finally:
            limit.end()
        return Answer(response.status, response.headers, data, _Rest(self, connection, body, sending, seconds))

    def _give(self, connection: AsyncConnection) -> None:
        """Take a connection back after its answer."""
        self._turns.release()
        if self._closed or not connection.reusable or not connection.is_alive() or len(self._idle) >= _IDLE_MAX:
            connection.close()
        else:
            self._idle.append(connection)
