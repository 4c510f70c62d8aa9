"""Copies of objects into remote buckets: the backend gets the content, and the cache nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from aistore.server.backends.base import own_pairs
from aistore.server.store.verifying import open_verified
from aistore.wire.errors import object_not_found

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["copy_out"]


async def copy_out(
    node: Node,
    bucket: Bucket,
    name: str,
    target: Bucket,
    new_name: str,
    custom: Mapping[str, str] | None = None,
) -> None:
    """Store an object that the cluster holds in the backend of another bucket, with its own metadata or `custom`. Raises `ApiError`."""
    remote, backend = node.remote_of(target), node.backends.of(target)
    assert remote is not None
    found = node.store.lookup(bucket, name)
    current = await open_verified(node.store, bucket, found) if found is not None else None
    if current is None:
        raise object_not_found(node.name, bucket.id.object_cname(name))
    row, fd = current
    pairs = own_pairs(row.custom) if custom is None else custom
    async with node.backends.changing(target, new_name):
        if row.data is not None:
            await backend.put(remote, new_name, row.data, pairs)
        else:
            with os.fdopen(fd, "rb") as file:
                await backend.put(remote, new_name, file, pairs)
        await node.store.delete(target, [new_name])
