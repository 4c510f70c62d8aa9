"""Calls on an AuthN server (protocol/60 18)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from aistore.calls.query import encode_query
from aistore.transport.request import Request
from aistore.transport.url import base_url
from aistore.wire import authn, params, whats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aistore.calls.steps import Steps
    from aistore.sdk.authn.access_attr import AccessAttr
    from aistore.sdk.authn.types import AccessKeyInfo, ClusterInfo, ClusterList, RoleInfo, RolesList, UserInfo, UserMap

__all__ = [
    "access_keys",
    "clusters",
    "create_access_key",
    "create_role",
    "create_user",
    "delete_access_key",
    "delete_cluster",
    "delete_role",
    "delete_user",
    "get_cluster",
    "get_role",
    "get_user",
    "login",
    "register_cluster",
    "revoke",
    "roles",
    "update_cluster",
    "update_role",
    "update_user",
    "users",
]


def _request(method: str, resource: str, name: str = "", message: object = None) -> Request:
    path = f"{resource}/{quote(name, safe='')}" if name else resource
    return Request(method, path, body=None if message is None else msgspec.json.encode(message))


def _delete(resource: str, name: str, missing_ok: bool) -> Steps[None]:
    from aistore.sdk.authn.errors import AuthNError, ErrAccessKeyNotFound, ErrRoleNotFound, ErrUserNotFound

    missing: dict[str, type[AuthNError]] = {
        authn.ACCESS_KEYS: ErrAccessKeyNotFound,
        authn.ROLES: ErrRoleNotFound,
        authn.USERS: ErrUserNotFound,
    }
    try:
        yield _request("DELETE", resource, name)
    except missing[resource]:
        if not missing_ok:
            raise


# -- tokens --


def login(username: str, password: str, expires_in: float | None) -> Steps[str]:
    """A new token. Raises ValueError for an empty name or a password without a visible character, `ErrUserInvalidCredentials`."""
    from aistore.sdk.authn.types import LoginMsg, TokenMsg

    if not username:
        raise ValueError("User name cannot be empty")
    if not password.strip():
        raise ValueError("Password cannot be empty or spaces only")
    message = LoginMsg(password=password, expires_in=expires_in)
    answer = yield _request("POST", authn.USERS, username, message.as_dict())
    return TokenMsg.model_validate_json(answer.content).token


def revoke(token: str) -> Steps[None]:
    """Have a token refused from now on."""
    if not token:
        raise ValueError("Token must be provided to revoke.")
    yield _request("DELETE", authn.TOKENS, message={"token": token})


# -- clusters --


def clusters() -> Steps[ClusterList]:
    """All registered clusters."""
    from aistore.sdk.authn.types import ClusterList

    answer = yield _request("GET", authn.CLUSTERS)
    return ClusterList.model_validate_json(answer.content)


def _named(cluster_id: str | None, cluster_alias: str | None) -> str:
    name = cluster_id or cluster_alias
    if not name:
        raise ValueError("At least one of cluster_id or cluster_alias must be provided")
    return name


def get_cluster(cluster_id: str | None, cluster_alias: str | None) -> Steps[ClusterInfo]:
    """One registered cluster, by its id or its alias."""
    from aistore.sdk.authn.types import ClusterList

    name = _named(cluster_id, cluster_alias)
    answer = yield _request("GET", authn.CLUSTERS, name)
    found = ClusterList.model_validate_json(answer.content).clusters
    if not found:
        raise RuntimeError(f"the AuthN server knows cluster {name!r}, and tells nothing of it")
    return next(iter(found.values()))


def register_cluster(cluster_alias: str, urls: Sequence[str]) -> Steps[ClusterInfo]:
    """Register a cluster, whose id is asked of itself at its first URL."""
    if not urls:
        raise ValueError("At least one URL must be provided")
    try:
        query = encode_query({params.WHAT: whats.SMAP})
        answer = yield Request("GET", "daemon", query, base=base_url(urls[0]))
        uuid = msgspec.json.decode(answer.content)["uuid"]
    except Exception as error:
        raise ValueError(f"Failed to retrieve the cluster's UUID from {urls[0]}: {error}") from error
    if not uuid:
        raise ValueError(f"The cluster at {urls[0]} tells no UUID")
    message = {"id": uuid, "alias": cluster_alias, "urls": list(urls)}
    yield _request("POST", authn.CLUSTERS, message=message)
    return (yield from get_cluster(uuid, None))


def update_cluster(cluster_id: str, cluster_alias: str | None, urls: Sequence[str] | None) -> Steps[ClusterInfo]:
    """Change alias or URLs of a registered cluster."""
    if not cluster_id:
        raise ValueError("Cluster ID must be provided")
    if cluster_alias is None and urls is None:
        raise ValueError("At least one of cluster_alias or urls must be provided")
    message = {"id": cluster_id, "alias": cluster_alias, "urls": list(urls or ())}
    yield _request("PUT", authn.CLUSTERS, cluster_id, message)
    return (yield from get_cluster(cluster_id, None))


def delete_cluster(cluster_id: str | None, cluster_alias: str | None) -> Steps[None]:
    """Forget a cluster; its roles stay."""
    yield _request("DELETE", authn.CLUSTERS, _named(cluster_id, cluster_alias))


# -- roles --


def roles() -> Steps[RolesList]:
    """All roles."""
    from aistore.sdk.authn.types import RolesList

    answer = yield _request("GET", authn.ROLES)
    return RolesList.model_validate_json(answer.content)


def get_role(role_name: str) -> Steps[RoleInfo]:
    """One role."""
    from aistore.sdk.authn.types import RoleInfo

    answer = yield _request("GET", authn.ROLES, role_name)
    return RoleInfo.model_validate_json(answer.content)


def create_role(
    name: str, desc: str, cluster_alias: str, perms: Sequence[AccessAttr], bucket_name: str | None
) -> Steps[RoleInfo]:
    """Create a role with rights on a cluster, or on one of its buckets."""
    from aistore.sdk.authn.types import RoleInfo

    found = yield from get_cluster(None, cluster_alias)
    role = RoleInfo(name=name, desc=desc)
    _grant(role, found.id, perms, bucket_name)
    yield _request("POST", authn.ROLES, message=role.model_dump())
    return (yield from get_role(name))


def update_role(
    name: str,
    desc: str | None,
    cluster_alias: str | None,
    perms: Sequence[AccessAttr] | None,
    bucket_name: str | None,
) -> Steps[None]:
    """Change a role's description, or its rights on one cluster or bucket; its other rights stay."""
    if not (desc or cluster_alias or perms or bucket_name):
        raise ValueError("You must change either the description or permissions for a bucket or cluster.")
    if perms and not cluster_alias:
        raise ValueError("Cluster alias must be provided when permissions are specified.")
    if bucket_name and not cluster_alias:
        raise ValueError("Cluster alias must be provided when a bucket name is specified.")
    if (cluster_alias or bucket_name) and not perms:
        raise ValueError("Permissions must be provided when a cluster alias or a bucket name is specified.")
    role = yield from get_role(name)
    if desc:
        role.desc = desc
    if perms:
        found = yield from get_cluster(None, cluster_alias)
        _grant(role, found.id, perms, bucket_name)
    yield _request("PUT", authn.ROLES, name, role.model_dump())


def _grant(role: RoleInfo, uuid: str, perms: Sequence[AccessAttr], bucket_name: str | None) -> None:
    from aistore.sdk.authn.types import BucketPermission, ClusterPermission
    from aistore.sdk.namespace import Namespace
    from aistore.sdk.types import BucketModel

    mask = 0
    for perm in perms:
        mask |= perm
    if bucket_name:
        bucket = BucketModel(name=bucket_name, provider="ais", namespace=Namespace(uuid=uuid))
        role.buckets = [BucketPermission(bck=bucket, perm=str(mask))]
    else:
        role.clusters = [ClusterPermission(id=uuid, perm=str(mask))]


def delete_role(name: str, missing_ok: bool) -> Steps[None]:
    """Delete a role; its users lose it."""
    return _delete(authn.ROLES, name, missing_ok)


# -- users --


def users() -> Steps[UserMap]:
    """All users."""
    from aistore.sdk.authn.types import UserMap

    answer = yield _request("GET", authn.USERS)
    return UserMap.model_validate_json(answer.content)


def get_user(username: str) -> Steps[UserInfo]:
    """One user."""
    from aistore.sdk.authn.types import UserInfo

    answer = yield _request("GET", authn.USERS, username)
    return UserInfo.model_validate_json(answer.content)


def _user(username: str, password: str | None, role_names: Sequence[str]) -> Steps[UserInfo]:
    from aistore.sdk.authn.types import RolesList, UserInfo

    found = []
    for name in role_names:
        found.append((yield from get_role(name)))
    return UserInfo(id=username, password=password, roles=RolesList(found))


def create_user(username: str, role_names: Sequence[str], password: str) -> Steps[UserInfo]:
    """Create a user with roles that exist."""
    user = yield from _user(username, password, role_names)
    yield _request("POST", authn.USERS, message=user.dict())
    return (yield from get_user(username))


def update_user(username: str, password: str | None, role_names: Sequence[str] | None) -> Steps[UserInfo]:
    """Change a user's password, or all its roles."""
    if not (password or role_names):
        raise ValueError("You must change either the password or roles for a user.")
    user = yield from _user(username, password, role_names or ())
    yield _request("PUT", authn.USERS, username, user.dict())
    return (yield from get_user(username))


def delete_user(username: str, missing_ok: bool) -> Steps[None]:
    """Delete a user."""
    return _delete(authn.USERS, username, missing_ok)


# -- access keys --


def access_keys() -> Steps[list[AccessKeyInfo]]:
    """The keys that the caller may see."""
    from aistore.sdk.authn.types import AccessKeyInfo

    answer = yield _request("GET", authn.ACCESS_KEYS)
    return [AccessKeyInfo.model_validate(one) for one in msgspec.json.decode(answer.content)]


def create_access_key(username: str | None, expires_in: float | None) -> Steps[AccessKeyInfo]:
    """Make a key."""
    from aistore.sdk.authn.types import AccessKeyInfo, nanoseconds

    message = {"user": username or "", "expires_in": nanoseconds(expires_in)}
    answer = yield _request("POST", authn.ACCESS_KEYS, message=message)
    return AccessKeyInfo.model_validate_json(answer.content)


def delete_access_key(key_id: str, missing_ok: bool) -> Steps[None]:
    """Delete a key."""
    return _delete(authn.ACCESS_KEYS, key_id, missing_ok)
