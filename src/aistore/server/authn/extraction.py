"""Where a request has its token (protocol/60 13.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aistore.http1.server import Request

__all__ = ["SOURCES", "address_of", "token_of"]

_OF_S3: Final = "X-Amz-Security-Token"
SOURCES: Final = ("Authorization", _OF_S3)
"""Headers that may carry a token."""


def token_of(request: Request) -> tuple[str, str]:
    """The token and the header that it came in; both empty where there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme == "Bearer" and token:
        return token, SOURCES[0]
    token = request.headers.get(_OF_S3.lower(), "")
    return (token, _OF_S3) if token else ("", "")


def address_of(request: Request) -> str:
    """The address of a client, without its port."""
    return request.peer.rpartition(":")[0].strip("[]")
