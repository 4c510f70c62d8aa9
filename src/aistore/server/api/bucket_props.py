"""Set and reset a bucket's properties (protocol/10 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from aistore.server.api.messages import OK
from aistore.server.api.registering import remote_props
from aistore.wire.errors import ApiError
from aistore.wire.messages import BadMessage
from aistore.wire.props import Decimal, backend_of, change_props, pack

if TYPE_CHECKING:
    from aistore.http1.message import Reply
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket
    from aistore.wire.props import BucketProps

__all__ = ["reset_props", "set_props"]


async def set_props(node: Node, bucket: Bucket, value: object) -> Reply:
    """Change the leaves that `value` gives."""
    async with node.control.props_lock:
        old = _current(node, bucket)
        try:
            copies = node.control.config.current.bucket.mirror.copies
            new = change_props(old, value, targets=len(node.smap.targets), mountpaths=1, default_copies=copies)
        except BadMessage as error:
            raise ApiError(400, f"invalid set-bucket-props request (msg=actm[set-bprops]): {error}") from None
        behind = backend_of(new)
        if behind is not None and behind != backend_of(old):
            if bucket.id.is_remote:
                raise ApiError(400, f"{bucket.id.cname} is remote itself, and cannot have a backend bucket")
            await node.backends.with_extra(behind, new.extra).check_bucket(behind)
        await _store(node, bucket, new)
    return OK


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
