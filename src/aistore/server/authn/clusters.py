"""Clusters that are told which tokens to refuse, and that roles are about (protocol/60 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.http1.message import Reply
from aistore.server.authn.extraction import address_of
from aistore.server.authn.service import json_answer, named, read_message, wrapping
from aistore.wire import access
from aistore.wire.authn import ClusterAcl, Role, check_name
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from aistore.http1.server import Request
    from aistore.server.authn.database import Database
    from aistore.server.authn.service import AuthnService

__all__ = ["add", "delete", "get", "post", "put"]

_ROLES = (
    ("ClusterOwner", "Admin access to", access.ALL),
    ("BucketOwner", "Full access to buckets in", access.WRITE),
    ("Guest", "Read-only access to buckets in", access.READ),
)


def _document(cluster: ClusterAcl) -> dict[str, object]:
    alias = {"alias": cluster.alias} if cluster.alias else {}
    return {"id": cluster.id, **alias, **({"urls": cluster.urls} if cluster.urls else {})}


def _missing(name: str) -> ApiError:
    return ApiError(404, f"AuthN: cluster {name} does not exist", "ErrNotFound")


def _label(cluster: ClusterAcl) -> str:
    return f"{cluster.id}[{cluster.alias}]" if cluster.alias else cluster.id


async def get(service: AuthnService, request: Request, parts: list[str]) -> Reply:  # noqa: ARG001  anybody may
    """All clusters, or one by its id or alias."""
    if parts:
        name = parts[0]
        found = await service.in_thread(lambda: service.database.cluster(name))
        if found is None:
            raise _missing(name)
        return json_answer({"clusters": {found.id: _document(found)}})
    every = await service.in_thread(service.database.clusters)
    return json_answer({"clusters": {one.id: _document(one) for one in every}} if every else {})


async def post(service: AuthnService, request: Request, parts: list[str]) -> Reply:  # noqa: ARG001  as all handlers
    """Register a cluster that accepts the tokens of this server."""
    actor = service.administrator(request)
    message = await read_message(request, ClusterAcl, "CluACL")
    cluster = ClusterAcl(message.id, message.alias, message.urls or [])
    with wrapping("add cluster", message.id):
        if not cluster.id:
            raise ApiError(400, "cluster UUID is undefined")
        if cluster.alias:
            check_name("cluster alias", cluster.alias)
        await service.in_thread(lambda: _refuse_known(service.database, cluster))
        await service.pushing.shake_hands(cluster)
        await service.pushing.tell_revoked(cluster)

        def register() -> None:
            with service.database.change():
                _refuse_known(service.database, cluster)
                add(service.database, cluster)

        await service.in_thread(register)
    # Also what was revoked between the list and the registration: nobody has told it.
    await service.pushing.tell_everything(cluster)
    service.audit.note(actor, address_of(request), "add cluster", _label(cluster))
    return Reply(200)


def _refuse_known(database: Database, cluster: ClusterAcl) -> None:
    known = database.cluster(cluster.id) or database.cluster(cluster.alias)
    if known is not None:
        raise ApiError(409, f"cluster {cluster.id}[{known.id}] already registered")


def add(database: Database, cluster: ClusterAcl) -> None:
    """Add a cluster with the roles that each has (protocol/60 8.6)."""
    database.put_cluster(cluster)
    for kind, desc, mask in _ROLES:
        name = f"{kind}-{cluster.alias or cluster.id}"
        if database.role(name) is None:
            database.put_role(Role(name, f"{desc} {_label(cluster)}", [ClusterAcl(cluster.id, perm=str(mask))], None))


async def put(service: AuthnService, request: Request, parts: list[str]) -> Reply:
    """Change alias or URLs of a cluster, named by its id."""
    uuid = named(request, parts)
    actor = service.administrator(request)
    message = await read_message(request, ClusterAcl, "CluACL")

    def changed() -> ClusterAcl:
        database = service.database
        cluster = database.cluster(uuid)
        if cluster is None or cluster.id != uuid:
            raise ApiError(404, f'cluster "{uuid}" does not exist', "ErrNotFound")
        if message.alias:
            check_name("cluster alias", message.alias)
            other = database.cluster(message.alias)
            if other is not None and other.id != uuid:
                raise ApiError(409, f'alias "{message.alias}" is used for cluster "{other.id}"')
        return ClusterAcl(uuid, message.alias or cluster.alias, message.urls or cluster.urls)

    def store() -> ClusterAcl:
        with service.database.change():
            cluster = changed()
            service.database.put_cluster(cluster)
        return cluster

    with wrapping("update cluster", uuid):
        if not message.id:
            raise ApiError(400, "cluster ID is undefined")
        await service.pushing.shake_hands(await service.in_thread(changed))
        cluster = await service.in_thread(store)
    await service.pushing.tell_everything(cluster)  # which may have had no URL before
    service.audit.note(actor, address_of(request), "update cluster", uuid)
    return Reply(200)


async def delete(service: AuthnService, request: Request, parts: list[str]) -> Reply:
    """Forget a cluster, named by its id or its alias; its roles stay. It forgets its access keys."""
    actor = service.administrator(request)
    name = parts[0] if parts else ""

    def remove() -> ClusterAcl:
        with service.database.change():
            if not name:
                raise ApiError(400, "cluster name or ID not defined")
            cluster = service.database.cluster(name)
            if cluster is None:
                raise _missing(name)
            service.database.delete_cluster(cluster.id)
        return cluster

    with wrapping("delete cluster", name or "undefined"):
        removed = await service.in_thread(remove)
    await service.pushing.take_keys_back(removed)
    service.audit.note(actor, address_of(request), "delete cluster", name)
    return Reply(200)
