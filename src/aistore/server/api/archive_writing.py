"""PUT of one member into an archive (protocol/20 6.4)."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aistore.server.api.messages import OK
from aistore.server.archive.archives import Content
from aistore.server.archive.building import ArchiveBuilder
from aistore.server.archive.errors import BadArchive
from aistore.server.archive.formats import by_mime, by_name, detect
from aistore.server.archive.source import BytesSource, FileSource
from aistore.server.archive.writing import NewMember
from aistore.server.store.content import in_thread
from aistore.server.store.errors import ContentChanged
from aistore.server.store.room import make_room
from aistore.server.store.work import unnamed_file, write_all
from aistore.wire import access
from aistore.wire.errors import ApiError, object_not_found

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.http1.message import Reply
    from aistore.http1.server import Body, Request
    from aistore.server.api.archive_reading import ArchiveQuery
    from aistore.server.archive.formats import Format
    from aistore.server.archive.source import Source
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["put_into_archive"]

_APPEND: Final = 1
_APPEND_OR_CREATE: Final = 2
_PIECE: Final = 1 << 20


async def put_into_archive(node: Node, request: Request, bucket: Bucket, name: str, query: ArchiveQuery) -> Reply:
    """Make the body a member: of a new archive, or of the one that is there if the flags say so."""
    node.check_access(bucket, access.PUT, "PUT")
    cname = bucket.id.object_cname(name)
    flags = _flags(request, cname)
    if not (len(request.content) if request.content is not None else request.body and request.body.length):
        raise ApiError(400, f'failed to archive {cname}: missing "Content-Length" in the request')
    if flags == _APPEND and node.store.lookup(bucket, name) is None:
        raise object_not_found(node.name, cname)
    with _spooled(node) as fd:
        source = await _receive(node, request, fd)
        member = NewMember(query.path, int(time.time()), source)
        while True:
            try:
                await _store(node, bucket, name, query, member, append=flags != 0, create=flags != _APPEND)
            except ContentChanged:  # somebody else wrote to it meanwhile
                continue
            except BadArchive as error:
                raise ApiError(400, f"failed to archive {cname}: {error}") from error
            node.stats.written(source.size)
            return OK


def _flags(request: Request, cname: str) -> int:
    text = request.headers.get("ais-pine", "") or "0"
    if text not in ("0", "1", "2"):
        if text.lstrip("+-").isdecimal():
            raise ApiError(400, f"failed to archive {cname}: flags {text[:20]} are none of 0, 1 and 2")
        raise ApiError(400, f'failed to archive {cname}: invalid flags "{text[:100]}" in the request')
    return int(text)


@contextmanager
def _spooled(node: Node) -> Iterator[int]:
    """A descriptor of a file that goes away with it: what is sent slowly must not hold up others who write to the archive."""
    fd = unnamed_file(node.store.work.root)
    try:
        yield fd
    finally:
        os.close(fd)


async def _receive(node: Node, request: Request, fd: int) -> Source:
    if request.content is not None:
        await make_room(node.store, len(request.content))
        return BytesSource(request.content)
    body: Body | None = request.body
    assert body is not None
    size = 0
    async for piece in body.chunks(_PIECE):
        await make_room(node.store, len(piece))
        size += await in_thread(write_all, fd, piece)
    return FileSource(fd, size)


async def _store(
    node: Node, bucket: Bucket, name: str, query: ArchiveQuery, member: NewMember, *, append: bool, create: bool
) -> None:
    store, kind = node.store, node.props(bucket).checksum.type
    old = await Content.open_verified(store, bucket, name) if append else Content.open(store, bucket, name)
    try:
        if old is None and not create:
            raise object_not_found(node.name, bucket.id.object_cname(name))
        form = _format(name, query.mime, old)
        if form is None:
            raise object_not_found(node.name, bucket.id.object_cname(name))
        appended = old if append else None
        if appended is None and kind != "none":
            kind = "xxhash2"
        builder = await ArchiveBuilder.begin(store, form, kind, appended)
        try:
            await builder.add((member,))
        except BaseException:
            builder.abandon()
            raise
        await builder.commit(bucket, name, versioned=False, extends=append)
    finally:
        if old is not None:
            old.close()


def _format(name: str, mime: str, old: Content | None) -> Format | None:
    if old is not None:
        return detect(name, mime, old.source)
    return by_mime(mime) if mime else by_name(name)
