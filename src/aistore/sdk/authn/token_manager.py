"""Tokens of an AuthN server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls import authn

if TYPE_CHECKING:
    from aistore.sdk.request_client import RequestClient

__all__ = ["TokenManager"]


class TokenManager:
    """Tokens that are out. Making one sends nothing."""

    __slots__ = ("_client",)

    def __init__(self, client: RequestClient) -> None:
        self._client = client

    @property
    def client(self) -> RequestClient:
        """Client that makes the requests."""
        return self._client

    def revoke(self, token: str) -> None:
        """Have a token refused by the server and all registered clusters, from now on. Raises ValueError for an empty one."""
        self._client.run(authn.revoke(token))
