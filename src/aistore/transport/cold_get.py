"""Waiting for an object that a remote backend is still delivering (protocol/00 19.2); no I/O.

A GET of an object that is not in the cluster yet may take longer than the read timeout, while the target fetches it under a write
lock. Asking again at once would only queue up behind the same download.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from aistore.transport.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from aistore.transport.retry import ColdGetRules

__all__ = ["applies", "poll", "wait_bounds"]

BANDWIDTH: Final = 1_250_000_000
"""Bytes per second assumed between cluster and backend (10 Gbit/s)."""

MAX_WAIT: Final = 180
_LOCKED: Final = 423
_CHECK_LOCK: Final = b'{"action":"check-lock","name":"","value":null}'


def applies(request: Request) -> bool:
    """Whether a read timeout of `request` may mean a cold GET: a GET of an object of a bucket that is not `ais`."""
    return (
        request.method == "GET"
        and request.path.startswith("objects/")
        and _param(request.query, "provider") not in (None, "ais", "")
    )


def wait_bounds(size: int, bandwidth: int, longest: int) -> tuple[float, float]:
    """Shortest and longest pause between two looks at the lock, in seconds, for an object of `size` bytes."""
    seconds = size / (bandwidth if bandwidth > 0 else BANDWIDTH)
    low = min(max(seconds / 4, 2.0), 10.0)
    return low, max(low, min(int(longest / 2), int(4 * seconds)))


def poll(
    request: Request, rules: ColdGetRules | None, now: Callable[[], float] = time.monotonic
) -> Generator[Request | float, tuple[int, str | None], int]:
    """Look at the object's lock until it is free: yields requests (answered by status and `Content-Length`) and seconds to sleep.

    Returns the number of looks. `now` is the clock.
    """
    bandwidth = BANDWIDTH if rules is None else rules.est_bandwidth_bps
    longest = MAX_WAIT if rules is None else rules.max_cold_wait
    identity = "&".join(
        f"{name}={value}" for name in ("provider", "namespace") if (value := _param(request.query, name))
    )
    look = Request("POST", request.path, identity, body=_CHECK_LOCK, timeout=request.timeout)
    status, _ = yield look
    if status != _LOCKED:
        return 1
    presence = "0" if getattr(rules, "enable_remote_head", True) else "2"
    status, length = yield Request(
        "HEAD", request.path, f"{identity}&presence={presence}&props=size", timeout=request.timeout
    )
    size = int(length) if status == 200 and length is not None and length.isdigit() else 0
    low, high = wait_bounds(size, bandwidth, longest)
    deadline = now() + longest
    looks = 1
    while True:
        status, _ = yield look
        if status != _LOCKED:
            return looks + 1
        pause = max(low, min(2.0 * 2 ** (looks - 1), high))
        looks += 1
        if now() + pause > deadline:
            return looks
        yield pause


def _param(query: str, name: str) -> str | None:
    """Value of a query parameter, still encoded; None if absent."""
    for item in query.split("&"):
        key, _, value = item.partition("=")
        if key == name:
            return value
    return None
