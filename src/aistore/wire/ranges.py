"""The `Range` header of object reads (protocol/20 4.3, RFC 9110 14.1.2)."""

from __future__ import annotations

import re

from aistore.wire.errors import ApiError

_NUMBER = re.compile(r"[+]?[0-9]+", re.ASCII)
_MAX = (1 << 63) - 1


def parse_range(header: str, size: int, cname: str = "object") -> tuple[int, int]:
    """Offset and length of the one range asked for, clamped to `size`; raises ApiError 416.

    Members of a list that lie beyond the object are dropped; when two or more are left, or none, the range is
    refused. `Content-Range: bytes */size` goes with the latter. `cname` names the object in that message.
    """
    if not header.startswith("bytes="):
        raise _invalid(header, "is invalid (prefix)")
    found: list[tuple[int, int]] = []
    beyond: list[str] = []
    for item in header[6:].split(","):
        text = item.strip(" \t")
        if not text:
            continue
        start, dash, end = text.partition("-")
        if not dash:
            raise _invalid(header, "is invalid (-)")
        start, end = start.strip(" \t"), end.strip(" \t")
        span = _suffix(text, end, size) if not start else _span(text, start, end, size)
        if span is None:
            beyond.append(text)
        else:
            found.append(span)
    if len(found) == 1:
        return found[0]
    if found:
        raise ApiError(416, f"cannot multi-range read {cname} - operation not supported", "ErrUnsupp")
    if not beyond:  # `bytes=`: the reference loses the connection over it
        raise _invalid(header, "is invalid (-)")
    what = "range" if len(beyond) == 1 else "ranges"
    message = f"size={size}: not satisfiable {what} [{' '.join(beyond)}]"
    raise ApiError(416, message, "ErrRangeNotSatisfiable", {"Content-Range": f"bytes */{size}"})


def _suffix(text: str, end: str, size: int) -> tuple[int, int] | None:
    if not end or end.startswith("-"):
        raise _invalid(text, "is invalid as per RFC 7233 Section 2.1")
    length = _number(end)
    if length is None:
        raise _invalid(text, "is invalid (see RFC 7233 Section 2.1)")
    length = min(length, size)
    return (size - length, length) if length else None


def _span(text: str, start: str, end: str, size: int) -> tuple[int, int] | None:
    first = _number(start)
    if first is None:
        raise _invalid(text, "is invalid (start)")
    if first >= size:
        return None
    if not end:
        return first, size - first
    last = _number(end)
    if last is None or last < first:
        raise _invalid(text, "is invalid (end)")
    return first, min(last, size - 1) - first + 1


def _number(text: str) -> int | None:
    # A number of thousands of digits would cost quadratic time; 64 bits have 19.
    if len(text) > 64 or not _NUMBER.fullmatch(text):
        return None
    number = int(text)
    return number if number <= _MAX else None


def _invalid(text: str, why: str) -> ApiError:
    return ApiError(416, f'read range "{text}" {why}')
