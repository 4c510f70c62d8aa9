"""Clients of an AuthN server for asyncio: who may do what on clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.aio.requests import AsyncRequestClient
from aistore.calls import authn
from aistore.sdk._settings import Settings
from aistore.sdk.authn.response_handler import AuthNResponseHandler
from aistore.sdk.session_manager import SessionManager

if TYPE_CHECKING:
    import builtins
    from collections.abc import Sequence
    from types import TracebackType

    import urllib3

    from aistore.sdk.authn.access_attr import AccessAttr
    from aistore.sdk.authn.types import AccessKeyInfo, ClusterInfo, ClusterList, RoleInfo, RolesList, UserInfo, UserMap

__all__ = [
    "AsyncAccessKeyManager",
    "AsyncAuthNClient",
    "AsyncClusterManager",
    "AsyncRoleManager",
    "AsyncTokenManager",
    "AsyncUserManager",
]


class AsyncAuthNClient:
    """A client of an AuthN server for asyncio, on one event loop of one process.

    `endpoint`: its URL. `skip_verify`, `ca_cert`: TLS, as for a `Client`. `timeout`: seconds, one number or a pair (connect, read); None
    waits for ever. `retry`: a `urllib3.Retry`, for `client.session_manager.session`. `token`: for who has one already.

    >>> AsyncAuthNClient("http://localhost:52001")
    <AsyncAuthNClient http://localhost:52001>
    """

    __slots__ = ("_client",)

    def __init__(
        self,
        endpoint: str,
        skip_verify: bool = False,
        ca_cert: str | None = None,
        timeout: float | tuple[float, float] | None = None,
        retry: urllib3.Retry | None = None,
        token: str | None = None,
    ) -> None:
        self._client = AsyncRequestClient(
            Settings(
                endpoint,
                SessionManager(retry=retry, ca_cert=ca_cert, skip_verify=skip_verify),
                0.0 if timeout is None else timeout,
                token,
                AuthNResponseHandler(),
                None,
            )
        )

    @property
    def client(self) -> AsyncRequestClient:
        """Client that makes the requests, shared by all managers; it has the token."""
        return self._client

    async def login(self, username: str, password: str, expires_in: float | None = None) -> str:
        """Log in, and use the token that this gives from now on; `expires_in` seconds, None for the server's default, 0 for its maximum.

        Raises ValueError for an empty password, `ErrUserInvalidCredentials`.
        """
        token = await self._client.run(authn.login(username, password, expires_in))
        self._client.token = token
        return token

    async def logout(self) -> None:
        """Have the own token refused from now on, and forget it. Raises ValueError without one."""
        token = self._client.token
        if not token:
            raise ValueError("Must be logged in first (no token)")
        await self._client.run(authn.revoke(token))
        self._client.token = None

    def cluster_manager(self) -> AsyncClusterManager:
        """Registered clusters."""
        return AsyncClusterManager(self._client)

    def role_manager(self) -> AsyncRoleManager:
        """Roles."""
        return AsyncRoleManager(self._client)

    def user_manager(self) -> AsyncUserManager:
        """Users."""
        return AsyncUserManager(self._client)

    def token_manager(self) -> AsyncTokenManager:
        """Tokens."""
        return AsyncTokenManager(self._client)

    def access_key_manager(self) -> AsyncAccessKeyManager:
        """What clients of S3 sign with."""
        return AsyncAccessKeyManager(self._client)

    async def close(self) -> None:
        """Close its idle connections; it can be used again."""
        await self._client.close()

    async def __aenter__(self) -> AsyncAuthNClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncAuthNClient {self._client.endpoint}>"


class AsyncClusterManager:
    """Registers clusters, whose buckets roles are about. Making one sends nothing."""

    __slots__ = ("_client",)

    def __init__(self, client: AsyncRequestClient) -> None:
        self._client = client

    @property
    def client(self) -> AsyncRequestClient:
        """Client that makes the requests."""
        return self._client

    async def list(self) -> ClusterList:
        """All registered clusters."""
        return await self._client.run(authn.clusters())

    async def get(self, cluster_id: str | None = None, cluster_alias: str | None = None) -> ClusterInfo:
        """One cluster, by its id or its alias. Raises ValueError without either, `ErrClusterNotFound`."""
        return await self._client.run(authn.get_cluster(cluster_id, cluster_alias))

    async def register(self, cluster_alias: str, urls: Sequence[str]) -> ClusterInfo:
        """Register a cluster; its id is asked at the first URL, with the token of this client.

        Raises ValueError if that cannot be had, `ErrClusterAlreadyRegistered`; `AuthNError` if the cluster does not accept the server's tokens.
        """
        return await self._client.run(authn.register_cluster(cluster_alias, urls))

    async def update(
        self, cluster_id: str, cluster_alias: str | None = None, urls: Sequence[str] | None = None
    ) -> ClusterInfo:
        """Give a cluster another alias or other URLs. Raises ValueError if nothing is to change, `ErrClusterNotFound`."""
        return await self._client.run(authn.update_cluster(cluster_id, cluster_alias, urls))

    async def delete(self, cluster_id: str | None = None, cluster_alias: str | None = None) -> None:
        """Forget a cluster, by its id or its alias; its roles stay. Raises ValueError without either, `ErrClusterNotFound`."""
        await self._client.run(authn.delete_cluster(cluster_id, cluster_alias))


class AsyncRoleManager:
    """Roles: what their users may do on clusters and buckets. Making one sends nothing."""

    __slots__ = ("_client",)

    def __init__(self, client: AsyncRequestClient) -> None:
        self._client = client

    @property
    def client(self) -> AsyncRequestClient:
        """Client that makes the requests."""
        return self._client

    async def list(self) -> RolesList:
        """All roles."""
        return await self._client.run(authn.roles())

    async def get(self, role_name: str) -> RoleInfo:
        """One role. Raises `ErrRoleNotFound`."""
        return await self._client.run(authn.get_role(role_name))

    async def create(
        self, name: str, desc: str, cluster_alias: str, perms: Sequence[AccessAttr], bucket_name: str | None = None
    ) -> RoleInfo:
        """Create a role with rights on a cluster, or on one native bucket of it.

        Raises `ErrRoleAlreadyExists`, `ErrClusterNotFound`.
        """
        return await self._client.run(authn.create_role(name, desc, cluster_alias, perms, bucket_name))

    async def update(
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
        await self._client.run(authn.update_role(name, desc, cluster_alias, perms, bucket_name))

    async def delete(self, name: str, missing_ok: bool = False) -> None:
        """Delete a role; its users lose it, with their next token. Raises `ErrRoleNotFound` unless `missing_ok`."""
        await self._client.run(authn.delete_role(name, missing_ok))


class AsyncTokenManager:
    """Tokens that are out. Making one sends nothing."""

    __slots__ = ("_client",)

    def __init__(self, client: AsyncRequestClient) -> None:
        self._client = client

    @property
    def client(self) -> AsyncRequestClient:
        """Client that makes the requests."""
        return self._client

    async def revoke(self, token: str) -> None:
        """Have a token refused by the server and all registered clusters, from now on. Raises ValueError for an empty one."""
        await self._client.run(authn.revoke(token))


class AsyncUserManager:
    """Users, their passwords and roles. Making one sends nothing."""

    __slots__ = ("_client",)

    def __init__(self, client: AsyncRequestClient) -> None:
        self._client = client

    @property
    def client(self) -> AsyncRequestClient:
        """Client that makes the requests."""
        return self._client

    async def get(self, username: str) -> UserInfo:
        """One user. Raises `ErrUserNotFound`."""
        return await self._client.run(authn.get_user(username))

    async def delete(self, username: str, missing_ok: bool = False) -> None:
        """Delete a user; tokens that are out stay valid. Raises `ErrUserNotFound` unless `missing_ok`."""
        await self._client.run(authn.delete_user(username, missing_ok))

    async def create(self, username: str, roles: Sequence[str], password: str) -> UserInfo:
        """Create a user with the named roles. Raises `ErrUserAlreadyExists`, `ErrRoleNotFound`."""
        return await self._client.run(authn.create_user(username, roles, password))

    async def list(self) -> UserMap:
        """All users by name."""
        return await self._client.run(authn.users())

    async def update(self, username: str, password: str | None = None, roles: Sequence[str] | None = None) -> UserInfo:
        """Give a user another password, or other roles in place of those it has.

        Raises ValueError if nothing is to change, `ErrUserNotFound`, `ErrRoleNotFound`.
        """
        return await self._client.run(authn.update_user(username, password, roles))


class AsyncAccessKeyManager:
    """Access keys. Making one sends nothing."""

    __slots__ = ("_client",)

    def __init__(self, client: AsyncRequestClient) -> None:
        self._client = client

    @property
    def client(self) -> AsyncRequestClient:
        """Client that makes the requests."""
        return self._client

    async def create(self, username: str | None = None, expires_in: float | None = None) -> AccessKeyInfo:
        """A new key of a user, by default of one's own, good for `expires_in` seconds, by default for as long as the server allows.

        Its secret is told now, and never again. Raises `ErrUserNotFound`; `AuthNError` where one may not.
        """
        return await self._client.run(authn.create_access_key(username, expires_in))

    async def list(self) -> builtins.list[AccessKeyInfo]:
        """One's own keys, or for administrators all, without their secrets."""
        return await self._client.run(authn.access_keys())

    async def delete(self, key_id: str, missing_ok: bool = False) -> None:
        """Delete a key: what it signed is refused from now on. Raises `ErrAccessKeyNotFound` unless `missing_ok`."""
        await self._client.run(authn.delete_access_key(key_id, missing_ok))
