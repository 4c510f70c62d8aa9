"""Users, logins and revoked tokens (protocol/60 5-7)."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from aistore.http1.message import Reply
from aistore.server.authn.extraction import address_of
from aistore.server.authn.roles import as_document
from aistore.server.authn.service import MINUTE, json_answer, named, read_change, read_message, wrapped, wrapping
from aistore.server.authn.tokens import BadToken, digest_of
from aistore.wire.authn import ADMIN_ROLE, MAX_NAME, SERVICE, Login, Role, Token, User, check_name, parse_mask
from aistore.wire.errors import ApiError
from aistore.wire.values import SECOND, format_duration

if TYPE_CHECKING:
    from aistore.http1.server import Request
    from aistore.server.authn.database import Database, StoredUser
    from aistore.server.authn.service import AuthnService

__all__ = ["delete", "get", "post", "put", "revoke"]

_BUILT_IN = "admin"


def _names_of(user: User) -> list[str]:
    return [role.name for role in user.roles or () if role is not None and role.name]


def _missing(name: str) -> ApiError:
    return ApiError(404, f'user "{name}" does not exist', "ErrNotFound")


# -- reading --


async def get(service: AuthnService, request: Request, parts: list[str]) -> Reply:
    """All users by name, for administrators, or one, for itself too."""
    if len(parts) > 1:
        raise ApiError(400, "invalid request")
    claims = service.caller(request)
    if not parts:
        service.administrator(request)
        return json_answer(await service.in_thread(lambda: _all(service.database)))
    name = parts[0]
    if not claims.admin and claims.subject != name:
        raise ApiError(401, "not authorized: requires admin or self")

    def read() -> dict[str, object] | None:
        user = service.database.user(name)
        return None if user is None else _document(user, {role.name: role for role in service.database.roles()})

    found = await service.in_thread(read)
    if found is None:
        raise _missing(name)
    return json_answer(found)


def _all(database: Database) -> dict[str, object]:
    roles = {role.name: role for role in database.roles()}
    return {user.id: _document(user, roles) for user in database.users()}


def _document(user: StoredUser, roles: dict[str, Role]) -> dict[str, object]:
    return {"id": user.id, "roles": [as_document(roles[name]) for name in user.roles]}


# -- changes --


async def post(service: AuthnService, request: Request, parts: list[str]) -> Reply:
    """Create a user, or, with a name in the path, log in."""
    if parts:
        return await _login(service, request, parts[0])
    actor = service.administrator(request)
    message = await read_message(request, User, "User")
    password = message.password or ""
    with wrapping("add user", message.id):
        if not message.id or not password:
            raise ApiError(400, "invalid credentials")
        check_name("user ID", message.id)
        if message.id == SERVICE:
            raise ApiError(400, f'user ID "{SERVICE}" is taken by the server itself')
        hashed = await service.passwords.hash(password)

        def add() -> None:
            database = service.database
            with database.change():
                if database.user(message.id) is not None:
                    raise ApiError(409, f"AuthN: user {message.id} already exists")
                database.put_user(message.id, hashed)
                database.set_roles(message.id, _names_of(message))

        await service.in_thread(add)
    service.audit.note(actor, address_of(request), "add user", message.id)
    return Reply(200)


async def put(service: AuthnService, request: Request, parts: list[str]) -> Reply:
    """Change a user's password or roles; users may change their own password."""
    name = named(request, parts)
    message = await read_change(request, User)
    claims = service.caller(request)
    roles = _names_of(message)
    if not claims.admin and (claims.subject != name or message.roles):
        raise ApiError(401, f"not authorized: (user {claims.subject})")
    with wrapping("update user", name):
        if name == _BUILT_IN and message.roles:
            raise ApiError(403, "cannot change administrator's role")
        hashed = await service.passwords.hash(message.password) if message.password else ""

        def change() -> None:
            database = service.database
            with database.change():
                if database.user(name) is None:
                    raise _missing(name)
                if message.roles and ADMIN_ROLE not in roles and database.administrators() == [name]:
                    raise ApiError(403, "cannot take the role of the last administrator")
                if hashed:
                    database.put_user(name, hashed)
                if message.roles:
                    database.set_roles(name, roles)

        await service.in_thread(change)
    what = [word for word, changed in (("password", hashed), ("roles", message.roles)) if changed]
    service.audit.note(claims.subject, address_of(request), "update user", f"{name}: {' and '.join(what) or 'nothing'}")
    return Reply(200)


async def delete(service: AuthnService, request: Request, parts: list[str]) -> Reply:
    """Delete a user; tokens that are out stay valid."""
    name = named(request, parts)
    actor = service.administrator(request)

    def remove() -> None:
        database = service.database
        with database.change():
            if name == _BUILT_IN:
                raise ApiError(403, f'cannot remove built-in "{_BUILT_IN}" account')
            if database.user(name) is None:
                raise _missing(name)
            if database.administrators() == [name]:
                raise ApiError(403, "cannot remove the last administrator")
            database.delete_user(name)

    with wrapping("delete user", name):
        await service.in_thread(remove)
    service.audit.note(actor, address_of(request), "delete user", name)
    return Reply(200)


# -- tokens --


async def _login(service: AuthnService, request: Request, name: str) -> Reply:
    message = await read_message(request, Login, "LoginMsg")
    password, address = message.password, address_of(request)
    account = name[:MAX_NAME]  # of a longer one there is no user
    if not password:
        raise ApiError(401, "empty password")
    async with service.passwords.turn():
        service.throttle.check(account, address)
        user = await service.in_thread(lambda: service.database.user(name))
        if not await service.passwords.matches(user.password if user is not None else None, password):
            service.throttle.failed(account, address)
            service.audit.note("", address, "login", account, "refused")
            raise wrapped("generate token for", name, ApiError(401, "invalid credentials"))
    assert user is not None
    service.throttle.succeeded(account, address)
    with wrapping("generate token for", name):
        lifetime = _lifetime(service, message.expires_in)
    if service.passwords.is_outdated(user.password):
        hashed = await service.passwords.hash(password)
        await service.in_thread(lambda: service.database.put_user(name, hashed))
    claims = await service.in_thread(lambda: _claims(service.database, user))
    now = int(time.time())
    times = {"exp": now + lifetime // SECOND, "iat": now, "jti": secrets.token_hex(8)}
    aud = claims.pop("aud")
    issued = {**claims, "iss": service.external_url, "sub": name, **({"aud": aud} if aud else {}), **times}
    service.audit.note(name, address, "login", name)
    return json_answer({"token": service.keys.sign(issued)})


def _lifetime(service: AuthnService, asked: int | None) -> int:
    """Nanoseconds that a token is valid (protocol/60 6)."""
    limits = service.lifetimes
    if asked is None:
        return limits.default
    if asked == 0:
        return limits.longest
    if asked < MINUTE:
        raise ApiError(400, "invalid requested expiry date: must be 0 or >= 1m")
    if asked > limits.longest:
        longest = format_duration(limits.longest)
        raise ApiError(400, f"invalid requested expiry date: cannot exceed configured max token age: {longest}")
    return asked


def _claims(database: Database, user: StoredUser) -> dict[str, object]:
    """What the roles of a user grant together."""
    clusters = database.clusters()
    if ADMIN_ROLE in user.roles:
        return {"clusters": None, "admin": True, "aud": [cluster.id for cluster in clusters]}
    ids = {cluster.alias: cluster.id for cluster in clusters if cluster.alias}
    ids.update({cluster.id: cluster.id for cluster in clusters})
    of_clusters: dict[str, int] = {}
    of_buckets: dict[tuple[str, str, str, str], int] = {}
    for name in user.roles:
        role = database.role(name)
        for cluster in (role and role.clusters) or ():
            assert cluster is not None
            uuid = ids.get(cluster.id, cluster.id)
            of_clusters[uuid] = of_clusters.get(uuid, 0) | parse_mask(cluster.perm)
        for bucket in (role and role.buckets) or ():
            assert bucket is not None
            key = (bucket.bck.name, bucket.bck.provider, bucket.bck.namespace.uuid, bucket.bck.namespace.name)
            of_buckets[key] = of_buckets.get(key, 0) | parse_mask(bucket.perm)
    claims: dict[str, object] = {
        "clusters": [{"id": uuid, "perm": str(mask)} for uuid, mask in of_clusters.items()] or None
    }
    if of_buckets:
        claims["buckets"] = [
            {
                "bck": {"name": key[0], "provider": key[1], "namespace": {"uuid": key[2], "name": key[3]}},
                "perm": str(mask),
            }
            for key, mask in of_buckets.items()
        ]
    audience = {*of_clusters, *(key[2] for key in of_buckets)} - {""}
    return {**claims, "admin": False, "aud": sorted(audience)}


async def revoke(service: AuthnService, request: Request, parts: list[str]) -> Reply:  # noqa: ARG001  as all handlers
    """Refuse a token from now on, here and, before the answer, in the registered clusters."""
    token = (await read_message(request, Token, "TokenMsg")).token
    if not token:
        raise ApiError(400, "empty token")
    try:
        claims = service.keys.verifier.verify(token)
    except BadToken as error:
        raise ApiError(401, f"invalid token [err: {error}]", "wrapErrors") from None
    digest = digest_of(token)
    await service.in_thread(lambda: service.database.revoke(digest, token, claims.expires))
    service.revoked[digest] = token
    service.audit.note(claims.subject, address_of(request), "revoke token", claims.subject)
    await service.pushing.revoke(token)
    return Reply(200)
