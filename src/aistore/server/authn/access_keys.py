"""Access keys: names and secrets that clients of S3 sign with, for users. What a key may do is what its user's roles grant."""

from __future__ import annotations

import base64
import logging
import secrets
import string
import time
from typing import TYPE_CHECKING, Final

from aistore.http1.message import Reply
from aistore.server.authn.database import StoredKey
from aistore.server.authn.extraction import address_of
from aistore.server.authn.issuing import grants_of, of_key
from aistore.server.authn.service import json_answer, lifetime, named, read_message, wrapping
from aistore.wire.authn import AccessKey, AccessKeyOrder
from aistore.wire.errors import ApiError
from aistore.wire.values import SECOND

if TYPE_CHECKING:
    from aistore.http1.server import Request
    from aistore.server.authn.service import AuthnService

__all__ = ["delete", "get", "known_to", "post"]

logger = logging.getLogger("aistore.server.authn")

_OF_USER: Final = 100
_PREFIX: Final = "AISK"
_LETTERS: Final = string.ascii_letters + string.digits


def _shown(key: StoredKey) -> dict[str, object]:
    return {"id": key.id, "user": key.user, "created": key.created, "expires": key.expires}


async def post(service: AuthnService, request: Request, parts: list[str]) -> Reply:  # noqa: ARG001  as all handlers
    """Make a key, for the caller, or by an administrator for anybody; its secret is told now and never again."""
    claims = service.caller(request)
    order = await read_message(request, AccessKeyOrder, "AccessKey")
    user = order.user or claims.subject
    if not claims.admin and user != claims.subject:
        raise ApiError(401, f"not authorized: (user {claims.subject})")
    with wrapping("add access key of", user):
        seconds = lifetime(service, 0 if order.expires_in is None else order.expires_in) // SECOND
        now = int(time.time())
        name = _PREFIX + base64.b32encode(secrets.token_bytes(10)).decode()
        key = StoredKey(name, user, "".join(secrets.choice(_LETTERS) for _ in range(40)), now, now + seconds)

        def add() -> None:
            with service.database.change():
                if service.database.user(user) is None:
                    raise ApiError(404, f'user "{user}" does not exist', "ErrNotFound")
                if len([one for one in service.database.access_keys() if one.user == user]) >= _OF_USER:
                    raise ApiError(400, f"there are {_OF_USER} access keys of this user: delete one first")
                service.database.add_access_key(key)

        await service.in_thread(add)
    service.audit.note(claims.subject, address_of(request), "add access key", f"{key.id} of {user}")
    await service.pushing.tell_access_keys(always=True)
    return json_answer({**_shown(key), "secret": key.secret})


async def get(service: AuthnService, request: Request, parts: list[str]) -> Reply:  # noqa: ARG001  as all handlers
    """The keys of the caller, or, for administrators, all; without their secrets."""
    claims = service.caller(request)
    found = await service.in_thread(service.database.access_keys)
    return json_answer([_shown(key) for key in found if claims.admin or key.user == claims.subject])


async def delete(service: AuthnService, request: Request, parts: list[str]) -> Reply:
    """Delete a key: clusters refuse what it signed from now on."""
    name = named(request, parts)
    claims = service.caller(request)

    def remove() -> None:
        with service.database.change():
            key = next((one for one in service.database.access_keys() if one.id == name), None)
            if key is None or not (claims.admin or key.user == claims.subject):
                raise ApiError(404, f'access key "{name[:100]}" does not exist', "ErrNotFound")
            service.database.delete_access_key(name)

    with wrapping("delete access key", name[:100]):
        await service.in_thread(remove)
    service.audit.note(claims.subject, address_of(request), "delete access key", name)
    await service.pushing.tell_access_keys(always=True)
    return Reply(200)


def known_to(service: AuthnService, uuid: str) -> list[AccessKey]:
    """The keys that are good for something on a cluster, each with a token that says what (blocking); none once it is not registered."""
    database = service.database
    if database.cluster(uuid) is None:
        return []
    keys = database.access_keys()
    users = {user.id: user for user in database.users()}
    grants = {name: grants_of(database, users[name]) for name in {key.user for key in keys}}
    known: list[AccessKey] = []
    for key in keys:
        if _concerns(grants[key.user], uuid):
            try:
                token = of_key(service, key, grants[key.user], uuid)
            except ApiError as error:
                logger.warning("access key %s cannot be used: %s", key.id, error.message)
            else:
                known.append(AccessKey(key.id, key.secret, token))
    return known


def _concerns(grants: dict[str, object], uuid: str) -> bool:
    audience, clusters = grants["aud"], grants["clusters"]
    assert isinstance(audience, list)
    everywhere = isinstance(clusters, list) and any(not one["id"] for one in clusters)
    return bool(grants["admin"]) or everywhere or uuid in audience
