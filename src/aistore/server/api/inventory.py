"""Bucket inventories: create, show, destroy (protocol/10 21)."""

from __future__ import annotations

import time
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Final

from aistore.server.api.inventory_listing import INVENTORIES, inventories
from aistore.server.api.listing import PageBuilder
from aistore.server.api.messages import OK, job_reply, json_reply
from aistore.server.api.remote.listing import RemoteListing, list_page
from aistore.server.jobs.inventory import InventoryInfo, InventoryOrder, make_inventory
from aistore.server.store.errors import BucketExists
from aistore.wire import actions, listing, params
from aistore.wire.errors import ApiError, not_remote
from aistore.wire.ids import new_job_id
from aistore.wire.listing import Entry, ListRequest
from aistore.wire.messages import BadMessage, decode_value, value_refused
from aistore.wire.names import check_bucket_name, check_prefix, parse_namespace, parse_provider
from aistore.wire.props import pack_native

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aistore.http1.message import Reply
    from aistore.http1.server import Request
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["create", "destroy", "forget", "show"]

_NAMES_PER_CHUNK: Final = 20_000
_PREFIX_MAX: Final = 1024  # it is kept in custom metadata
_CHUNK_MIN: Final = 2
_CHUNK_MAX: Final = 640_000
_ALLOWED: Final = listing.NAME_ONLY | listing.NAME_SIZE | listing.NO_DIRS | listing.INVENTORY  # of the list flags


class _Create(ListRequest, forbid_unknown_fields=True):
    """Value of `create-inventory`: a listing's with a name, and how it is kept."""

    name: str = ""
    names_per_chunk: int = 0
    force: bool = False


async def create(node: Node, bucket: Bucket, value: object) -> Reply:
    """Start the job that makes an inventory; the answer is its id."""
    if node.remote_of(bucket) is None:
        raise not_remote(actions.CREATE_INVENTORY, bucket.id.cname)
    # The reference finds out in a call to its targets.
    asked = ("POST", f"/v1/txn/{bucket.id.name}/begin")
    try:
        message = decode_value(value, _Create, actions.CREATE_INVENTORY, node.name)
        flags = _check(node, value, message)
        prefix = check_prefix(message.prefix, "bad create-inventory request")
        if not message.force:
            await _refuse_second(node, bucket)
        target = await _system_bucket(node)
        _refuse_at_once(node, bucket)  # nothing is waited for between this and the start
    except ApiError as error:
        raise ApiError(error.status, error.message, error.tcode, error.headers, asked) from None
    job_id = f"inv-{new_job_id()}"
    name = message.name or job_id
    wanted, flags = listing.wanted_fields(message.props, flags)
    builder = PageBuilder(node, bucket, wanted, message.time_format)
    listed = RemoteListing(prefix, "", 0, flags, wanted, builder.columns, builder.entries)
    info = InventoryInfo(
        bucket=bucket.id.cname,
        name=name,
        obj_name=bucket.id.uname + name,
        prefix=prefix,
        started=time.time_ns(),
        smap_ver=node.smap.version,
        nat=len(node.smap.targets),
    )
    checksum_type = node.props(target).checksum.type
    order = InventoryOrder(bucket, info, message.names_per_chunk or _NAMES_PER_CHUNK, target, checksum_type)

    async def work(job: Job) -> None:
        async with aclosing(_pages(node, bucket, job.id, listed)) as pages:
            await make_inventory(job, node.store, order, pages)

    job = node.control.jobs.start(actions.CREATE_INVENTORY, work, job_id=job_id, bucket=bucket.id, control=name)
    return await job_reply(job)


def _check(node: Node, value: object, message: _Create) -> int:
    """The flags of a request that can be met. Raises `ApiError` 400."""
    if message.name:
        try:
            check_bucket_name(message.name)
        except ApiError as error:
            raise ApiError(400, error.message.replace("bucket name", "inventory name", 1)) from None
    try:
        flags = message.flag_bits()
    except BadMessage as error:
        raise value_refused(value, actions.CREATE_INVENTORY, node.name, str(error)) from None
    per_chunk, refused = message.names_per_chunk, flags & ~_ALLOWED
    wrong = ""
    if per_chunk and per_chunk < _CHUNK_MIN:
        wrong = f"names_per_chunk={per_chunk} too small (min={_CHUNK_MIN})"
    elif per_chunk > _CHUNK_MAX:
        wrong = f"names_per_chunk={per_chunk} too large (max={_CHUNK_MAX})"
    elif message.continuation_token:
        wrong = "continuation_token must be empty"
    elif message.start_after:
        wrong = "start_after must be empty"
    elif refused:
        wrong = f"flags:{','.join(listing.flag_names(refused)) or refused}"
    elif len(message.prefix.encode("utf-8", "replace")) > _PREFIX_MAX:
        wrong = f"prefix is longer than {_PREFIX_MAX} bytes"
    if wrong:
        raise ApiError(400, f"invalid '{actions.CREATE_INVENTORY}': {wrong}")
    return flags


async def _refuse_second(node: Node, bucket: Bucket) -> None:
    """A bucket has one inventory. Raises `ApiError` 400."""
    if there := await inventories(node, bucket.id.uname):
        names = " ".join(info.obj_name for info in there)
        hint = "(only one inventory per bucket is supported, use CLI '--force' or 'CreateNBIMsg.Force' to override)"
        raise ApiError(400, f"inventory for bucket {bucket.id.cname} already exists: [{names}]\n{hint}")


def _refuse_at_once(node: Node, bucket: Bucket) -> None:
    """One inventory of a bucket is made at a time. Raises `ApiError` 409."""
    for job in node.control.jobs.select(actions.CREATE_INVENTORY, bucket.id, running=True):
        what = f'{job.kind}[{job.id}] is currently running, cannot run "{job.kind}"({bucket.id.cname}) concurrently'
        raise ApiError(409, f"{node.name}: {what}", "ErrLimitedCoexistence")


async def _system_bucket(node: Node) -> Bucket:
    """The bucket of inventories, made with the first of them."""
    found = node.store.bucket(INVENTORIES)
    if found is not None:
        return found
    props = node.control.config.current.bucket_props()
    try:
        return await node.store.create_bucket(INVENTORIES, partial(pack_native, props))
    except BucketExists:  # somebody else made the first one at the same time
        found = node.store.bucket(INVENTORIES)
        assert found is not None
        return found


async def _pages(node: Node, bucket: Bucket, uuid: str, listed: RemoteListing) -> AsyncGenerator[list[Entry], None]:
    """What the backend has, and what of it is cached, page by page."""
    while True:
        page = await list_page(node, bucket, uuid, listed)
        if page.entries:
            yield page.entries
        if not page.token:
            return
        listed = listed._replace(token=page.token)


async def show(node: Node, request: Request, bucket: Bucket | None, name: str) -> Reply:
    """Inventories of a bucket; without one, of all that the query's provider and namespace match. `name` selects one."""
    found = await inventories(node, bucket.id.uname if bucket else "")
    if bucket is None:
        prefix = _printed_prefix(node, request)
        found = [info for info in found if info.obj_name.startswith(prefix)]
    return json_reply(request, {info.obj_name: info for info in found if not name or info.name == name})


def _printed_prefix(node: Node, request: Request) -> str:
    """How the names of inventories begin whose buckets have the query's provider and namespace."""
    provider = request.params.get(params.PROVIDER, "")
    if not provider:
        return ""
    provider = parse_provider(provider)
    uuid, namespace = parse_namespace(request.params.get(params.NAMESPACE, ""))
    if not uuid and not namespace:
        return f"{provider}/"
    identity = node.backends.resolve(INVENTORIES._replace(provider=provider, uuid=uuid, namespace=namespace))
    return f"{provider}/{identity.namespace_uname}/"


async def destroy(node: Node, bucket: Bucket, name: str) -> Reply:
    """Destroy the inventory of this name, or all of the bucket; there may be none."""
    await forget(node, bucket, name)
    return OK


async def forget(node: Node, bucket: Bucket, name: str = "") -> None:
    """Remove inventories of a bucket."""
    store = node.store.bucket(INVENTORIES)
    if store is not None:
        found = await inventories(node, bucket.id.uname)
        await node.store.delete(store, [info.obj_name for info in found if not name or info.name == name])
