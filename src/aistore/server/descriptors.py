"""File descriptors: as many as the process may have, and what happens when there are none left."""

from __future__ import annotations

import errno
import logging
import resource
import time
from typing import TYPE_CHECKING, Final

from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    import asyncio

__all__ = ["OTHERS", "connections_allowed", "on_loop_error", "shortage"]

logger = logging.getLogger(__name__)

OTHERS: Final = 64
"""Descriptors that belong to no connection."""

_CONNECTIONS_MIN: Final = 16
_TOLD_EVERY: Final = 60.0


def connections_allowed(connections: int) -> int:
    """How many of so many connections there may be, after raising the process's limit of descriptors as far as it goes.

    A connection that reads an object has up to three: its socket, that once more to wait on, and the file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * connections + OTHERS
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (ValueError, OSError):  # macOS has a limit below what it tells
            most = soft
    return max(_CONNECTIONS_MIN, (most - OTHERS) // 3)


def shortage(error: object) -> ApiError | None:
    """What a client is told if an exception says that no descriptor is left; that is logged, but not every time."""
    if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
        return None
    if _now_and_then.due():
        logger.warning("%s: requests are refused and no connections accepted until some are closed", error.strerror)
    return ApiError(503, "the server has no file descriptor left", headers={"Retry-After": "1"})


class _NowAndThen:
    """True at first, and then once in `_TOLD_EVERY` seconds."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def due(self) -> bool:
        now = time.monotonic()
        if now - self._last < _TOLD_EVERY:
            return False
        self._last = now
        return True


_now_and_then = _NowAndThen()


def on_loop_error(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Log what nobody waits for.

    Without descriptors asyncio stops accepting for a second, again and again, and says so many times each.
    """
    error = context.get("exception")
    if shortage(error) is None:
        logger.error("%s", context.get("message"), exc_info=error if isinstance(error, BaseException) else None)
