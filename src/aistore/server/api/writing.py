"""PUT of an object: content, and copies of objects (protocol/20 6, 11)."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from aistore.http1.message import Pending, Reply
from aistore.server.api.append import append
from aistore.server.api.archive_reading import archive_query
from aistore.server.api.archive_writing import put_into_archive
from aistore.server.api.messages import OK
from aistore.server.api.multipart import put_part
from aistore.server.api.pieces import hold_two
from aistore.server.api.reading import object_headers
from aistore.server.api.remote.copying_out import copy_out
from aistore.server.store.content import finished, in_thread
from aistore.server.store.copying import copy_objects
from aistore.server.store.errors import ContentDamaged, StoreFull
from aistore.server.store.room import make_room
from aistore.server.store.schema import INLINE_MAX
from aistore.server.store.verifying import open_verified
from aistore.wire import access
from aistore.wire import headers as header
from aistore.wire import params as param
from aistore.wire.checksum import DIGITS, Hasher, digest, new_hasher
from aistore.wire.custom import parse_lines
from aistore.wire.errors import (
    ApiError,
    bad_checksum,
    object_not_found,
)
from aistore.wire.names import check_object_name, parse_uname
from aistore.wire.values import parse_bool

if TYPE_CHECKING:
    from aistore.http1.server import Body, Request, Result
    from aistore.server.node import Node
    from aistore.server.store.content import Upload
    from aistore.server.store.rows import Bucket, ObjectRow

__all__ = ["is_fresh", "put", "receive_checked", "render_put", "utf8"]

_CHECKSUM_TYPE: Final = header.CHECKSUM_TYPE.lower()
_CHECKSUM_VALUE: Final = header.CHECKSUM_VALUE.lower()
_CUSTOM_MD: Final = header.CUSTOM_MD.lower()
_VERSION: Final = header.VERSION.lower()


def put(node: Node, request: Request, bucket: Bucket, name: str) -> Result:
    """Store an object; the query says which kind of PUT it is, the first match counts (protocol/20 6)."""
    query = request.query
    if query not in ("", "provider=ais"):
        params = request.params
        if params.get(param.OBJECT_TO):
            node.check_access(bucket, access.GET, "GET")
            return _copy(node, request, bucket, name)
        if params.get(param.UPLOAD_ID):
            return put_part(node, request, bucket, name)
        if "arch" in query and (member := archive_query(request, name)) is not None and member.path:
            return put_into_archive(node, request, bucket, name, member)
        if params.get(param.APPEND_TYPE):
            node.check_access(bucket, access.APPEND, "APPEND")
            return append(node, request, bucket, name)
    node.check_access(bucket, access.PUT, "PUT")
    headers = request.headers
    custom = parse_lines(utf8(line) for line in request.lines(_CUSTOM_MD)) if _CUSTOM_MD in headers else None
    content = request.content
    if _CHECKSUM_TYPE in headers or _CHECKSUM_VALUE in headers or content is None or len(content) > INLINE_MAX:
        return _put_slowly(node, request, bucket, name, custom)
    kind = node.props(bucket).checksum.type
    store = node.store
    try:
        store.check_room(len(content), in_catalog=True)
    except StoreFull:  # what can be fetched again may go
        return _put_slowly(node, request, bucket, name, custom)
    future = store.put(
        bucket, name, content, kind, digest(kind, content), custom=custom,
        versioned=node.props(bucket).versioning.enabled, fresh=is_fresh(request), counted_from=headers.get(_VERSION, ""),
    )  # fmt: skip
    node.stats.written(len(content))
    return Pending(future, render_put)


def render_put(row: ObjectRow) -> bytes | Reply:
    if not row.custom and row.checksum and row.version:
        return (
            b"HTTP/1.1 200 OK\r\nAis-Checksum-Type: %b\r\nAis-Checksum-Value: %b\r\nAis-Version: %b\r\nAis-Atime: %d\r\nContent-Length: 0\r\n\r\n"
            % (row.checksum_type.encode(), row.checksum.encode(), row.version.encode(), row.atime)
        )
    return Reply(200, [*object_headers(row), (header.ATIME, str(row.atime))])


def utf8(value: str) -> str:
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise ApiError(400, f"custom metadata: {value!r} is not UTF-8") from None


def is_fresh(request: Request) -> bool:
    return bool(request.query) and param.SKIP_VC in request.query and parse_bool(request.params.get(param.SKIP_VC, ""))


async def _is_good(node: Node, bucket: Bucket, row: ObjectRow) -> bool:
    """Whether content need not be stored again, since it is there: a PUT of what was there before mends an object that is damaged."""
    try:
        current = await open_verified(node.store, bucket, row)
    except (ContentDamaged, OSError):
        return False
    if current is not None and current[1] >= 0:
        os.close(current[1])
    return current is not None


async def _put_slowly(
    node: Node, request: Request, bucket: Bucket, name: str, custom: dict[str, str] | None
) -> bytes | Reply:
    """A PUT that is large, chunked, or comes with a checksum to compare."""
    store = node.store
    props = node.props(bucket)
    kind, expected = _client_checksum(request, props.checksum.type)
    fresh = is_fresh(request)
    if expected and not fresh:
        row = store.lookup(bucket, name)
        if (
            row is not None
            and (row.checksum_type, row.checksum) == (kind, expected)
            and await _is_good(node, bucket, row)
        ):
            return await _already_there(node, request, bucket, name, custom)
    content, checksum = await _receive_checked(node, request, bucket, name, (kind, expected))
    size = len(content) if isinstance(content, bytes) else content.size
    row = await store.put(
        bucket, name, content, props.checksum.type, checksum, custom=custom,
        versioned=props.versioning.enabled, fresh=fresh, counted_from=request.headers.get(_VERSION, ""),
    )  # fmt: skip
    node.stats.written(size)
    return render_put(row)


async def receive_checked(node: Node, request: Request, bucket: Bucket, name: str) -> tuple[bytes | Upload, str, str]:
    """Receive a body, compared with the checksum that the client sent; the content, and its checksum of the bucket's type.

    Content is bytes up to `INLINE_MAX`, else a finished upload.
    """
    kind = node.props(bucket).checksum.type
    content, checksum = await _receive_checked(node, request, bucket, name, _client_checksum(request, kind))
    return content, kind, checksum


async def _receive_checked(
    node: Node, request: Request, bucket: Bucket, name: str, expected: tuple[str, str]
) -> tuple[bytes | Upload, str]:
    own = node.props(bucket).checksum.type
    kind, value = expected
    content, sums = await _receive(node, request, [own, kind] if value else [own])
    if value and sums[kind] != value:
        if not isinstance(content, bytes):
            content.abandon()
        raise bad_checksum(kind, value, sums[kind], bucket.id.object_cname(name))
    return content, sums[own]


def _client_checksum(request: Request, bucket_kind: str) -> tuple[str, str]:
    """Type and value of the checksum that the client sent, empty if it sent none that counts (protocol/20 6.2)."""
    kind, value = request.headers.get(_CHECKSUM_TYPE, ""), request.headers.get(_CHECKSUM_VALUE, "")
    if not kind or not value or bucket_kind == "none":
        return "", ""
    kind = kind.lower()
    if kind not in DIGITS:
        raise ApiError(400, f'checksum: unsupported type, have ("{kind}", "{value}")')
    return kind, value


async def _already_there(
    node: Node, request: Request, bucket: Bucket, name: str, custom: dict[str, str] | None
) -> Reply:
    """The object has this content already: the body is not looked at (protocol/20 6.2)."""
    if request.body is not None:
        async for _ in request.body.chunks():
            pass
    if custom:
        await node.store.set_custom(bucket, name, custom, replace=False)
    return OK


async def _receive(node: Node, request: Request, kinds: list[str]) -> tuple[bytes | Upload, dict[str, str]]:
    """Receive a body into the catalog's size or a content file; its checksums by type."""
    store = node.store
    if (length := _announced(request)) is not None:
        await make_room(store, length, in_catalog=length <= INLINE_MAX)
    if request.content is not None and len(request.content) <= INLINE_MAX:
        store.check_room(len(request.content), in_catalog=True)
        return request.content, {kind: digest(kind, request.content) for kind in kinds}
    hashers = {kind: hasher for kind in kinds if (hasher := new_hasher(kind)) is not None}
    upload: Upload | None = None
    try:
        if request.content is not None:
            store.check_room(len(request.content))
            upload = await store.content.create(len(request.content))
            data = memoryview(request.content)
            if store.durability == "relaxed":
                _take_and_finish(upload, hashers, data)
            else:
                await store.content.in_short_thread(_take_and_finish, upload, hashers, data)
        else:
            body = request.body
            assert body is not None
            if body.length is not None:
                store.check_room(body.length, in_catalog=body.length <= INLINE_MAX)
            first = bytearray(hold_two(body))  # the other one is made below
            n = await body.readinto(first)
            if body.complete and n <= INLINE_MAX:
                store.check_room(n, in_catalog=True)
                small = bytes(first[:n])
                return small, {kind: digest(kind, small) for kind in kinds}
            upload = await store.content.create(body.length or 0)
            await _receive_pieces(node, body, upload, hashers, first, n)
            await in_thread(upload.finish)
    except BaseException:
        if upload is not None:
            upload.abandon()
        raise
    return upload, {kind: hashers[kind].hexdigest() if kind in hashers else "" for kind in kinds}


def _announced(request: Request) -> int | None:
    """Bytes of the body, if that is known."""
    if request.content is not None:
        return len(request.content)
    return request.body.length if request.body is not None else None


async def _receive_pieces(
    node: Node, body: Body, upload: Upload, hashers: dict[str, Hasher], piece: bytearray, n: int
) -> None:
    """Receive piece by piece; one is hashed and written in a thread while the next one arrives."""
    loop = asyncio.get_running_loop()
    other = bytearray(len(piece))
    writing: asyncio.Future[None] | None = None
    try:
        while n:
            if body.length is None:
                await make_room(node.store, n)
                upload.reserve(n)
            if writing is not None:
                await finished(writing)
            writing = loop.run_in_executor(None, _take, upload, hashers, memoryview(piece)[:n])
            piece, other = other, piece
            n = await body.readinto(piece)
    finally:
        if writing is not None:
            await finished(writing)


def _take(upload: Upload, hashers: dict[str, Hasher], data: memoryview) -> None:
    for hasher in hashers.values():
        hasher.update(data)
    upload.write(data)


def _take_and_finish(upload: Upload, hashers: dict[str, Hasher], data: memoryview) -> None:
    _take(upload, hashers, data)
    upload.finish()


# -- copies --------------------------------------------------------------------------------------------------------


async def _copy(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    params = request.params
    identity, target_name = parse_uname(params[param.OBJECT_TO])
    if not target_name:
        raise ApiError(400, f'parse-uname "{params[param.OBJECT_TO]}": missing object name in "{identity.cname}"')
    target = node.find(identity)
    node.check_access(target, access.PUT, "PUT")
    if params.get(param.ETL_NAME):
        raise ApiError(400, f"ETL {params[param.ETL_NAME]} doesn't exist")
    target_name = check_object_name(target_name)
    if target.remote is not None:
        await copy_out(node, bucket, name, target, target_name)
        return OK
    kind = node.props(target).checksum.type
    done = await copy_objects(node.store, bucket, target, [(name, target_name)], kind)
    if done.missing:
        raise object_not_found(node.name, bucket.id.object_cname(name))
    if done.failed:
        if (row := node.store.lookup(bucket, name)) is not None:
            node.store.verifier.refuse(row)
        raise ApiError(500, f"{node.name}: {done.failed[0][1]}")
    return OK
