"""Where a redirect leads, and what may be shown there (protocol/00 9.4); no I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from aistore.transport.url import Origin, split_url

if TYPE_CHECKING:
    from aistore.transport.request import Request

__all__ = ["FOLLOWED", "MAX_REDIRECTS", "keeps_token", "resolve"]

FOLLOWED: Final = frozenset((301, 302, 307, 308))
"""Statuses that repeat the same method and body elsewhere; a 301 is never remembered, placement changes with the cluster map."""

MAX_REDIRECTS: Final = 30

_may_not_be = re.compile(r"[^!-~]").search


def resolve(location: str, origin: Origin, target: str) -> tuple[Origin, str]:
    """Origin and target that `Location` names, seen from where it was received; `ValueError` if it is no HTTP URL.

    Bytes that a URL may not hold are escaped: servers send names as they are.
    """
    url = location.strip()
    if _may_not_be(url) is not None:
        url = "".join(c if "!" <= c <= "~" else f"%{ord(c):02X}" for c in url)
    if not url.lower().startswith(("http://", "https://")):
        from urllib.parse import urljoin

        url = urljoin(f"{origin}{target}", url)
    return split_url(url)


def keeps_token(request: Request, old: Origin, new: Origin) -> bool:
    """Whether `Authorization` may go from `old` to `new`: to the same origin, and over TLS with an object's content (protocol/00 9.5)."""
    if old == new:
        return True
    return old.scheme == new.scheme == "https" and request.method == "PUT" and request.body is not None
