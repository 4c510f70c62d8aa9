"""Users, logins and revoked tokens (protocol/60 5-7)."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from aistore.http1.message import Reply
from aistore.server.authn.extraction import address_of
from aistore.server.authn.issuing import grants_of, issue
from aistore.server.authn.roles import as_document
from aistore.server.authn.service import json_answer, lifetime, named, read_change, read_message, wrapped, wrapping
from aistore.server.authn.tokens import BadToken, digest_of
from aistore.wire.authn import ADMIN_ROLE, MAX_NAME, SERVICE, Login, Role, Token, User, check_name
from aistore.wire.errors import ApiError
from aistore.wire.values import SECOND

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
    if message.roles:
        await service.pushing.tell_access_keys()
    what = [word for word, changed in (("password", hashed), ("roles", message.roles)) if changed]
    service.audit.note(claims.subject, address_of(request), "update user", f"{name}: {' and '.join(what) or 'nothing'}")
    return Reply(200)


async def delete(service: AuthnService, request: Request, parts: list[str]) -> Reply:
    """Delete a user with its access keys; tokens that are out stay valid."""
    name = named(request, parts)
    actor = service.administrator(request)

    def remove() -> bool:
        database = service.database
        with database.change():
            if name == _BUILT_IN:
                raise ApiError(403, f'cannot remove built-in "{_BUILT_IN}" account')
            if database.user(name) is None:
                raise _missing(name)
            if database.administrators() == [name]:
                raise ApiError(403, "cannot remove the last administrator")
            had_keys = any(key.user == name for key in database.access_keys())
            database.delete_user(name)
        return had_keys

    with wrapping("delete user", name):
        had_keys = await service.in_thread(remove)
    await service.pushing.tell_access_keys(always=had_keys)
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
        seconds = lifetime(service, message.expires_in) // SECOND
    if service.passwords.is_outdated(user.password):
        hashed = await service.passwords.hash(password)
        await service.in_thread(lambda: service.database.rehash(name, user.password, hashed))
    grants = await service.in_thread(lambda: grants_of(service.database, user))
    with wrapping("generate token for", name):
        token = issue(service, name, grants, int(time.time()) + seconds, secrets.token_hex(8))
    service.audit.note(name, address, "login", name)
    return json_answer({"token": token})


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
