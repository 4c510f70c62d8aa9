"""PUT of an object: content, append sessions, copies (protocol/20 6, 7, 11)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
from typing import TYPE_CHECKING, Final

from aistore.http1.message import Pending, Reply
from aistore.server.api.reading import object_headers
from aistore.server.store.content import hash_file
from aistore.server.store.errors import ObjectMissing
from aistore.server.store.schema import INLINE_MAX
from aistore.wire import access
from aistore.wire.checksum import DIGITS, Hasher, check_value, digest, new_hasher
from aistore.wire.custom import parse_lines
from aistore.wire.errors import (
    ApiError,
    bad_checksum,
    bucket_not_found,
    not_implemented,
    object_not_found,
)
from aistore.wire.ids import new_letters
from aistore.wire.names import check_object_name, parse_uname

if TYPE_CHECKING:
    from pathlib import Path

    from aistore.http1.server import Body, Request, Result
    from aistore.server.node import Node
    from aistore.server.store.content import Upload
    from aistore.server.store.rows import Bucket, ObjectRow

__all__ = ["put"]

_PIECE: Final = 1 << 20  # bytes received before they are hashed and written in a thread
_OK: Final = Reply(200)


def put(node: Node, request: Request, bucket: Bucket, name: str) -> Result:
    """Store an object; the query says which kind of PUT it is, the first match counts (protocol/20 6)."""
    query = request.query
    if query not in ("", "provider=ais"):
        params = request.params
        if params.get("object_to"):
            node.check_access(bucket, access.GET, "GET")
            return _copy(node, request, bucket, name)
        if params.get("uploadId"):
            raise not_implemented("upload", "parts of objects")
        if params.get("archpath"):
            raise not_implemented("write", "members of archives")
        if params.get("append_type"):
            node.check_access(bucket, access.APPEND, "APPEND")
            return _append(node, request, bucket, name)
    node.check_access(bucket, access.PUT, "PUT")
    headers = request.headers
    custom = parse_lines(_utf8(line) for line in request.lines("ais-custom-md")) if "ais-custom-md" in headers else None
    content = request.content
    if (
        "ais-checksum-type" in headers
        or "ais-checksum-value" in headers
        or content is None
        or len(content) > INLINE_MAX
    ):
        return _put_slowly(node, request, bucket, name, custom)
    kind = node.props(bucket).checksum.type
    store = node.store
    store.check_room(len(content))
    future = store.put(
        bucket, name, content, kind, digest(kind, content), custom=custom,
        versioned=node.props(bucket).versioning.enabled, fresh=_is_fresh(request), version=headers.get("ais-version", ""),
    )  # fmt: skip
    node.stats.written(len(content))
    return Pending(future, _render_put)


def _render_put(row: ObjectRow) -> bytes | Reply:
    if not row.custom and row.checksum and row.version:
        return (
            b"HTTP/1.1 200 OK\r\nAis-Checksum-Type: %b\r\nAis-Checksum-Value: %b\r\nAis-Version: %b\r\nAis-Atime: %d\r\nContent-Length: 0\r\n\r\n"
            % (row.checksum_type.encode(), row.checksum.encode(), row.version.encode(), row.atime)
        )
    return Reply(200, [*object_headers(row), ("Ais-Atime", str(row.atime))])


def _utf8(value: str) -> str:
    return value.encode("latin-1").decode("utf-8", "surrogateescape")


def _is_fresh(request: Request) -> bool:
    return bool(request.query) and "skip_vc" in request.query and request.params.flag("skip_vc")


async def _put_slowly(
    node: Node, request: Request, bucket: Bucket, name: str, custom: dict[str, str] | None
) -> bytes | Reply:
    """A PUT that is large, chunked, or comes with a checksum to compare."""
    store = node.store
    props = node.props(bucket)
    kind, expected = _client_checksum(request, props.checksum.type)
    fresh = _is_fresh(request)
    if expected and not fresh:
        row = store.lookup(bucket, name)
        if row is not None and (row.checksum_type, row.checksum) == (kind, expected):
            return await _already_there(node, request, bucket, name, custom)
    received = await _receive(node, request, [props.checksum.type, kind] if expected else [props.checksum.type])
    content, sums = received
    if expected and sums[kind] != expected:
        if not isinstance(content, bytes):
            content.abandon()
        raise bad_checksum(kind, expected, sums[kind], bucket.id.object_cname(name))
    size = len(content) if isinstance(content, bytes) else content.size
    row = await _commit(
        node, bucket, name, content, props.checksum.type, sums[props.checksum.type], custom, fresh, request
    )
    node.stats.written(size)
    return _render_put(row)


async def _commit(
    node: Node,
    bucket: Bucket,
    name: str,
    content: bytes | Upload,
    kind: str,
    value: str,
    custom: dict[str, str] | None,
    fresh: bool,
    request: Request,
) -> ObjectRow:
    """Make received content visible. From the call of `store.put` on the upload belongs to the store, whatever happens here."""
    versioned = node.props(bucket).versioning.enabled
    version = request.headers.get("ais-version", "")
    future = node.store.put(
        bucket, name, content, kind, value, custom=custom, versioned=versioned, fresh=fresh, version=version
    )
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        raise
    except Exception:
        if not isinstance(content, bytes):
            content.abandon()
        raise


def _client_checksum(request: Request, bucket_kind: str) -> tuple[str, str]:
    """Type and value of the checksum that the client sent, empty if it sent none that counts (protocol/20 6.2)."""
    kind, value = request.headers.get("ais-checksum-type", ""), request.headers.get("ais-checksum-value", "")
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
    return _OK


async def _receive(node: Node, request: Request, kinds: list[str]) -> tuple[bytes | Upload, dict[str, str]]:
    """Receive a body into the catalog's size or a content file; its checksums by type."""
    store = node.store
    if request.content is not None and len(request.content) <= INLINE_MAX:
        store.check_room(len(request.content))
        return request.content, {kind: digest(kind, request.content) for kind in kinds}
    hashers = {kind: hasher for kind in kinds if (hasher := new_hasher(kind)) is not None}
    upload: Upload | None = None
    loop = asyncio.get_running_loop()
    try:
        if request.content is not None:
            store.check_room(len(request.content))
            upload = await store.content.create()
            if store.durability == "relaxed":
                _take(upload, hashers, memoryview(request.content))
                upload.finish()
            else:
                await loop.run_in_executor(None, _take_and_finish, upload, hashers, memoryview(request.content))
        else:
            body = request.body
            assert body is not None
            if body.length is not None:
                store.check_room(body.length)
            first = bytearray(min(_PIECE, body.length or _PIECE))
            n = await body.readinto(first)
            if body.complete and n <= INLINE_MAX:
                store.check_room(n)
                small = bytes(first[:n])
                return small, {kind: digest(kind, small) for kind in kinds}
            upload = await store.content.create()
            await _receive_pieces(node, body, upload, hashers, first, n)
            await loop.run_in_executor(None, upload.finish)
    except BaseException:
        if upload is not None:
            upload.abandon()
        raise
    return upload, {kind: hashers[kind].hexdigest() if kind in hashers else "" for kind in kinds}


async def _receive_pieces(
    node: Node, body: Body, upload: Upload, hashers: dict[str, Hasher], piece: bytearray, n: int
) -> None:
    """Receive piece by piece; one is hashed and written in a thread while the next one arrives."""
    loop = asyncio.get_running_loop()
    other = bytearray(_PIECE)
    writing: asyncio.Future[None] | None = None
    try:
        while n:
            if body.length is None:
                node.store.check_room(n)
            if writing is not None:
                await writing
            writing = loop.run_in_executor(None, _take, upload, hashers, memoryview(piece)[:n])
            piece, other = other, piece
            n = await body.readinto(piece)
    finally:
        if writing is not None:
            await writing


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
    identity, target_name = parse_uname(params["object_to"])
    if not target_name:
        raise ApiError(400, f'parse-uname "{params["object_to"]}": missing object name in "{identity.cname}"')
    target = node.store.bucket(identity)
    if target is None:
        raise bucket_not_found(identity.cname)
    node.check_access(target, access.PUT, "PUT")
    if params.get("etl_name"):
        raise ApiError(400, f"ETL {params['etl_name']} doesn't exist")
    target_name = check_object_name(target_name)
    row = node.store.lookup(bucket, name)
    if row is None:
        raise object_not_found(node.name, bucket.id.object_cname(name))
    checksum = await _checksum_for(node, row, node.props(target).checksum.type)
    version = row.version if target.bid == bucket.bid else ""
    try:
        await node.store.copy(bucket, name, target, target_name, checksum=checksum, version=version)
    except ObjectMissing:
        raise object_not_found(node.name, bucket.id.object_cname(name)) from None
    return _OK


async def _checksum_for(node: Node, row: ObjectRow, kind: str) -> tuple[str, str] | None:
    """Checksum of the content by another bucket's type, None if it is of that type already."""
    if row.checksum_type == kind:
        return None
    if row.data is not None:
        return kind, digest(kind, row.data)
    fd = node.store.open_content(row)
    try:
        return kind, await asyncio.get_running_loop().run_in_executor(None, hash_file, kind, fd, 0, row.size)
    finally:
        os.close(fd)


# -- append --------------------------------------------------------------------------------------------------------
#
# A session is a work file that any process of the data folder can go on with: `target|work file|checksum type|state`, where the state
# is the length that the file has to have, so that a request that is sent twice is appended once.


async def _append(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    params = request.params
    kind = params["append_type"]
    handle = params.get("append_handle", "")
    if kind not in ("append", "flush"):
        raise ApiError(
            400, f'invalid operation "{kind}" (expecting either "append" or "flush") - check "append_type" query'
        )
    session = _parse_handle(node, handle) if handle else None
    if kind == "flush":
        return await _flush(node, request, bucket, name, session)
    loop = asyncio.get_running_loop()
    if session is None:
        row = node.store.lookup(bucket, name)
        path = node.store.work_dir / f"append-{new_letters()}"
        size = await loop.run_in_executor(None, _start_work, node, row, path)
    else:
        path, size = session
    fd = _open_work(bucket, path)
    try:
        await loop.run_in_executor(None, os.ftruncate, fd, size)
        os.lseek(fd, size, os.SEEK_SET)
        size += await _append_body(node, request, fd)
        if node.store.durability == "strict":
            await loop.run_in_executor(None, os.fsync, fd)
    finally:
        os.close(fd)
    node.stats.appended()
    return Reply(200, (("Ais-Append-Handle", _make_handle(node, path, size, node.props(bucket).checksum.type)),))


def _make_handle(node: Node, path: Path, size: int, kind: str) -> str:
    state = base64.urlsafe_b64encode(str(size).encode()).decode()
    return f"{node.target_id}|{path.name}|{kind}|{state}"


def _parse_handle(node: Node, handle: str) -> tuple[Path, int]:
    items = handle.split("|")
    if len(items) != 4:
        raise ApiError(400, f'invalid APPEND handle: "{handle}"')
    target, work, _, state = items
    if not node.smap.has_target(target):
        raise ApiError(
            400,
            f"{node.name}: APPEND failure: node {target} not present in Smap v{node.smap.version}",
            "errNodeNotFound",
        )
    try:
        size = int(base64.urlsafe_b64decode(state))
    except (ValueError, binascii.Error):
        size = -1
    if size < 0 or not (work.startswith("append-") and work[7:].isalpha() and work.isascii()):
        raise ApiError(400, f'invalid APPEND handle: "{handle}"')
    return node.store.work_dir / work, size


def _open_work(bucket: Bucket, path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ApiError(404, f"[fs-path] {bucket.id.cname}/{path.name}: work file does not exist") from None


def _start_work(node: Node, row: ObjectRow | None, path: Path) -> int:
    """Start a work file with the object's present content; its size."""
    path.parent.mkdir(exist_ok=True)
    node.store.forget_stale_work(24 * 3600)
    with path.open("xb") as work:
        if row is None:
            return 0
        if row.data is not None:
            return work.write(row.data)
        fd = node.store.open_content(row)
        try:
            offset = 0
            while piece := os.pread(fd, _PIECE, offset):
                offset += work.write(piece)
            return offset
        finally:
            os.close(fd)


async def _append_body(node: Node, request: Request, fd: int) -> int:
    loop = asyncio.get_running_loop()
    if request.content is not None:
        node.store.check_room(len(request.content))
        return await loop.run_in_executor(None, _write_all, fd, request.content)
    assert request.body is not None
    total = 0
    async for piece in request.body.chunks(_PIECE):
        node.store.check_room(len(piece))
        total += await loop.run_in_executor(None, _write_all, fd, piece)
    return total


def _write_all(fd: int, data: bytes | memoryview) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return len(data)


async def _flush(node: Node, request: Request, bucket: Bucket, name: str, session: tuple[Path, int] | None) -> Reply:
    if session is None:
        raise ApiError(
            400,
            "failed to finalize append-file operation: empty source in the {partialCksum:<nil> nodeID: workFQN:} handle",
        )
    path, size = session
    headers = request.headers
    given = headers.get("ais-checksum-type", "").lower(), headers.get("ais-checksum-value", "")
    if all(given):
        check_value(*given)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return _OK  # flushed before: the reference does nothing either (protocol/20 7.2)
    kind = node.props(bucket).checksum.type
    loop = asyncio.get_running_loop()
    try:
        os.ftruncate(fd, size)
        value = await loop.run_in_executor(None, hash_file, kind, fd, 0, size)
    finally:
        os.close(fd)
    if all(given) and given != (kind, value):
        raise ApiError(500, f"BAD DATA CHECKSUM: {kind}({value} != {given[1]})", "ErrBadCksum")
    content: bytes | Upload
    if size <= INLINE_MAX:
        content = path.read_bytes()
    else:
        content = await node.store.adopt(path)
    await _commit(node, bucket, name, content, kind, value, None, False, request)
    path.unlink(missing_ok=True)
    node.stats.written(size)
    return _OK
