"""Remote buckets as a whole: create, destroy, evict, list; attached clusters (protocol/10 4-6, 13, protocol/00 15)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from aistore.server.api import inventory
from aistore.server.api.messages import OK
from aistore.server.api.multiobj import Selected
from aistore.server.api.registering import add, register, remote_props
from aistore.server.api.remote.selecting import cached_names
from aistore.server.backends.base import SOURCE
from aistore.server.backends.errors import RemoteError
from aistore.server.backends.registry import DEFUNCT
from aistore.server.store.evicting import evict as evict_rows
from aistore.server.store.evicting import first_without
from aistore.wire import actions, params
from aistore.wire.errors import ApiError, bucket_exists, not_remote, unsupported
from aistore.wire.ids import new_job_id
from aistore.wire.messages import BadMessage, ListRange, value_refused
from aistore.wire.names import BACKENDS, BucketId
from aistore.wire.props import change_props
from aistore.wire.template import Template
from aistore.wire.values import parse_bool

if TYPE_CHECKING:
    from aistore.http1.message import Reply
    from aistore.http1.server import Request
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["attach_or_detach", "attached_clusters", "create", "destroy", "evict", "list_elsewhere"]

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 200
_URL_SCHEMES: Final = ("http://", "https://")


# -- life ----------------------------------------------------------------------------------------------------------


async def create(node: Node, request: Request, identity: BucketId, value: object) -> Reply:
    """Make a bucket in an attached cluster, or register a cloud bucket that exists (protocol/10 4)."""
    identity = await node.backends.revive(identity)
    if identity.uuid:
        if not node.backends.attached:
            raise ApiError(400, "no remote ais clusters attached")
        missing = node.backends.missing(identity)
        if missing is not None:
            raise missing
        await node.backends.cluster_backend(identity.uuid).create_bucket(identity, value)
        await register(node, identity)
        return OK
    if identity.provider not in node.backends.clouds:
        missing_text = f"{BACKENDS[identity.provider]} backend is missing in the cluster configuration"
        raise ApiError(400, missing_text, "ErrMissingBackend")
    if node.store.bucket(identity) is not None:
        raise bucket_exists(identity.cname)
    try:
        props = change_props(remote_props(node, identity), value, targets=len(node.smap.targets))
    except BadMessage as error:
        raise value_refused(value, actions.CREATE_BUCKET, node.gateway_name, str(error)) from None
    if not parse_bool(request.params.get(params.DONT_HEAD_REMOTE_BCK, "")):
        try:
            await node.backends.with_extra(identity, props.extra).check_bucket(identity)
        except RemoteError as error:
            if error.kind != "bucket":
                raise
            raise ApiError(501, error.message, error.tcode) from None
    await add(node, identity, props)
    return OK


async def destroy(node: Node, bucket: Bucket) -> Reply:
    """Destroy a bucket of an attached cluster, here and there."""
    if bucket.id.provider in BACKENDS:
        error = unsupported("destroy", f"cloud bucket {bucket.id.cname}")
        raise ApiError(405, error.message, error.tcode)
    await node.backends.cluster_backend(bucket.id.uuid).destroy_bucket(bucket.id)
    await inventory.forget(node, bucket)
    await node.store.destroy_bucket(bucket.id)
    return OK


async def evict(node: Node, identity: BucketId, *, keep: bool) -> Reply:
    """Drop what is cached of a bucket; with `keep` it stays registered. The backend is not asked (protocol/10 6)."""
    identity = node.backends.resolve(identity)
    bucket = node.store.bucket(identity)
    if bucket is None:
        return OK
    if node.remote_of(bucket) is None:
        raise not_remote(actions.EVICT_BUCKET, identity.cname)
    node.control.jobs.check_room()
    if identity.is_remote and not keep:
        await _refuse_to_lose(node, bucket)
        await inventory.forget(node, bucket)
        await node.store.destroy_bucket(identity)
    else:
        await _drop_all(node, bucket)

    async def nothing(_: Job) -> None:
        """The work is done; the job is a record of it (protocol/30 13.18)."""

    prefix = "kpmd-" if keep else "rmmd-"
    node.control.jobs.start(actions.EVICT_BUCKET, nothing, bucket=identity, job_id=prefix + new_job_id())
    return OK


async def _refuse_to_lose(node: Node, bucket: Bucket) -> None:
    """Raise `ApiError` 400 if something in the bucket did not come from its backend."""

    found = await node.control.scanner.run(lambda: first_without(node.store.catalog, bucket.bid, SOURCE))
    if found is not None:
        what = f"{bucket.id.object_cname(found)} did not come from a backend, and is nowhere else"
        raise ApiError(400, f"cannot evict {bucket.id.cname}: {what}")


async def _drop_all(node: Node, bucket: Bucket) -> None:
    """Evict object by object; in a native bucket with a backend, what did not come from there stays."""
    everything = Selected(ListRange(), [], Template(("",)), "")
    names: list[str] = []

    async def drop() -> None:
        for name in names:
            node.backends.drop(bucket, name)
        await evict_rows(node.store, bucket, names, SOURCE)
        names.clear()

    async for name in cached_names(node, bucket, everything):
        names.append(name)
        if len(names) == _AT_ONCE:
            await drop()
    await drop()


async def list_elsewhere(node: Node, provider: str, uuid: str) -> list[BucketId]:
    """Buckets that exist in backends, as far as these tell: of clouds, or of one cluster or of all (`@`)."""
    if not uuid:
        return await _list_clouds(node, [one for one in node.backends.clouds if provider in ("", one)])
    if provider not in ("", "ais"):
        return []
    if uuid == "@":
        uuids = [one.uuid for one in node.backends.attached if one.uuid != DEFUNCT]
    else:
        one = node.backends.cluster(uuid)
        if one is None:
            raise list_failed(node, uuid)
        uuids = [one.uuid]
    found: list[BucketId] = []
    for known in uuids:
        found += await node.backends.cluster_backend(known).list_buckets()
    return found


async def _list_clouds(node: Node, providers: list[str]) -> list[BucketId]:
    """Buckets of cloud accounts. A cloud that does not answer, or does not let its buckets be listed, hides none that are known."""

    async def one(provider: str) -> list[BucketId]:
        try:
            return await node.backends.at(BucketId(provider, "", "", "")).list_buckets()
        except ApiError as error:
            logger.warning(
                "buckets of %s cannot be listed, only those that were asked for: %s", provider, error.message
            )
            return []

    found = await asyncio.gather(*map(one, providers))
    return [bucket for buckets in found for bucket in buckets]


def list_failed(node: Node, uuid: str) -> ApiError:
    """The refusal to list buckets of a cluster that is not attached."""
    name = node.gateway_name
    return ApiError(
        404,
        f'{name}: failed to list buckets ais://@{uuid}, err: {name}: remote cluster "{uuid}" does not exist',
        "ErrFailedTo",
    )


# -- attached clusters ---------------------------------------------------------------------------------------------


async def attach_or_detach(node: Node, request: Request, action: str) -> Reply:
    """`PUT /v1/cluster/attach` and `/detach` (protocol/00 15.2)."""
    if request.params.get("what", "") != "remote":
        raise ApiError(400, f"invalid {action} request: expecting what=remote")
    alias = request.headers.get("ais-remote-ais-alias", "")
    if action == "detach":
        if not await node.backends.detach(alias):
            text = f"{node.gateway_name}: failed to detach remote cluster, err: not found"
            raise ApiError(404, text, "ErrFailedTo")
        return OK
    url = request.headers.get("ais-remote-ais-url", "").rstrip("/")
    shown = f"{node.gateway_name}: failed to attach remote cluster [alias {alias} => {url}], err: "
    if not url:
        raise ApiError(400, f'{shown}parse "": empty url', "ErrFailedTo")
    if not url.startswith(_URL_SCHEMES):
        raise ApiError(400, f'{shown}parse "{url}": expecting http:// or https://', "ErrFailedTo")
    if not alias:
        raise ApiError(400, f"{shown}alias is missing", "ErrFailedTo")
    await node.backends.attach(alias, url)
    return OK


async def attached_clusters(node: Node) -> dict[str, object]:
    """The document of `what=remote`."""
    found = [
        {"smap": await node.backends.map_of(one), "url": one.url, "alias": one.alias, "uuid": one.uuid}
        for one in node.backends.attached
    ]
    return {"a": found or None, "ver": 0}
