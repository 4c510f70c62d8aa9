"""Where the shards of a dSort job come from, and where they go to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aistore.server.api.remote.reading import cached
from aistore.server.api.remote.writing import write_through
from aistore.server.archive.archives import Content
from aistore.server.dsort.sorting import Places
from aistore.server.store.content import finished
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aistore.server.dsort.sorting import Made
    from aistore.server.dsort.spec import Order
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket
    from aistore.wire.names import BucketId

__all__ = ["input_shards", "places_of"]

_FETCHED_AHEAD: Final = 8
_LOOKUPS: Final = 256  # of names in a row, before others have their turn


def places_of(node: Node, order: Order, source: Bucket, target: Bucket | None) -> Places:
    """The places of a job; `target` is None for a dry run into a bucket that there is not."""
    if target is None:
        return Places(
            lambda: input_shards(node, order, source), _nowhere, at_once=False, replacing=True, checksum_type="none"
        )
    remote = node.remote_of(target)
    props = node.props(target)

    async def publish(shards: list[Made]) -> None:
        if remote is not None:
            for made in shards:
                await write_through(node, target, made.name, made.content, made.checksum, {})
            return
        # Queued one behind the other, all are in one commit.
        changes = [
            node.store.put(target, made.name, made.content, *made.checksum, versioned=props.versioning.enabled)
            for made in shards
        ]
        await finished(asyncio.gather(*changes))

    return Places(
        lambda: input_shards(node, order, source),
        publish,
        at_once=target.bid == source.bid and remote is None,
        replacing=remote is None or not _same_place(node, remote, node.remote_of(source)),
        checksum_type=props.checksum.type,
    )


def _same_place(node: Node, one: BucketId, other: BucketId | None) -> bool:
    """Whether two buckets stand in front of the same one elsewhere, whose cluster each may name by id or alias."""
    return other is not None and node.backends.resolve(one) == node.backends.resolve(other)


async def _nowhere(_: list[Made]) -> None:
    raise AssertionError("a dry run makes no shards")


async def input_shards(node: Node, order: Order, source: Bucket) -> AsyncIterator[tuple[str, Content | None]]:
    """Name and content of each input shard, None for one that is missing."""
    some: list[str] = []
    ahead = 1 if node.remote_of(source) is None else _FETCHED_AHEAD
    for number, name in enumerate(order.input_names(), 1):
        if number % _LOOKUPS == 0:
            await asyncio.sleep(0)
        some.append(name)
        if len(some) == ahead:
            async for one in _opened(node, source, some):
                yield one
            some = []
    async for one in _opened(node, source, some):
        yield one


async def _opened(node: Node, source: Bucket, names: list[str]) -> AsyncIterator[tuple[str, Content | None]]:
    if node.remote_of(source) is not None:
        await asyncio.gather(*(_fetch(node, source, name) for name in names))
    for name in names:
        content = await Content.open_verified(node.store, source, name)
        if content is None and node.remote_of(source) is not None and await _fetch(node, source, name):
            content = await Content.open_verified(node.store, source, name)  # it had been evicted at that moment
        if content is None:
            _check_there(node, source)
        yield name, content


def _check_there(node: Node, bucket: Bucket) -> None:
    """Raise `ApiError` for a bucket that is gone: its shards are not just missing."""
    there = node.store.bucket(bucket.id)
    if there is None or there.bid != bucket.bid:
        raise ApiError(404, f'bucket "{bucket.id.cname}" was evicted or destroyed meanwhile', "ErrBckNotFound")


async def _fetch(node: Node, source: Bucket, name: str) -> bool:
    """Have an object of a remote bucket in the cache; whether there is such an object."""
    try:
        await cached(node, source, name)
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True
