"""How slowly bytes may come or go."""

from __future__ import annotations

__all__ = ["Pace"]


class Pace:
    """Time that a client has for its next byte: bytes earn it, waiting for them costs it.

    It may be silent for `most` seconds, and slower than `rate` bytes a second for as long.
    """

    __slots__ = ("_credit", "_most", "_rate", "_since")

    def __init__(self, most: float, rate: int, now: float) -> None:
        self._credit = self._most = most
        self._rate = rate
        self._since = now

    def wait(self, now: float) -> float:
        """Waiting begins: when it is over."""
        self._since = now
        return now + self._credit

    def moved(self, count: int, now: float) -> float:
        """`count` bytes have moved while it was waited for: until when the next may take."""
        self._credit = min(self._most, self._credit - (now - self._since) + count / self._rate)
        self._since = now
        return now + self._credit
