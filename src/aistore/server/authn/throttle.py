"""Slowing down who tries passwords: after a few failures, each further one doubles the time until the next attempt is looked at."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.http1.server import origin_of
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Throttle"]

# Failures that are forgiven: of one address with one account, of one address, and of one account from anywhere. The last one is
# generous, since strangers could keep its owner out. Where the account was logged in from before, only the first one counts.
_OF_BOTH: Final = 5
_OF_ADDRESS: Final = 20
_OF_ACCOUNT: Final = 100
_PAUSE_MAX: Final = 60.0
_FORGOTTEN: Final = 900.0
_KNOWN_MAX: Final = 10_000


class _Failures(NamedTuple):
    number: int
    last: float


class Throttle:
    """Failed logins, by account and address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()
        self._logged_in: OrderedDict[tuple[str, str], None] = OrderedDict()

    def check(self, account: str, address: str) -> None:
        """Raise `ApiError` 429 while further attempts are not looked at."""
        address = _place(address)
        keys = _keys(account, address)
        if (account, address) in self._logged_in:
            keys = keys[:1]
        wait = max(self._wait(key, forgiven) for key, forgiven in keys)
        if wait > 0:
            seconds = str(int(wait) + 1)
            raise ApiError(429, f"too many failed logins: try again in {seconds} s", headers={"Retry-After": seconds})

    def failed(self, account: str, address: str) -> None:
        """Count a failure."""
        now = self._clock()
        for key, _ in _keys(account, _place(address)):
            known = self._failures.pop(key, None)
            number = known.number if known is not None and now - known.last < _FORGOTTEN else 0
            self._failures[key] = _Failures(number + 1, now)
        while len(self._failures) > _KNOWN_MAX:
            self._failures.popitem(last=False)

    def succeeded(self, account: str, address: str) -> None:
        """Whoever knows the password may have mistyped it before. What the address did with other accounts is not forgotten."""
        address = _place(address)
        self._failures.pop((account, address), None)
        self._logged_in[account, address] = None
        self._logged_in.move_to_end((account, address))
        if len(self._logged_in) > _KNOWN_MAX:
            self._logged_in.popitem(last=False)

    def _wait(self, key: tuple[str, str], forgiven: int) -> float:
        known = self._failures.get(key)
        if known is None or known.number < forgiven:
            return 0.0
        pause = min(2.0 ** min(known.number - forgiven, 16), _PAUSE_MAX)
        return known.last + pause - self._clock()


def _keys(account: str, address: str) -> tuple[tuple[tuple[str, str], int], ...]:
    """What failures are counted for, that of both first. Loopback is no address: behind a proxy on this machine it is everybody's."""
    own = ((account, address), _OF_BOTH), ((account, ""), _OF_ACCOUNT)
    return own if _is_loopback(address) else (*own, (("", address), _OF_ADDRESS))


def _place(address: str) -> str:
    """What counts as one address: who has one of IPv6 has all of its network."""
    return origin_of(address) or address


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.removeprefix("::ffff:").startswith("127.")
