"""Custom metadata of objects: limits and encodings (protocol/20 3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Keys + values of one submitted set, in bytes.
MAX_BYTES = 2048
# What the reference separates pairs with on disk.
_RESERVED = (b"\x01", b"\xe3\x2f\xbd")
# What backends tell of their objects; shown first in listings, before what users set.
STANDARD = ("source", "version", "ETag", "md5", "crc32c", "LastModified", "Last-Modified")


def parse_lines(lines: Iterable[str]) -> dict[str, str]:
    """Pairs of the `Ais-Custom-Md` lines of a PUT, split at the first `=`, blanks and all. Raises ApiError 400."""
    pairs: dict[str, str] = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if not equals:
            raise ApiError(400, f'custom metadata: invalid format "{line}" (expecting key=value)')
        pairs[key] = value
    check(pairs)
    return pairs


def check(pairs: Mapping[str, str], context: str = "") -> None:
    """Raise ApiError 400 unless the submitted pairs keep the limits; `context` is the object's printable name (PATCH)."""
    shown = f"{context}: " if context else ""
    total = 0
    for key, value in pairs.items():
        if not key:
            raise ApiError(400, f'{shown}custom metadata: empty key (value="{value}")')
        encoded = key.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape")
        if any(mark in part for mark in _RESERVED for part in encoded):
            pair = f'"{key}"="{value}"'.encode("unicode_escape").decode()
            raise ApiError(400, f"{shown}custom metadata '{pair}': key or value contains reserved symbol")
        total += len(encoded[0]) + len(encoded[1])
    if total > MAX_BYTES:
        raise ApiError(400, f"{shown}custom metadata: total size {total} exceeds max {MAX_BYTES} bytes")


def format_lines(pairs: Mapping[str, str]) -> list[str]:
    """One `key=value` for each `Ais-Custom-Md` line of an answer; a header's value has no blanks around it."""
    return [f"{key}={value}".strip() for key, value in pairs.items()]


def format_listed(pairs: Mapping[str, str]) -> str:
    """The `custom-md` of a listing entry: `[k1:v1 k2:v2]`, standard keys first; empty when there are none."""
    if not pairs:
        return ""
    first = [key for key in STANDARD if key in pairs]
    return "[" + " ".join(f"{key}:{pairs[key]}" for key in (*first, *sorted(pairs.keys() - set(first)))) + "]"
