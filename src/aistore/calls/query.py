"""Paths and query strings of requests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["encode_query", "extend", "quote_name"]

# Names that are their own percent-encoding; nearly all are.
_plain = re.compile(r"[A-Za-z0-9_.~/-]*").fullmatch


def quote_name(name: str) -> str:
    """Name of an object or bucket as a part of a path; `/` stays (protocol/00 6.6)."""
    if _plain(name):
        return name
    from urllib.parse import quote

    return quote(name)


def encode_query(parameters: Mapping[str, object] | Iterable[tuple[str, object]] | None) -> str:
    """Parameters in form encoding, in their order; those that are None are left out."""
    if not parameters:
        return ""
    from urllib.parse import urlencode

    pairs = parameters.items() if hasattr(parameters, "items") else parameters
    return urlencode([(name, value) for name, value in pairs if value is not None])


def extend(query: str, **parameters: object) -> str:
    """A query string with more parameters; `_` in their names stands for itself."""
    more = encode_query(parameters)
    return f"{query}&{more}" if query and more else query or more
