"""Keeping web pages out: the server asks nobody for a password, and a browser sends what any page tells it to.

Two things give a page away. A page that reaches this machine by a name of its own (DNS rebinding) has that name in `Host`; and a page
of another origin is named in `Origin`, or its browser says `cross-site` or `same-site` in `Sec-Fetch-Site` (W3C Fetch Metadata).
Clients that are no browsers send neither.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

from aistore.server.settings import is_loopback
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from aistore.http1.server import Request

    class GuardSettings(Protocol):
        """What decides: of a node, or of an AuthN server."""

        @property
        def host(self) -> str:
            """Address that it binds."""

        @property
        def allow_hosts(self) -> Sequence[str]:
            """Further names that it is called by."""

        @property
        def public_host(self) -> str:
            """What others call it."""

        @property
        def etl(self) -> bool:
            """Whether it runs code of others."""

        @property
        def allow_etl(self) -> bool:
            """Whether everybody may have it do so."""


__all__ = ["Guard"]

_KNOWN_MAX: Final = 256
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/?#@\s]+))(?::[0-9]*)?")


class Guard:
    """Decides by `Host`, `Origin` and `Sec-Fetch-Site` whether a request is answered.

    On loopback `Host` has to be an address, `localhost`, a name below that, or one of `allow_hosts`; on other addresses only if there
    are `allow_hosts`; those who run code there (`allow_etl`) answer no page that reached them by another name.
    """

    __slots__ = ("_any_host", "_known", "_names", "_runs_code")

    def __init__(self, settings: GuardSettings) -> None:
        self._names = frozenset(
            name.lower().rstrip(".") for name in (*settings.allow_hosts, *filter(None, [settings.public_host]))
        )
        self._any_host = not settings.allow_hosts and not is_loopback(settings.host)
        self._runs_code = settings.etl and settings.allow_etl
        # Of the values that were accepted. Only HTTP/1.0 may leave the field out, which no browser speaks.
        self._known: set[str | None] = {None}

    def check(self, request: Request) -> None:
        """Raise `ApiError` 421 for a wrong `Host`, 403 for a request that a page of another origin made."""
        headers = request.headers
        if headers.get("host") not in self._known:
            self._check_host(headers["host"])
        if "origin" in headers or "sec-fetch-site" in headers:
            self._check_origin(request)

    def _check_host(self, value: str) -> None:
        if not self._any_host and not self._is_ours(value):
            raise ApiError(
                421,
                f"host {value[:256]!r} is not a name of this server (start it with --allow-host NAME if it should be)",
            )
        if len(self._known) >= _KNOWN_MAX:
            self._known = {None}
        self._known.add(value)

    def _is_ours(self, value: str) -> bool:
        found = _HOST.fullmatch(value)
        if found is None:
            return False
        name = (found[1] or found[2]).lower().rstrip(".")
        if name == "localhost" or name.endswith(".localhost") or name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _check_origin(self, request: Request) -> None:
        headers = request.headers
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower():
            raise ApiError(403, f"requests of pages from {origin[:256]!r} are not answered")
        if origin is not None and self._any_host and self._runs_code and not self._is_ours(headers.get("host", "")):
            # Any page is of the same origin as a server that it has given a name.
            raise ApiError(
                403, f"requests of pages from {origin[:256]!r} are not answered (--allow-host NAME lets them in)"
            )
        site = headers.get("sec-fetch-site", "")
        if site in ("cross-site", "same-site") and request.method not in ("GET", "HEAD"):
            raise ApiError(403, f"{request.method} requests of pages from elsewhere ({site}) are not answered")
