"""Sending a part of a file without copying it through this process, and without waiting for the disk on the loop."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from aistore.http1.message import FilePart

__all__ = ["send_file"]

_WINDOW: Final = 2 * 1024 * 1024  # bytes of a file sent between two looks at whether it is in memory
_PIECE: Final = 256 * 1024  # bytes that are copied, and encrypted, before others get their turn
_SHORT: Final = 256 * 1024  # bytes that go out at once, whoever else sends
_RWF_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)


class Sender(Protocol):
    """What sending needs of a connection."""

    transport: asyncio.Transport

    async def turn(self) -> None:
        """Wait for a turn to do what takes a while."""

    def check_alive(self) -> None:
        """Raise `ConnectionResetError` if the client is gone."""

    async def drain(self) -> None:
        """Wait until more may be written."""

    async def writable(self, fd: int, sent: int) -> None:
        """Wait until a duplicate of the socket's descriptor takes more bytes; `sent` are those that it took since the last wait, -1 for the first."""


async def send_file(sender: Sender, part: FilePart) -> None:
    """Send `part`; the head of the answer was written to the transport before."""
    loop = asyncio.get_running_loop()
    transport = sender.transport
    if transport.get_extra_info("ssl_object") is not None or not hasattr(os, "sendfile"):
        await _send_by_copy(sender, part)
        return
    transport.set_write_buffer_limits(0)  # the head must be out before the file's bytes pass by the transport
    try:
        await sender.drain()
        out = transport.get_extra_info("socket").fileno()
        offset, end = part.offset, part.offset + part.length
        waiting, since = -1, -1
        fresh = True  # a step begins, for which a turn is due
        try:
            while offset < end:
                sender.check_alive()
                window = min(end, offset + _WINDOW)
                if part.grows:
                    window = min(window, await part.ready(offset))
                    sender.check_alive()
                if fresh and window - offset > _SHORT:
                    await sender.turn()
                    sender.check_alive()
                    fresh = False
                if not _in_memory(part.fd, offset, window):
                    await loop.run_in_executor(None, _bring_in, part.fd, offset, window)
                    sender.check_alive()
                try:
                    sent = os.sendfile(out, part.fd, offset, window - offset)
                except BlockingIOError:
                    if waiting < 0:
                        waiting = os.dup(out)  # asyncio lets nobody else wait on a transport's own descriptor
                    await sender.writable(waiting, since)
                    since, fresh = 0, True
                    continue
                if sent == 0:
                    raise OSError(f"content file ended {end - offset} bytes early")
                offset += sent
                fresh = offset == window
                if waiting >= 0:
                    since += sent
        finally:
            if waiting >= 0:
                os.close(waiting)
    finally:
        transport.set_write_buffer_limits()


async def _send_by_copy(sender: Sender, part: FilePart) -> None:
    loop = asyncio.get_running_loop()
    offset, end = part.offset, part.offset + part.length
    known = offset  # up to here it is in memory
    while offset < end:
        sender.check_alive()
        if offset >= known:
            known = min(end, offset + _WINDOW)
            if part.grows:
                known = min(known, await part.ready(offset))
            if not _in_memory(part.fd, offset, known):
                await loop.run_in_executor(None, _bring_in, part.fd, offset, known)
            continue
        # A client that takes all at once, or is gone, is never waited for, and the loop tells who is gone.
        if part.length > _SHORT:
            await sender.turn()
            sender.check_alive()
        piece = os.pread(part.fd, min(_PIECE, known - offset), offset)
        if not piece:
            raise OSError(f"content file ended {end - offset} bytes early")
        sender.transport.write(piece)
        offset += len(piece)
        await sender.drain()


def _in_memory(fd: int, start: int, end: int) -> bool:
    """Whether the first and last byte of the range are in the page cache (True where the system cannot tell)."""
    if not _RWF_NOWAIT:
        return True
    probe = bytearray(1)
    try:
        os.preadv(fd, [probe], start, _RWF_NOWAIT)
        os.preadv(fd, [probe], end - 1, _RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:  # not every file system can
        return True
    return True


def _bring_in(fd: int, start: int, end: int) -> None:
    while start < end:
        start += len(os.pread(fd, min(512 * 1024, end - start), start)) or end
