"""Which process works on which remote object, where several work on one data folder.

A claim is a lock on one byte of a file, at the place that is the digest of the object's name. The system lets go of it when its process
ends, however it ends. It is the process that holds it: what happens within one process is arranged there.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import xxhash

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["Claims"]

_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.05


class Claims:
    """The claims of this process in the file `path`, which is made when the first one is wanted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._held: dict[int, int] = {}

    def close(self) -> None:
        """Let go of everything."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @asynccontextmanager
    async def held(self, bid: int, name: str) -> AsyncIterator[None]:
        """Wait until no other process has a claim on the object, and have one."""
        if self._fd < 0:
            # No second descriptor is ever opened: closing one would let go of all locks of the process (POSIX).
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        place = xxhash.xxh3_64_intdigest(f"{bid}/{name}".encode(errors="surrogatepass")) >> 2  # offsets have 63 bits
        pause = _FIRST_PAUSE
        while not self._held.get(place) and not self._try(place):
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self._held[place] = self._held.get(place, 0) + 1
        try:
            yield
        finally:
            self._held[place] -= 1
            if not self._held[place]:
                del self._held[place]
                if self._fd >= 0:
                    fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, place)

    def _try(self, place: int) -> bool:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):  # which of the two is the system's choice
            return False
        return True
