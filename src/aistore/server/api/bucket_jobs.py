"""POST on a bucket: the operations that start a job (protocol/10 7, 14-16, 23)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from aistore.server.api.copying import copy_bucket, copy_many, rename_bucket
from aistore.server.api.etl_offline import transform_bucket, transform_many
from aistore.server.api.messages import text_reply
from aistore.server.api.remote_jobs import prefetch
from aistore.server.jobs.objects import visit
from aistore.wire import actions
from aistore.wire.errors import ApiError, invalid_action, not_implemented, not_remote
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

_MAX_COPIES: Final = 16
_MOUNTPATHS: Final = 1


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
        return prefetch(node, bucket, value)
    if action == actions.CREATE_INVENTORY:
        raise not_remote(action, bucket.id.cname)
    if action == actions.MAKE_COPIES:
        return _make_copies(node, bucket, value)
    if action == actions.EC_ENCODE:
        return _encode(node, value)
    if action == actions.RECHUNK:
        return _rechunk(node, bucket, value)
    if action == actions.INDEX_SHARD:
        raise not_implemented(action, bucket.id.cname)
    raise invalid_action(action)


def _make_copies(node: Node, bucket: Bucket, value: object) -> Reply:
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or not 1 <= int(text) <= _MAX_COPIES:
        raise ApiError(400, f"invalid number of copies {text[:64]} (expected value in range [1, {_MAX_COPIES}])")
    if int(text) > _MOUNTPATHS:
        raise ApiError(400, f"number of copies ({text}) exceeds the number of mountpaths ({_MOUNTPATHS})")

    async def work(job: Job) -> None:
        await visit(job, node.control.scanner, bucket, "", 0)

    return text_reply(node.control.jobs.start(actions.MAKE_COPIES, work, bucket=bucket.id).id)


def _encode(node: Node, value: object) -> Reply:
    if not isinstance(value, str):
        raise ApiError(400, "invalid ec-encode request")
    have = len(node.smap.targets)
    raise ApiError(
        400,
        f"not enough target nodes: erasure coding needs content on several machines (have {have} on one)",
        "ErrNotEnoughTargets",
    )


def _rechunk(node: Node, bucket: Bucket, value: object) -> Reply:
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

    return text_reply(node.control.jobs.start(actions.RECHUNK, work, bucket=bucket.id).id)
