"""Access keys of an AuthN server of ours: what clients of S3 sign with. The reference does not have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls import authn

if TYPE_CHECKING:
    import builtins

    from aistore.sdk.authn.types import AccessKeyInfo
    from aistore.sdk.request_client import RequestClient

__all__ = ["AccessKeyManager"]


class AccessKeyManager:
    """Access keys. Making one sends nothing."""

    __slots__ = ("_client",)

    def __init__(self, client: RequestClient) -> None:
        self._client = client

    @property
    def client(self) -> RequestClient:
        """Client that makes the requests."""
        return self._client

    def create(self, username: str | None = None, expires_in: float | None = None) -> AccessKeyInfo:
        """A new key of a user, by default of one's own, good for `expires_in` seconds, by default for as long as the server allows.

        Its secret is told now, and never again. Raises `ErrUserNotFound`; `AuthNError` where one may not.
        """
        return self._client.run(authn.create_access_key(username, expires_in))

    def list(self) -> builtins.list[AccessKeyInfo]:
        """One's own keys, or for administrators all, without their secrets."""
        return self._client.run(authn.access_keys())

    def delete(self, key_id: str, missing_ok: bool = False) -> None:
        """Delete a key: what it signed is refused from now on. Raises `ErrAccessKeyNotFound` unless `missing_ok`."""
        self._client.run(authn.delete_access_key(key_id, missing_ok))
