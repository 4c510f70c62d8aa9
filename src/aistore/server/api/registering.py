"""Remote buckets become known to the cluster by being asked for (protocol/10 2, 4)."""

from __future__ import annotations

import inspect
import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from aistore.http1.message import Pending
from aistore.server.backends.errors import bucket_missing
from aistore.server.backends.registry import UnknownBucket
from aistore.server.store.errors import BucketExists
from aistore.server.store.rows import Bucket
from aistore.wire.props import Decimal, pack

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.http1.server import Answer, Result
    from aistore.server.node import Node
    from aistore.wire.names import BucketId
    from aistore.wire.props import BucketProps

__all__ = ["add", "answered", "passing_bucket", "register", "registering", "remote_props"]


async def answered(result: Result) -> Answer:
    """The answer that a handler's result stands for."""
    if isinstance(result, Pending):
        return result.render(await result.future)
    if inspect.isawaitable(result):
        return await result
    return result


async def registering(node: Node, call: Callable[[], Result]) -> Answer:
    """The answer of `call`; if it asks for a remote bucket that is not known yet, that is registered, and the call made again."""
    try:
        return await answered(call())
    except UnknownBucket as unknown:
        await register(node, unknown.bucket)
    try:
        return await answered(call())
    except UnknownBucket as unknown:  # evicted at that moment
        raise bucket_missing(unknown.bucket) from None


async def register(node: Node, identity: BucketId) -> Bucket:
    """Make a remote bucket known, if it exists. Raises `ApiError`."""
    identity = await node.backends.revive(identity)
    found = node.store.bucket(identity)
    if found is not None:
        return found
    await node.backends.at(identity).check_bucket(identity)
    return await add(node, identity, remote_props(node, identity))


async def passing_bucket(node: Node, identity: BucketId) -> Bucket:
    """A remote bucket that is looked at without being registered: one with the number 0, in which nothing is cached."""
    identity = await node.backends.revive(identity)
    await node.backends.at(identity).check_bucket(identity)
    props = replace(remote_props(node, identity), bid=Decimal(0))
    bucket = Bucket(0, identity, pack(props))
    node.props(bucket)
    return bucket


def remote_props(node: Node, identity: BucketId) -> BucketProps:
    """Properties of a remote bucket that is new here; what can be fetched again may be evicted."""
    config = node.control.config.current
    return replace(config.bucket_props(), provider=identity.provider, lru=replace(config.bucket.lru, enabled=True))


async def add(node: Node, identity: BucketId, props: BucketProps) -> Bucket:
    """Add a remote bucket to the catalog. Its number has not the mark of native ones (protocol/10 9)."""
    created = Decimal(time.time_ns())
    try:
        return await node.store.create_bucket(
            identity, lambda number: pack(replace(props, bid=Decimal(number), created=created))
        )
    except BucketExists:  # somebody else asked for it at the same time
        found = node.store.bucket(identity)
        assert found is not None
        return found
