"""URLs as the transport needs them: where to connect, and what to ask for there."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from aistore.wire.params import SIGNATURE

__all__ = ["Origin", "base_url", "shown_url", "split_url"]

_absolute = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9._~-]+)(?::(?P<port>\d{0,5}))?(?P<target>[/?][^#]*)?(?:#.*)?",
    re.IGNORECASE | re.DOTALL,
).fullmatch

_SIGNED = f"{SIGNATURE}="
_signature = re.compile(rf"([?&]){_SIGNED}[^&]*")

_loopback = re.compile(r"127(?:\.\d{1,3}){3}").fullmatch


class Origin(NamedTuple):
    """Scheme, host (lower case, no brackets) and port: what a connection belongs to (RFC 6454)."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """`host:port` for the `Host` header; the scheme's own port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """True for an address that can only be this machine."""
        return self.host in ("localhost", "::1") or _loopback(self.host) is not None

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@lru_cache(maxsize=256)
def _origin(scheme: str, host: str, port: str) -> Origin:
    scheme = scheme.lower()
    number = int(port) if port else (443 if scheme == "https" else 80)
    if not 0 < number < 65536:
        raise ValueError(f"port {number} is out of range")
    return Origin(scheme, host.strip("[]").lower(), number)


def split_url(url: str) -> tuple[Origin, str]:
    """Origin and request target (path and query, fragment dropped) of an absolute http or https URL; `ValueError` for anything else."""
    match = _absolute(url)
    if match is None:
        if "@" in url:  # the text may hold a password
            raise ValueError(
                "an endpoint with user and password is not supported; give a token instead (token=, AIS_AUTHN_TOKEN)"
            )
        raise ValueError(f"{url!r} is no http:// or https:// URL")
    target = match["target"] or "/"
    if target[0] == "?":
        target = "/" + target
    return _origin(match["scheme"], match["host"], match["port"] or ""), target


def shown_url(origin: Origin, target: str) -> str:
    """A URL as it may be shown: while the signature of a gateway's redirect is fresh, who has it may do what it allows."""
    if _SIGNED in target:
        target = _signature.sub(rf"\1{_SIGNED}***", target)
    return f"{origin}{target}"


def base_url(endpoint: str) -> str:
    """The base that calls are made below: `v1` resolved against `endpoint` (protocol/00 2.1)."""
    origin, target = split_url(endpoint)
    folder = target.partition("?")[0].rpartition("/")[0]
    return f"{origin}{folder}/v1"
