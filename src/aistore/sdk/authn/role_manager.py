"""Roles of an AuthN server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls import authn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aistore.sdk.authn.access_attr import AccessAttr
    from aistore.sdk.authn.types import RoleInfo, RolesList
    from aistore.sdk.request_client import RequestClient

__all__ = ["RoleManager"]


class RoleManager:
    """Roles: what their users may do on clusters and buckets. Making one sends nothing."""

    __slots__ = ("_client",)

    def __init__(self, client: RequestClient) -> None:
        self._client = client

    @property
    def client(self) -> RequestClient:
        """Client that makes the requests."""
        return self._client

    def list(self) -> RolesList:
        """All roles."""
        return self._client.run(authn.roles())

    def get(self, role_name: str) -> RoleInfo:
        """One role. Raises `ErrRoleNotFound`."""
        return self._client.run(authn.get_role(role_name))

    def create(
        self, name: str, desc: str, cluster_alias: str, perms: Sequence[AccessAttr], bucket_name: str | None = None
    ) -> RoleInfo:
        """Create a role with rights on a cluster, or on one native bucket of it.

        Raises `ErrRoleAlreadyExists`, `ErrClusterNotFound`.
        """
        return self._client.run(authn.create_role(name, desc, cluster_alias, perms, bucket_name))

    def update(
        self,
        name: str,
        desc: str | None = None,
        cluster_alias: str | None = None,
        perms: Sequence[AccessAttr] | None = None,
        bucket_name: str | None = None,
    ) -> None:
        """Change a role's description, or its rights on one cluster or bucket; what else it grants stays.

        Tokens that are out keep the rights that they have. Raises ValueError for a change that is none, `ErrRoleNotFound`.
        """
        self._client.run(authn.update_role(name, desc, cluster_alias, perms, bucket_name))

    def delete(self, name: str, missing_ok: bool = False) -> None:
        """Delete a role; its users lose it, with their next token. Raises `ErrRoleNotFound` unless `missing_ok`."""
        self._client.run(authn.delete_role(name, missing_ok))
