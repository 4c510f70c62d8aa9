"""The way out of a connection of the server: what its client takes, how slowly, and what is held until then."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
from typing import TYPE_CHECKING, Final

from aistore.http1.pace import Pace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aistore.http1.message import BytesLike
    from aistore.http1.server import HttpServer

__all__ = ["Outflow"]

# That the other side has sent its last byte, seen also where nothing is received; macOS tells only of the end of both sides.
_ENDED: Final = getattr(select, "POLLRDHUP", 0)
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: what is unsent is dropped


class Outflow(asyncio.BufferedProtocol):
    """Writes to one client. It is `_blocked` while that does not take its answers, and `_lost` when it is gone."""

    __slots__ = ("_blocked", "_lost", "_pace", "_server", "_unread", "_unsent", "_waiter", "deadline", "transport")

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._blocked = False
        self._lost = False
        self._pace: Pace
        self._unsent = 0
        self._unread = 0  # bytes that are counted for all connections
        self._waiter: asyncio.Future[None] | None = None
        self.deadline = 0.0
        self.transport: asyncio.Transport

    # -- asyncio callbacks -------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        self._blocked = True
        self._unsent = self.transport.get_write_buffer_size()
        self._count_unread(self._unsent)
        self.deadline = self._begin()

    def resume_writing(self) -> None:
        self._blocked = False
        self._count_unread(0)
        self._wake()

    # -- sending -----------------------------------------------------------------------------------------------

    async def _send_pieces(self, pieces: AsyncIterator[BytesLike | list[bytes]], chunked: bool) -> int:
        """Send a body; its bytes."""
        sent = 0
        async for piece in pieces:
            parts = piece if isinstance(piece, list) else (piece,)
            size = sum(map(len, parts))
            if not size:  # an empty chunk would be the end
                continue
            # Not `writelines`: until 3.12.8 and 3.13.1 it never says that the client does not keep up (CVE-2024-12254).
            data = b"".join((b"%x\r\n" % size, *parts, b"\r\n") if chunked else parts)
            # The rest of a view, where the socket does not take all at once, is no copy.
            self.transport.write(memoryview(data))
            sent += size
            await self.drain()
        if chunked:
            self.transport.write(b"0\r\n\r\n")
        return sent

    async def _break_off(self) -> None:
        """End within an answer. What was written of it is good, and goes out before: an abort would drop it."""
        with contextlib.suppress(ConnectionError):
            if not self._lost:
                self.transport.set_write_buffer_limits(0)
                await self.drain()
        self.transport.abort()

    def check_alive(self) -> None:
        """Raise `ConnectionResetError` if the client is gone."""
        if self._lost:
            raise ConnectionResetError("the client closed the connection")

    @property
    def is_gone(self) -> bool:
        """Whether the client has closed the connection, or its side of it."""
        if self._lost or self.transport.is_closing():
            return True
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), _ENDED)
        return bool(poll.poll(0))

    async def turn(self) -> None:
        """Wait for a turn to do what takes a while: all who read large objects together must not hold up who reads a small one."""
        await self._server.turns.next()

    async def drain(self) -> None:
        """Wait until more may be written."""
        if self._blocked and not self._lost:
            await self._wait()
        self.check_alive()

    def _begin(self) -> float:
        """The client does not take what it is sent: until when it may."""
        limits, now = self._server.limits, self._server.now
        self._pace = Pace(limits.write, limits.rate, now)
        return self._pace.wait(now)

    def _count_unread(self, size: int) -> None:
        """So many bytes of answers are held for this client."""
        self._server.unread.used += size - self._unread
        self._unread = size

    async def writable(self, fd: int, sent: int) -> None:
        """Wait until a duplicate of the socket's descriptor takes more bytes; `sent` are those that it took since the last wait, -1 for the first."""
        loop = asyncio.get_running_loop()
        self.deadline = self._begin() if sent < 0 else self._pace.moved(sent, self._server.now)
        loop.add_writer(fd, self._wake)
        try:
            await self._wait()
        finally:
            loop.remove_writer(fd)
            self.deadline = float("inf")

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- ending ------------------------------------------------------------------------------------------------

    def takes_more(self) -> bool:
        """The time is over: whether a client that is waited for is slow, but not too slow."""
        unsent = self.transport.get_write_buffer_size()
        self.deadline = self._pace.moved(self._unsent - unsent, self._server.now)
        self._unsent = unsent
        self._count_unread(unsent)
        return self.deadline > self._server.now

    def drop(self) -> None:
        """End at once, without what was not sent: the kernel would keep that for as long as the client lives."""
        with contextlib.suppress(OSError):  # it is gone already
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()
