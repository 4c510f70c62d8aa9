"""Whether bytes of a file are in the system's memory, its page cache: those that come from the disk are compared anew.

`preadv2` with `RWF_NOWAIT` tells (Linux). Asking has the system begin to read, so what took as long as a disk takes, because something else
had the processor meanwhile, counts as coming from there. Other systems cannot tell: there everything counts as being in memory.
"""

from __future__ import annotations

import os
import time
from typing import Final

__all__ = ["READ_AT_ONCE", "RWF_NOWAIT", "in_memory", "is_quick", "read_if_in_memory"]

RWF_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)
"""Flag of `preadv`: only what is in memory; 0 on systems that cannot tell."""

READ_AT_ONCE: Final = 64 * 1024
"""Bytes whose copy costs less than sending them from their file."""

_PROBED: Final = 2 << 20
_PROBES: Final = 256
_PROBE_COST: Final = 2_000  # nanoseconds
_QUICK: Final = 50_000  # nanoseconds: no disk is so quick


def in_memory(fd: int, start: int, end: int) -> bool:
    """Whether a part of a file is: as far as a byte of each 2 MiB, of 256 places at most, and the last one tell."""
    if not RWF_NOWAIT or start >= end:
        return True
    probe, last = bytearray(1), end - 1
    places = range(start, last, max(_PROBED, (last - start) // _PROBES))
    began = time.perf_counter_ns()
    try:
        for place in places:
            if os.preadv(fd, [probe], place, RWF_NOWAIT) != 1:
                return False
        if os.preadv(fd, [probe], last, RWF_NOWAIT) != 1:
            return False
    except BlockingIOError:
        return False
    except OSError:  # not every file system can
        return True
    return is_quick(began, len(places) * _PROBE_COST)


def read_if_in_memory(fd: int, offset: int, length: int) -> bytes | None:
    """Read without waiting for the disk, or None if that is not possible, or worth the copy; where the system cannot tell, it is waited for."""
    if length > READ_AT_ONCE:
        return None
    if not RWF_NOWAIT:
        data = os.pread(fd, length, offset)
        return data if len(data) == length else None
    buffer = bytearray(length)
    try:
        if length and os.preadv(fd, [buffer], offset, RWF_NOWAIT) != length:
            return None
    except OSError:
        return None
    return bytes(buffer)


def is_quick(began: int, cost: int) -> bool:
    """Whether what began then (`perf_counter_ns`) and was not waited for came from memory for sure; that takes `cost` nanoseconds or less."""
    return time.perf_counter_ns() - began <= _QUICK + cost
