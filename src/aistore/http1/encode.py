"""Request heads as bytes: strict, so that no value can add a header or a second request (RFC 9112 3, RFC 9110 5.5)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["encode_headers", "encode_request_line"]

_is_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_is_target = re.compile(r"[!-~]+").fullmatch
_has_control = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search


def encode_request_line(method: str, target: str) -> bytes:
    """`METHOD target HTTP/1.1` with its line end; `ValueError` unless both are printable ASCII without blanks."""
    if _is_target(target) is None:
        raise ValueError(f"request target {target!r} has a character that must be percent-encoded")
    if _is_token(method) is None:
        raise ValueError(f"{method!r} is no HTTP method")
    return f"{method} {target} HTTP/1.1\r\n".encode("ascii")


def encode_headers(headers: Iterable[tuple[str, str]]) -> bytes:
    """Header lines, without the blank line at the end; values are sent as UTF-8. `ValueError` for a name that is no token or a value with a control character."""
    lines = []
    for name, value in headers:
        if _is_token(name) is None:
            raise ValueError(f"{name!r} is no header name")
        if _has_control(value) is not None:
            # Not shown where it may be a secret: errors end up in logs.
            shown = "" if name.lower() == "authorization" else f": {value[:80]!r}"
            raise ValueError(f"the value of header {name} has a control character{shown}")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode()
