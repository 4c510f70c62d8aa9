"""POST on a bucket: the operations that start a job (protocol/10 7, 14-16, 23)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from aistore.server.api import inventory
from aistore.server.api.bucket_props import encode, make_copies
from aistore.server.api.copying import copy_bucket, copy_many, rename_bucket
from aistore.server.api.etl_offline import transform_bucket, transform_many
from aistore.server.api.messages import job_reply
from aistore.server.api.remote.jobs import prefetch
from aistore.server.jobs.indexing import index_archives
from aistore.server.jobs.objects import visit
from aistore.wire import access, actions
from aistore.wire.errors import ApiError, invalid_action
from aistore.wire.messages import decode_value
from aistore.wire.names import check_prefix

if TYPE_CHECKING:
    from aistore.http1.message import Reply
    from aistore.http1.server import Request
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket
    from aistore.wire.messages import ActionMessage

__all__ = ["start"]


class _Rechunk(msgspec.Struct, forbid_unknown_fields=True):
    objsize_limit: int = msgspec.field(default=0, name="objsize-limit")
    chunk_size: int = msgspec.field(default=0, name="chunk-size")
    prefix: str = ""
    sync_remote: bool = msgspec.field(default=False, name="sync-remote")


async def start(node: Node, request: Request, bucket: Bucket, message: ActionMessage) -> Reply:
    """Start the operation that the message names; the answer is the job's id."""
    action, value = message.action, message.value
    if action == actions.MOVE_BUCKET:
        return await rename_bucket(node, request, bucket)
    if action == actions.COPY_BUCKET:
        return await copy_bucket(node, request, bucket, value)
    if action == actions.COPY_OBJECTS:
        return await copy_many(node, bucket, value)
    if action in (actions.TRANSFORM_BUCKET, actions.TRANSFORM_OBJECTS):
        if node.etls is None:
            raise ApiError(404, "cannot use ETL in a build without ETL support - operation not supported", "ErrUnsupp")
        if action == actions.TRANSFORM_BUCKET:
            return await transform_bucket(node, request, node.etls, bucket, value)
        return await transform_many(node, node.etls, bucket, value)
    if action == actions.PREFETCH_OBJECTS:
        return await prefetch(node, bucket, value)
    if action == actions.CREATE_INVENTORY:
        return await inventory.create(node, bucket, value)
    if action == actions.MAKE_COPIES:
        return await make_copies(node, bucket, value)
    if action == actions.EC_ENCODE:
        return await encode(node, bucket, value)
    if action == actions.RECHUNK:
        return await _rechunk(node, bucket, value)
    if action == actions.INDEX_SHARD:
        return await _index_shards(node, bucket, value)
    raise invalid_action(action)


class _IndexShards(msgspec.Struct, forbid_unknown_fields=True):
    prefix: str = ""
    # Accepted, and not acted on: archives are gone through in the order of their names, and an index is always verified.
    num_workers: int = msgspec.field(default=0, name="num-workers")
    skip_verify: bool = msgspec.field(default=False, name="skip-verify")


async def _index_shards(node: Node, bucket: Bucket, value: object) -> Reply:
    message = decode_value(value, _IndexShards, actions.INDEX_SHARD, node.name)
    prefix = check_prefix(message.prefix, "bad request to index shards")
    node.check_access(bucket, access.GET, "GET")

    async def work(job: Job) -> None:
        await index_archives(job, node.store, node.control.scanner, node.control.archives, bucket, prefix)

    return await job_reply(node.control.jobs.start(actions.INDEX_SHARD, work, bucket=bucket.id))


async def _rechunk(node: Node, bucket: Bucket, value: object) -> Reply:
    try:
        message = decode_value(value, _Rechunk, actions.RECHUNK, node.name)
        prefix = check_prefix(message.prefix, "bad rechunk request")
    except ApiError as error:
        text = f'{node.name} failed to "{actions.RECHUNK}" List/Range: {error.message}'
        raise ApiError(error.status, text, error.tcode) from None

    if message.objsize_limit < 0 or message.chunk_size < 0:
        raise ApiError(400, "rechunk: sizes must not be negative")

    async def work(job: Job) -> None:
        if message.objsize_limit:
            await visit(job, node.control.scanner, bucket, prefix, message.objsize_limit)

    return await job_reply(node.control.jobs.start(actions.RECHUNK, work, bucket=bucket.id))
