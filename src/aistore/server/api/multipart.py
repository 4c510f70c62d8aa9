"""Uploads of objects in parts (protocol/20 15)."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.http1.message import Reply
from aistore.server.api.messages import text_reply
from aistore.server.api.pieces import LARGE_PIECE, hold_two
from aistore.server.api.s3.body import expect_checked
from aistore.server.store.content import finished, in_thread
from aistore.server.store.errors import PartsRefused, UploadGone
from aistore.server.store.room import make_room
from aistore.wire import access
from aistore.wire import params as param
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    import hashlib
    from collections.abc import Sequence

    from aistore.http1.server import Body, Request
    from aistore.server.node import Node
    from aistore.server.store.multipart import Elsewhere, PartWriter
    from aistore.server.store.rows import Bucket

__all__ = ["abort_upload", "begin_upload", "complete_upload", "put_part", "receive_part"]

_OK: Final = Reply(200)
_MOST: Final = 9999
_SHORTEST_ID: Final = 8
_LONGEST_ID: Final = 128
# Buffers of parts that were received, for the next ones: fresh memory costs an eighth of what receiving a part does.
_spare: Final[list[bytearray]] = []
_SPARE_MAX: Final = 16
_number: Final = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII).fullmatch


class _CompletedPart(msgspec.Struct):
    part_number: int = msgspec.field(default=0, name="part-number")
    etag: str = ""


async def begin_upload(node: Node, bucket: Bucket, name: str) -> Reply:
    """Begin an upload; the answer is its id."""
    node.check_access(bucket, access.PUT, "PUT")
    return text_reply(await node.store.uploads.begin(bucket, name))


async def put_part(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    """Store one part, compared with the checksum that clients of S3 send."""
    node.check_access(bucket, access.PUT, "PUT")
    upload_id = request.params[param.UPLOAD_ID]
    number = _part_number(request, bucket, name, upload_id)
    expect_checked(request)
    try:
        await receive_part(node, request, bucket, name, (upload_id, number))
    except UploadGone as gone:
        raise _gone(bucket, name, gone) from None
    return _OK


async def receive_part(
    node: Node,
    request: Request,
    bucket: Bucket,
    name: str,
    where: tuple[str, int],
    digest: hashlib._Hash | None = None,
) -> None:
    """Store the body as the part of an upload (`where`: its id, and the part's number); what `digest` makes of it becomes its entity tag.

    Raises `ApiError` 400, `UploadGone`, `StoreFull`.
    """
    upload_id, number = where
    size = _part_size(request, bucket, name)
    store = node.store
    store.uploads.check(bucket, name, upload_id)
    await make_room(store, size)
    part = await store.uploads.open_part(upload_id, number, size)
    try:
        await _receive(request, part, node.store.durability == "strict", digest)
        await part.store(node.props(bucket).checksum.type, "" if digest is None else digest.hexdigest())
    except BaseException:
        await part.abandon()
        raise
    node.stats.written(size)


def _part_number(request: Request, bucket: Bucket, name: str, upload_id: str) -> int:
    text = request.params.get(param.PART_NUMBER, "")
    if not _number(text):
        raise ApiError(400, f'{_shown(bucket, name)}: invalid part number "{text[:64]}" for uploadID "{upload_id}"')
    number = int(text)
    if not 1 <= number <= _MOST:
        why = (
            f"invalid chunk number ({number})"
            if number < 1
            else f"chunk number ({number}) exceeds the maximum allowed ({_MOST})"
        )
        raise ApiError(400, f"chunk-manifest[{bucket.id.object_cname(name)}, id={upload_id}]: {why}")
    return number


def _part_size(request: Request, bucket: Bucket, name: str) -> int:
    chunked = "transfer-encoding" in request.headers
    if request.content is not None and not chunked:
        size = len(request.content)
    else:
        size = request.body.length if request.body is not None and request.body.length is not None else -1
    if size <= 0:
        raise ApiError(400, f"{bucket.id.object_cname(name)}: put-part invalid size ({size})")
    return size


async def _receive(request: Request, part: PartWriter, durable: bool, digest: hashlib._Hash | None) -> None:
    """Write the body to the part's place."""
    if request.content is not None:
        if digest is not None:
            digest.update(request.content)
        if durable:
            await in_thread(_write_and_finish, part, request.content)
        else:
            part.write(request.content)
    else:
        assert request.body is not None
        await _receive_pieces(request.body, part, digest)
        if durable:
            await in_thread(part.finish)


def _write_and_finish(part: PartWriter, data: bytes) -> None:
    part.write(data)
    part.finish()


async def _receive_pieces(body: Body, part: PartWriter, digest: hashlib._Hash | None) -> None:
    """Receive piece by piece; one is written in a thread while the next one arrives."""
    loop = asyncio.get_running_loop()
    size = hold_two(body)
    piece, other = _buffer(size), _buffer(size)
    writing: asyncio.Future[None] | None = None
    try:
        while n := await body.readinto(piece):
            if writing is not None:
                await finished(writing)
            writing = loop.run_in_executor(None, _take, part, digest, memoryview(piece)[:n])
            piece, other = other, piece
    finally:
        if writing is not None:
            await finished(writing)
    if size == LARGE_PIECE and len(_spare) < _SPARE_MAX:
        _spare.extend((piece, other))


def _buffer(size: int) -> bytearray:
    return _spare.pop() if size == LARGE_PIECE and _spare else bytearray(size)


def _take(part: PartWriter, digest: hashlib._Hash | None, data: memoryview) -> None:
    if digest is not None:
        digest.update(data)
    part.write(data)


async def complete_upload(
    node: Node, request: Request, bucket: Bucket, name: str, value: object, elsewhere: Elsewhere | None
) -> Reply:
    """Make the object of the parts; with `elsewhere` there first."""
    node.check_access(bucket, access.PUT, "PUT")
    upload_id = request.params.get(param.UPLOAD_ID, "")
    props = node.props(bucket)
    try:
        numbers = _numbers(value)
        await node.store.uploads.complete(
            bucket, name, upload_id, numbers, props.checksum.type,
            versioned=props.versioning.enabled, elsewhere=elsewhere,
        )  # fmt: skip
    except UploadGone as gone:
        raise _gone(bucket, name, gone) from None
    except PartsRefused as error:
        raise ApiError(400, str(error)) from None
    return _OK


def _numbers(value: object) -> Sequence[int] | None:
    if value is None:
        return None
    try:
        return [part.part_number for part in msgspec.convert(value, list[_CompletedPart])]
    except msgspec.ValidationError as error:
        raise ApiError(400, f"apc.MptCompletedParts: {error}") from None


async def abort_upload(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    """Give an upload up."""
    upload_id = request.params.get(param.UPLOAD_ID, "")
    if not _SHORTEST_ID <= len(upload_id) <= _LONGEST_ID:
        what = (
            f"is too short (expecting >= {_SHORTEST_ID} chars)"
            if len(upload_id) < _SHORTEST_ID
            else f"is too long (expecting <= {_LONGEST_ID} chars)"
        )
        raise ApiError(400, f'chunk-manifest ID "{upload_id[:_LONGEST_ID]}" {what}')
    try:
        await node.store.uploads.abort(bucket, name, upload_id)
    except UploadGone:
        cname = bucket.id.object_cname(name)
        text = f"failed to load partial chunk-manifest[{cname}, id={upload_id}]: no such file or directory"
        raise ApiError(404, text) from None
    return _OK


def _shown(bucket: Bucket, name: str) -> str:
    """An object as the reference prints it in these refusals."""
    return f"o[{bucket.id.name}/{name}(-)]"


def _gone(bucket: Bucket, name: str, error: UploadGone) -> ApiError:
    if error.elsewhere:
        return ApiError(
            400, f"{_shown(bucket, name)}: object mismatch: {error.upload_id} is the upload of another object"
        )
    return ApiError(404, f"{_shown(bucket, name)}: {error.upload_id} does not exist", "ErrNotFound")
