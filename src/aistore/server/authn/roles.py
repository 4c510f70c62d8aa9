"""Roles (protocol/60 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.http1.message import Reply
from aistore.server.authn.extraction import address_of
from aistore.server.authn.service import json_answer, named, read_change, read_message, wrapping
from aistore.wire.authn import ADMIN_ROLE, BucketAcl, ClusterAcl, Role, check_name, parse_mask
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from aistore.http1.server import Request
    from aistore.server.authn.service import AuthnService

__all__ = ["as_document", "delete", "get", "post", "put"]


def as_document(role: Role, aliases: dict[str, str] | None = None) -> dict[str, object]:
    """A role as answers show it; `aliases` are those of the registered clusters."""
    clusters = None
    if role.clusters is not None:
        clusters = [_cluster_document(one, aliases or {}) for one in role.clusters if one is not None]
    return {"name": role.name, "desc": role.desc, "clusters": clusters, "buckets": role.buckets, "admin": role.admin}


def _cluster_document(entry: ClusterAcl, aliases: dict[str, str]) -> dict[str, object]:
    alias = aliases.get(entry.id, "")
    return {"id": entry.id, **({"alias": alias} if alias else {}), "perm": entry.perm}


def _missing(name: str) -> ApiError:
    return ApiError(404, f'role "{name}" does not exist', "ErrNotFound")


async def get(service: AuthnService, request: Request, parts: list[str]) -> Reply:
    """All roles or one, for whoever has a token: they name buckets."""
    if len(parts) > 1:
        raise ApiError(400, "invalid request")
    service.caller(request)
    if not parts:
        found = await service.in_thread(service.database.roles)
        return json_answer([as_document(role) for role in found])

    def read() -> dict[str, object] | None:
        role = service.database.role(parts[0])
        aliases = {cluster.id: cluster.alias for cluster in service.database.clusters()}
        return None if role is None else as_document(role, aliases)

    document = await service.in_thread(read)
    if document is None:
        raise _missing(parts[0])
    return json_answer(document)


async def post(service: AuthnService, request: Request, parts: list[str]) -> Reply:  # noqa: ARG001  as all handlers
    """Create a role."""
    actor = service.administrator(request)
    message = await read_message(request, Role, "Role")
    role = Role(message.name, message.desc or "")
    role.clusters, role.buckets = _entries(request, message)
    with wrapping("add role", message.name):
        if not role.name:
            raise ApiError(400, "role name is undefined")
        check_name("role name", role.name)
        if message.admin:
            raise ApiError(403, 'only built-in roles can have "admin" permissions')

        def add() -> None:
            with service.database.change():
                if service.database.role(role.name) is not None:
                    raise ApiError(409, f"AuthN: role {role.name} already exists")
                service.database.put_role(role)

        await service.in_thread(add)
    service.audit.note(actor, address_of(request), "add role", role.name)
    return Reply(200)


def _entries(request: Request, message: Role) -> tuple[list[ClusterAcl | None] | None, list[BucketAcl | None] | None]:
    """The entries of a message without what does not belong there. Raises `ApiError` 400 for a mask that is none."""
    clusters: list[ClusterAcl | None] | None = None
    buckets: list[BucketAcl | None] | None = None
    if message.clusters is not None:
        clusters = [ClusterAcl(entry.id, perm=entry.perm) for entry in message.clusters if entry is not None]
    if message.buckets is not None:
        buckets = [entry for entry in message.buckets if entry is not None]
    try:
        for entry in (*(clusters or ()), *(buckets or ())):
            parse_mask(entry.perm if entry is not None else "")
    except ValueError as error:
        text = f"{request.path}: failed to unmarshal [*authn.Role] ({request.method}), err: {error}"
        raise ApiError(400, text) from None
    return clusters, buckets


async def put(service: AuthnService, request: Request, parts: list[str]) -> Reply:
    """Change a role: entries take the place of those for the same cluster or bucket, the others stay."""
    name = named(request, parts)
    message = await read_change(request, Role)
    actor = service.administrator(request)
    clusters, buckets = _entries(request, message)

    def change() -> None:
        with service.database.change():
            if name == ADMIN_ROLE:
                raise ApiError(403, f'cannot modify built-in "{ADMIN_ROLE}" role')
            role = service.database.role(name)
            if role is None:
                raise _missing(name)
            role.desc = message.desc or role.desc
            if clusters:
                of_cluster = {one.id: one for one in (*(role.clusters or ()), *clusters) if one is not None}
                role.clusters = list(of_cluster.values())
            if buckets:
                merged = {one.bck.key: one for one in (*(role.buckets or ()), *buckets) if one is not None}
                role.buckets = list(merged.values())
            service.database.put_role(role)

    with wrapping("update role", name):
        await service.in_thread(change)
    await service.pushing.tell_access_keys()
    service.audit.note(actor, address_of(request), "update role", name)
    return Reply(200)


async def delete(service: AuthnService, request: Request, parts: list[str]) -> Reply:
    """Delete a role; its users lose it with their next token."""
    name = named(request, parts)
    actor = service.administrator(request)

    def remove() -> None:
        with service.database.change():
            if name == ADMIN_ROLE:
                raise ApiError(403, f'cannot remove built-in "{ADMIN_ROLE}" role')
            if service.database.role(name) is None:
                raise _missing(name)
            service.database.delete_role(name)

    with wrapping("delete role", name):
        await service.in_thread(remove)
    await service.pushing.tell_access_keys()
    service.audit.note(actor, address_of(request), "delete role", name)
    return Reply(200)
