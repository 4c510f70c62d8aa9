"""Users of an AuthN server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls import authn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aistore.sdk.authn.types import UserInfo, UserMap
    from aistore.sdk.request_client import RequestClient

__all__ = ["UserManager"]


class UserManager:
    """Users, their passwords and roles. Making one sends nothing."""

    __slots__ = ("_client",)

    def __init__(self, client: RequestClient) -> None:
        self._client = client

    @property
    def client(self) -> RequestClient:
        """Client that makes the requests."""
        return self._client

    def get(self, username: str) -> UserInfo:
        """One user. Raises `ErrUserNotFound`."""
        return self._client.run(authn.get_user(username))

    def delete(self, username: str, missing_ok: bool = False) -> None:
        """Delete a user; tokens that are out stay valid. Raises `ErrUserNotFound` unless `missing_ok`."""
        self._client.run(authn.delete_user(username, missing_ok))

    def create(self, username: str, roles: Sequence[str], password: str) -> UserInfo:
        """Create a user with the named roles. Raises `ErrUserAlreadyExists`, `ErrRoleNotFound`."""
        return self._client.run(authn.create_user(username, roles, password))

    def list(self) -> UserMap:
        """All users by name."""
        return self._client.run(authn.users())

    def update(self, username: str, password: str | None = None, roles: Sequence[str] | None = None) -> UserInfo:
        """Give a user another password, or other roles in place of those it has.

        Raises ValueError if nothing is to change, `ErrUserNotFound`, `ErrRoleNotFound`.
        """
        return self._client.run(authn.update_user(username, password, roles))
