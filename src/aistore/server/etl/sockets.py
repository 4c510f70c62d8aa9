"""WebSocket connections to a transformer (protocol/50 6.6)."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from aistore.server.etl.exchange import Answer, BadAnswer, NoConnection, TookTooLong
from aistore.server.etl.proc import memory_of_machine
from aistore.server.store.content import in_thread
from aistore.wire.etl import KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import ModuleType

    from websockets.asyncio.client import ClientConnection

    from aistore.http1.payload import Payload

__all__ = ["NoWebSockets", "Sockets"]

_AT_ONCE: Final = 16
_MESSAGE_MAX: Final = 16 << 30  # of the reference
_MESSAGE_LEAST: Final = 64 << 20
_SENT_AT_ONCE: Final = 1 << 20
_TOO_BIG: Final = 1009  # RFC 6455 7.4.1
_ACKNOWLEDGED: Final = "direct put success"


class NoWebSockets(Exception):
    """The library that speaks WebSocket is not installed."""


class Sockets:
    """A pool of connections; on each one object after another. `key` shows whose they are; `largest`: bytes that a result may have, 0 for what memory allows."""

    def __init__(self, url: str, key: str = "", largest: int = 0) -> None:
        # A result is whole in memory: all that are under way at once take half of it at the most.
        share = memory_of_machine() // (2 * _AT_ONCE)
        self._headers = {KEY: key}
        self._largest = largest or min(max(share, _MESSAGE_LEAST), _MESSAGE_MAX)
        self._url = f"ws://{url.removeprefix('http://')}/ws"
        self._idle: deque[ClientConnection] = deque()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        try:
            import websockets.asyncio.client as library
            import websockets.exceptions as exceptions
        except ModuleNotFoundError:
            raise NoWebSockets('ETLs over ws:// need the library "websockets": pip install "aistore-py[etl]"') from None
        self._library = library
        self._exceptions: ModuleType = exceptions

    def close(self) -> None:
        """Drop what is idle, without a word: a transformer that hangs would not answer it."""
        while self._idle:
            self._idle.pop().transport.abort()

    async def check(self, timeout: float) -> None:
        """Open a first connection. Raises `NoConnection`, `TookTooLong`."""
        self._idle.append(await asyncio.wait_for(self._connect(), timeout))

    async def _connect(self) -> ClientConnection:
        try:
            return await self._library.connect(
                self._url,
                max_size=self._largest,
                compression=None,
                ping_interval=None,
                proxy=None,
                additional_headers=self._headers,
                open_timeout=None,
                close_timeout=1,
            )
        except (OSError, self._exceptions.WebSocketException) as error:
            raise NoConnection(f"failed to connect to {self._url}: {error}", sent=False) from error

    def _take_idle(self) -> ClientConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.close_code is None:  # else the worker at its other end is gone
                return connection
        return None

    async def ask(self, control: bytes, content: Payload | None, timeout: float, *, empty: bool) -> Answer:
        """What is made of one object. `empty`: it has no bytes, so that nothing may come of it.

        Raises `TookTooLong`, `NoConnection`, `BadAnswer` with what the transformer said.
        """
        try:
            reply = await asyncio.wait_for(self._ask(control, content), timeout)
        except asyncio.TimeoutError:
            raise TookTooLong("no answer") from None
        if isinstance(reply, str):
            if reply == _ACKNOWLEDGED or (reply.isdigit() and (int(reply) > 0 or empty)):
                return _answer(204, b"")
            raise BadAnswer(reply)
        return _answer(200, reply)

    async def _ask(self, control: bytes, content: Payload | None) -> str | bytes:
        async with self._turns:
            idle = self._take_idle()
            try:
                if idle is not None:
                    try:
                        return await self._exchange(idle, control, content)
                    except self._exceptions.ConnectionClosed as error:
                        told = error.rcvd is not None or error.sent is not None
                        if told or (content is not None and not content.rewind()):
                            raise
                    # The worker at its other end may have ended in this very moment.
                return await self._exchange(await self._connect(), control, content)
            except self._exceptions.ConnectionClosed as error:
                if error.sent is not None and error.sent.code == _TOO_BIG:
                    text = f"its result has more than {self._largest >> 20} MiB, which are held in memory over ws://; use hpush:// or hpull://"
                    raise NoConnection(text, sent=True) from error
                raise NoConnection(f"{self._url}: {error}", sent=True) from error

    async def _exchange(self, connection: ClientConnection, control: bytes, content: Payload | None) -> str | bytes:
        try:
            await connection.send(control)
            if content is not None:
                await connection.send(_message(content))
            reply = await connection.recv()
        except self._exceptions.ConnectionClosed:
            raise
        except BaseException:
            # Nobody knows which answer would come next.
            connection.transport.abort()
            raise
        self._idle.append(connection)
        return reply


def _message(content: Payload) -> bytes | AsyncIterator[bytes]:
    """What is sent of an object; a large one goes in several frames, and is never whole in memory."""
    if content.length is not None and content.length <= _SENT_AT_ONCE:
        return b"".join(map(bytes, content.pieces()))
    return _frames(content)


async def _frames(content: Payload) -> AsyncIterator[bytes]:
    pieces = iter(content.pieces())
    while (piece := await in_thread(next, pieces, None)) is not None:
        yield bytes(piece)


def _answer(status: int, data: bytes) -> Answer:
    return Answer(status, {}, data, None)
