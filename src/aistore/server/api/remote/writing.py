"""PUT and DELETE of objects whose content lives elsewhere: their backend first, and then the cache (protocol/20 6, 9)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from aistore.http1.message import Reply
from aistore.server.api import multipart, writing
from aistore.server.api.registering import answered
from aistore.server.api.remote.reading import cached, head_there
from aistore.server.backends.base import SOURCE, where
from aistore.server.backends.errors import RemoteError
from aistore.server.store.evicting import evict as evict_rows
from aistore.wire import access
from aistore.wire import headers as header
from aistore.wire import params as param
from aistore.wire.custom import parse_lines
from aistore.wire.errors import ApiError, unsupported

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from aistore.http1.server import Answer, Request, Result
    from aistore.server.node import Node
    from aistore.server.store.content import Upload
    from aistore.server.store.rows import Bucket, ObjectRow

__all__ = ["Remote", "delete", "delete_there", "evict_one", "put", "write_through"]

_CUSTOM_MD = header.CUSTOM_MD.lower()


def put(node: Node, request: Request, bucket: Bucket, name: str) -> Result:
    """Store an object in the backend, and then in the cache. A copy of a cached object is written by `writing`."""
    params = request.params
    for option, what in (
        (param.ARCHPATH, "members of archives"),
        (param.APPEND_TYPE, "appended bytes"),
    ):
        if params.get(option):
            raise unsupported("write", f"{what} to remote bucket {bucket.id.cname}")
    if params.get(param.UPLOAD_ID):
        return multipart.put_part(node, request, bucket, name)
    return _copy(node, request, bucket, name) if params.get(param.OBJECT_TO) else _put(node, request, bucket, name)


async def _copy(node: Node, request: Request, bucket: Bucket, name: str) -> Answer:
    await cached(node, bucket, name)
    return await answered(writing.put(node, request, bucket, name))


async def _put(node: Node, request: Request, bucket: Bucket, name: str) -> Answer:
    node.check_access(bucket, access.PUT, "PUT")
    lines = request.lines(_CUSTOM_MD) if _CUSTOM_MD in request.headers else ()
    custom = parse_lines(writing.utf8(line) for line in lines)
    content, kind, checksum = await writing.receive_checked(node, request, bucket, name)
    size = len(content) if isinstance(content, bytes) else content.size
    row = await write_through(node, bucket, name, content, (kind, checksum), custom, fresh=writing.is_fresh(request))
    node.stats.written(size)
    return writing.render_put(row)


async def write_through(
    node: Node,
    bucket: Bucket,
    name: str,
    content: bytes | Upload,
    checksum: tuple[str, str],
    custom: dict[str, str],
    *,
    fresh: bool = False,
) -> ObjectRow:
    """Store content (bytes or a finished upload, which belongs to the store then) in the backend and in the cache of a remote bucket."""
    try:
        async with node.backends.changing(bucket, name):
            source = content if isinstance(content, bytes) else content.path
            found = await node.backends.of(bucket).put(where(bucket), name, source, custom)
            return await node.store.put(
                bucket, name, content, *checksum, custom={**custom, **found.custom},
                versioned=bool(found.version), fresh=fresh, counted_from=found.version,
            )  # fmt: skip
    except BaseException:
        if not isinstance(content, bytes):
            content.abandon()
        raise


class Remote(NamedTuple):
    """A remote bucket as what stores content that did not come in a PUT (promoted files, uploads in parts) knows it."""

    node: Node
    bucket: Bucket
    custom: Mapping[str, str] = {}
    """The metadata that users gave to the object."""

    async def exists(self, name: str) -> bool:
        """Whether there is such an object. Raises `RemoteError`."""
        return await head_there(self.node, self.bucket, name) is not None

    async def put(self, name: str, content: bytes | Upload, checksum: tuple[str, str]) -> ObjectRow:
        """Store an object in the backend and in the cache. Raises `ApiError`, `StoreError`."""
        return await write_through(self.node, self.bucket, name, content, checksum, dict(self.custom))

    @asynccontextmanager
    async def sent(self, name: str, path: Path) -> AsyncIterator[tuple[str, Mapping[str, str]]]:
        """Store a file in the backend, and hold off other writers of the object until the cache has it too."""
        async with self.node.backends.changing(self.bucket, name):
            found = await self.node.backends.of(self.bucket).put(where(self.bucket), name, path, self.custom)
            yield found.version, {**self.custom, **found.custom}


async def delete(node: Node, bucket: Bucket, name: str) -> Reply:
    """Delete an object in the backend, and then in the cache."""
    async with node.backends.changing(bucket, name):
        await delete_there(node, bucket, name)
        await node.store.delete(bucket, [name])
    node.stats.deleted()
    return Reply(200)


async def delete_there(node: Node, bucket: Bucket, name: str) -> None:
    """Delete an object in the backend; one that only the cache still has is gone there already."""
    try:
        await node.backends.of(bucket).delete(where(bucket), name)
    except RemoteError as error:
        if error.kind != "object" or node.store.lookup(bucket, name) is None:
            raise


async def evict_one(node: Node, bucket: Bucket, name: str) -> int | None:
    """Drop an object from the cache; its size, None if it is not there. Raises `ApiError` 400 for content that is nowhere else."""
    async with node.backends.writing(bucket, name):
        row = node.store.lookup(bucket, name)
        if row is None:
            return None
        if SOURCE not in row.custom:
            raise ApiError(
                400, f"cannot evict {bucket.id.object_cname(name)}: it did not come from a backend, and is nowhere else"
            )
        await evict_rows(node.store, bucket, [name], SOURCE)
        return row.size
