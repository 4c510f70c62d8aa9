"""Times in a Go layout (`2006-01-02 15:04:05`), as listings take one for `atime` (protocol/10 17)."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

RFC822 = "02 Jan 06 15:04 MST"
MAX_LAYOUT = 128

# Reference-time elements, longest first where one starts another.
_ELEMENTS: dict[str, str] = {
    "January": "%B",
    "Jan": "%b",
    "Monday": "%A",
    "Mon": "%a",
    "MST": "%Z",
    "2006": "%Y",
    "-0700": "%z",
    "002": "%j",
    "01": "%m",
    "02": "%d",
    "03": "%I",
    "04": "%M",
    "05": "%S",
    "06": "%y",
    "15": "%H",
    "PM": "%p",
}
_NUMBERS = {"1": "tm_mon", "2": "tm_mday", "4": "tm_min", "5": "tm_sec", "_2": "tm_mday"}
_TOKEN = re.compile(
    r"[.,][09]+(?![0-9])|-07:00|Z07:00|Z0700|_2|" + "|".join(map(re.escape, _ELEMENTS)) + "|pm|[12345]|3"
)


@lru_cache(maxsize=16)
def formatter(layout: str) -> Callable[[int], str]:
    """A function that prints Unix nanoseconds in the server's zone by this layout; empty means RFC 822. 0 prints as empty."""
    parts = _split(layout or RFC822)
    # Objects of one listing share seconds, and RFC 822 shows minutes: nearly every call is a look-up.
    in_second = lru_cache(maxsize=4096)(lambda second: _print(parts, second, 0))
    if any(item[:1] in ".," and len(item) > 1 for item, known in parts if known):
        return lambda nanoseconds: _print(parts, *divmod(nanoseconds, 1_000_000_000)) if nanoseconds else ""
    return lambda nanoseconds: in_second(nanoseconds // 1_000_000_000) if nanoseconds else ""


def _split(layout: str) -> list[tuple[str, bool]]:
    parts, at = [], 0
    for match in _TOKEN.finditer(layout):
        parts += [(layout[at : match.start()], False), (match[0], True)]
        at = match.end()
    return [*parts, (layout[at:], False)]


def _print(parts: list[tuple[str, bool]], second: int, nanosecond: int) -> str:
    when = time.localtime(second)
    return "".join(_element(item, when, nanosecond) if known else item for item, known in parts)


def _element(item: str, when: time.struct_time, nanosecond: int) -> str:
    if item in _ELEMENTS:
        return time.strftime(_ELEMENTS[item], when)
    if item in _NUMBERS:
        number = str(getattr(when, _NUMBERS[item]))
        return number.rjust(2) if item == "_2" else number
    if item == "3":
        return str(when.tm_hour % 12 or 12)
    if item == "pm":
        return time.strftime("%p", when).lower()
    if item[0] in ".,":
        digits = f"{nanosecond:09d}"[: len(item) - 1]
        return item[0] + digits if item[1] == "0" else (item[0] + digits).rstrip("0").rstrip(".,")
    offset = when.tm_gmtoff
    if item[0] == "Z" and not offset:
        return "Z"
    sign, minutes = "-" if offset < 0 else "+", abs(offset) // 60
    return f"{sign}{minutes // 60:02d}{':' if ':' in item else ''}{minutes % 60:02d}"
