"""Set and reset a bucket's properties (protocol/10 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from aistore.server.api.messages import OK, job_reply
from aistore.server.api.registering import remote_props
from aistore.server.backends.base import SOURCE
from aistore.server.jobs.objects import visit
from aistore.server.store.evicting import forget_key
from aistore.wire import actions
from aistore.wire.errors import ApiError
from aistore.wire.messages import BadMessage, parse_json
from aistore.wire.props import Decimal, backend_of, change_props, pack

if TYPE_CHECKING:
    from aistore.http1.message import Reply
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket
    from aistore.wire.props import BucketProps

__all__ = ["encode", "make_copies", "reset_props", "set_props"]

_MAX_COPIES: Final = 16


async def set_props(node: Node, bucket: Bucket, value: object) -> Reply:
    """Change the leaves that `value` gives."""
    async with node.control.props_lock:
        old = _current(node, bucket)
        try:
            copies = node.control.config.current.bucket.mirror.copies
            new = change_props(old, value, targets=len(node.smap.targets), default_copies=copies)
        except BadMessage as error:
            raise ApiError(400, f"invalid set-bucket-props request (msg=actm[set-bprops]): {error}") from None
        behind = backend_of(new)
        if behind is not None and behind != backend_of(old):
            if bucket.id.is_remote:
                raise ApiError(400, f"{bucket.id.cname} is remote itself, and cannot have a backend bucket")
            await node.backends.with_extra(behind, new.extra).check_bucket(behind)
        kind = _job_for(bucket, old, new)
        if kind:
            node.control.jobs.check_room()
        if behind != backend_of(old):
            # What the bucket holds now did not come from that backend: it is its own, and is not to be evicted.
            await forget_key(node.store, bucket, SOURCE)
        await _store(node, bucket, new)
    return await go_over(node, bucket, kind) if kind else OK


def _job_for(bucket: Bucket, old: BucketProps, new: BucketProps) -> str:
    """The job that a change of properties starts, if any. Raises `ApiError` 409 for two at once."""
    copies = new.mirror.enabled and (new.mirror.copies != old.mirror.copies or not old.mirror.enabled)
    slices = new.ec.enabled and not old.ec.enabled
    if copies and slices:
        what = (
            f'bucket "{bucket.id.cname}" is currently busy: mirroring and erasure coding cannot be turned on together'
        )
        raise ApiError(409, what, "ErrBusy")
    return actions.MAKE_COPIES if copies else actions.EC_ENCODE if slices else ""


async def go_over(node: Node, bucket: Bucket, kind: str) -> Reply:
    """Start a job that visits all objects; the answer is its id. Copies and slices would lie on the same disk, so that none are made."""

    async def work(job: Job) -> None:
        await visit(job, node.control.scanner, bucket, "", 0)

    return await job_reply(node.control.jobs.start(kind, work, bucket=bucket.id))


async def make_copies(node: Node, bucket: Bucket, value: object) -> Reply:
    """Set how many copies a mirrored bucket is to have, and start the job that would make them."""
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= _MAX_COPIES:
        raise ApiError(400, f"invalid number of copies {text[:64]} (expected value in range [1, {_MAX_COPIES}])")
    await _change(node, bucket, {"mirror": {"enabled": int(text) > 1, "copies": int(text)}})
    return await go_over(node, bucket, actions.MAKE_COPIES)


async def encode(node: Node, bucket: Bucket, value: object) -> Reply:
    """Turn erasure coding on, with the configuration that `value` has as JSON, and start the job that would make slices."""
    if not isinstance(value, str):
        raise ApiError(400, "invalid ec-encode request")
    try:
        message = parse_json(value.encode()) if value else {}
        if not isinstance(message, dict):
            raise ApiError(400, "invalid ec-encode request")
        await _change(node, bucket, {"ec": {**message, "enabled": True}})
    except BadMessage as error:
        raise ApiError(400, f"invalid ec-encode request: {error}") from None
    return await go_over(node, bucket, actions.EC_ENCODE)


async def _change(node: Node, bucket: Bucket, value: object) -> None:
    """Change properties for a job that is started then."""
    async with node.control.props_lock:
        new = change_props(_current(node, bucket), value, targets=len(node.smap.targets))
        node.control.jobs.check_room()
        await _store(node, bucket, new)


async def reset_props(node: Node, bucket: Bucket) -> Reply:
    """Everything back to the cluster's defaults; the number stays, the time of creation becomes 0."""
    async with node.control.props_lock:
        old = _current(node, bucket)
        if (behind := backend_of(old)) is not None:
            raise ApiError(
                400, f"{bucket.id.cname} has backend bucket {behind.cname}: detach it before its properties are reset"
            )
        if bucket.id.is_remote:
            new = replace(remote_props(node, bucket.id), bid=old.bid, created=Decimal(0))
            await _store(node, bucket, new)
            return OK
        new = replace(
            node.control.config.current.bucket_props(), bid=old.bid, provider=old.provider, created=Decimal(0)
        )
        await _store(node, bucket, new)
    return OK


def _current(node: Node, bucket: Bucket) -> BucketProps:
    """The properties as they are now: somebody may have changed them while we waited for the lock."""
    return node.props(node.store.bucket(bucket.id) or bucket)


async def _store(node: Node, bucket: Bucket, props: BucketProps) -> None:
    document = pack(props)
    await node.store.set_bucket_props(bucket, lambda _: document)
