"""Between an event loop and the thread of a streamed transformation: bytes in both directions, and not too many at a time."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from aistore.sdk.etl.webserver._failures import ClientLeft

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
    from typing import Any

    from aistore.sdk.etl.webserver._steps import Bytes

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

__all__ = ["BodyReader", "PieceQueue"]

LIMIT: Final = 1024 * 1024
"""Bytes that wait for a slower side, at most, and the piece on top that went over it."""


class BodyReader:
    """The body of a request: a task of the loop fills it (`fill`), a thread reads it as a file."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._changed = threading.Condition()
        self._pieces: deque[memoryview] = deque()
        self._size = 0
        self._ended = False
        self._left = False
        self._closed = False

    async def fill(self) -> None:
        """Take the body as it comes, and wait for its end or for that of the client."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                with self._changed:
                    self._left = True
                    self._changed.notify_all()
                return
            body = message.get("body", b"")
            with self._changed:
                if body and not self._closed:
                    self._pieces.append(memoryview(body))
                    self._size += len(body)
                self._ended = self._ended or not message.get("more_body", False)
                self._room.clear()
                full = self._size > LIMIT
                self._changed.notify_all()
            if full:
                await self._room.wait()

    def read(self, size: int = -1, /) -> bytes:
        """`size` bytes, fewer only at the end, all with -1. Raises ConnectionError if the client leaves before that."""
        found: list[memoryview] = []
        left = size if size >= 0 else None
        while left is None or left > 0:
            piece = self._take(left)
            if piece is None:
                break
            found.append(piece)
            if left is not None:
                left -= len(piece)
        return b"".join(found)

    def _take(self, wanted: int | None) -> memoryview | None:
        with self._changed:
            while not (self._pieces or self._ended or self._left or self._closed):
                self._changed.wait()
            if self._closed:
                raise ValueError("read of a closed body")
            if not self._pieces:
                if self._ended:
                    return None
                raise ClientLeft("the client left before the end of the body")
            piece = self._pieces.popleft()
            if wanted is not None and len(piece) > wanted:
                self._pieces.appendleft(piece[wanted:])
                piece = piece[:wanted]
            self._shrink(len(piece))
            return piece

    def close(self) -> None:
        """Give up the rest."""
        with self._changed:
            self._closed = True
            self._pieces.clear()
            self._shrink(self._size)

    def _shrink(self, count: int) -> None:
        before, self._size = self._size, self._size - count
        if before > LIMIT >= self._size and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._room.set)


class PieceQueue:
    """Pieces that a thread makes (`put_all`) and a task of the loop sends (`async for`)."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        self._changed = threading.Condition()
        self._pieces: deque[Bytes] = deque()
        self._size = 0
        self._ended = False
        self._left = False
        self._error: BaseException | None = None

    def put_all(self, pieces: Iterator[Bytes]) -> None:
        """Put pieces until there are no more, or nobody wants them; what making them raises is raised where they are taken."""
        error: BaseException | None = None
        try:
            for piece in pieces:
                self._put(piece)
        except ClientLeft:
            pass
        except Exception as failure:
            error = failure
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
            with self._changed:
                self._ended, self._error = True, error
            self._wake()

    def _put(self, piece: Bytes) -> None:
        with self._changed:
            while self._size > LIMIT and not self._left:
                self._changed.wait()
            if self._left:
                raise ClientLeft("the client left before the end of the answer")
            was_empty = not self._pieces
            self._pieces.append(piece)
            self._size += len(piece)
        if was_empty:
            self._wake()

    def _wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._filled.set)

    def leave(self) -> None:
        """Nobody wants more pieces."""
        with self._changed:
            self._left = True
            self._changed.notify_all()

    async def __aiter__(self) -> AsyncIterator[Bytes]:
        while True:
            with self._changed:
                pieces, self._pieces = self._pieces, deque()
                self._size = 0
                ended, error = self._ended, self._error
                self._filled.clear()
                self._changed.notify_all()
            for piece in pieces:
                yield piece
            if pieces:
                continue
            if error is not None:
                raise error
            if ended:
                return
            await self._filled.wait()
