"""Booleans, durations, sizes and times as the protocol writes them (protocol/00 4.3, 4.4)."""

from __future__ import annotations

import re
from datetime import datetime, timezone

SECOND = 1_000_000_000
ZERO_TIME = "0001-01-01T00:00:00Z"

_TRUE = frozenset({"true", "y", "yes", "on", "1", "t", "T", "TRUE", "True"})
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_TERM = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(?:([KMGT])(I?))?B?", re.ASCII)
_POWER = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_MAX = (1 << 63) - 1


def parse_bool(text: str) -> bool:
    """Boolean of a query parameter or header; everything but the nine spellings of true is false."""
    return text in _TRUE


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration string such as `1h30m`, `500ms` or `0`; raises ValueError."""
    body = text.removeprefix("-").removeprefix("+")
    if body == "0":
        return 0
    total, at = 0.0, 0
    exact = 0
    for term in _TERM.finditer(body):
        if term.start() != at:
            break
        at = term.end()
        if "." in term[1]:
            total += float(term[1]) * _UNITS[term[2]]
        else:
            exact += int(term[1]) * _UNITS[term[2]]
    if not body or at != len(body) or len(body) > 64:
        raise ValueError(f'time: invalid duration "{text[:64]}"')
    nanoseconds = exact + round(total)
    if nanoseconds > _MAX:
        raise ValueError(f'time: invalid duration "{text[:64]}"')
    return -nanoseconds if text.startswith("-") else nanoseconds


def format_duration(nanoseconds: int) -> str:
    """Go duration string, with the seconds dropped after whole minutes: `2m`, `1h0m`, `1.5s`, `0s`."""
    if nanoseconds < 0:
        return "-" + format_duration(-nanoseconds)
    if nanoseconds < SECOND:
        for unit, scale in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if nanoseconds >= scale:
                return _decimal(nanoseconds, scale) + unit
        return "0s"
    minutes, rest = divmod(nanoseconds, 60 * SECOND)
    hours, minutes = divmod(minutes, 60)
    seconds = _decimal(rest, SECOND) + "s"
    if hours or minutes:
        shown = (f"{hours}h" if hours else "") + f"{minutes}m"
        return shown + (seconds if rest else "")
    return seconds


def _decimal(value: int, scale: int) -> str:
    whole, part = divmod(value, scale)
    digits = f"{part:0{len(str(scale)) - 1}d}".rstrip("0") if part else ""
    return f"{whole}.{digits}" if digits else str(whole)


def parse_size(text: str, decimal: bool = False) -> int:
    """Bytes of a size string; empty is 0; raises ValueError.

    Suffixes without an `i` are powers of 1024 too, as in configuration and properties, unless `decimal` (request headers).
    """
    if not text:
        return 0
    found = _SIZE.fullmatch(text.strip().upper()) if len(text) <= 64 else None
    if found is None:
        raise ValueError(f'strconv.ParseInt: parsing "{text[:64].upper()}": invalid syntax')
    base = 1000 if decimal and not found[3] else 1024
    scale: int = base ** _POWER[found[2] or ""]
    size = int(float(found[1]) * scale) if "." in found[1] else int(found[1]) * scale
    if size > _MAX:
        raise ValueError(f'strconv.ParseInt: parsing "{text.upper()}": value out of range')
    return size


def format_size(size: int) -> str:
    """Size in whole units, rounded as the reference does: `1GiB`, `2GiB` for a size and a half, `0B`."""
    for unit, scale in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= scale:
            return f"{size / scale:.0f}{unit}"
    return f"{size}B"


def format_time(nanoseconds: int) -> str:
    """RFC 3339 in UTC with up to nine fractional digits; 0 is Go's zero time."""
    if not nanoseconds:
        return ZERO_TIME
    seconds, fraction = divmod(nanoseconds, SECOND)
    day = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return day + (f".{fraction:09d}".rstrip("0") if fraction else "") + "Z"


def parse_time(text: str) -> int:
    """Unix nanoseconds of an RFC 3339 time; 0 for the zero time; raises ValueError."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", text, re.ASCII)
    if found is None:
        raise ValueError(f"not an RFC 3339 time: {text[:64]!r}")
    if text.startswith("0001-01-01T"):
        return 0
    zone = "+00:00" if found[3] == "Z" else found[3]
    whole = datetime.fromisoformat(found[1] + zone)
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    delta = whole - epoch
    return (delta.days * 86400 + delta.seconds) * SECOND + int((found[2] or "0").ljust(9, "0"))


def base36(number: int) -> str:
    """A number as redirects and entity tags write it (protocol/00 4.4)."""
    out = ""
    while number:
        number, digit = divmod(number, 36)
        out = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + out
    return out or "0"
