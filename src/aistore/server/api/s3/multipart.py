"""Uploads in parts over S3 (protocol/00 21). The store keeps them as those of native clients, with an entity tag for each part."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, Final

from aistore.http1.message import Reply
from aistore.server.api import multipart
from aistore.server.api.remote.writing import Remote
from aistore.server.api.s3.body import expect_checked
from aistore.server.api.s3.errors import invalid, no_such_key
from aistore.server.api.s3.headers import iso_time, modified, object_headers, tag_of, user_metadata
from aistore.server.api.s3.listing import page_size
from aistore.server.api.s3.objects import source_row
from aistore.server.api.s3.xml import element, leaf, malformed, read_document, xml_reply
from aistore.server.store.content import in_thread
from aistore.server.store.errors import PartsRefused, UploadGone
from aistore.server.store.room import make_room
from aistore.server.store.verifying import open_verified
from aistore.wire import access
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aistore.http1.server import Request
    from aistore.server.node import Node
    from aistore.server.store.completing import Part
    from aistore.server.store.multipart import PartWriter
    from aistore.server.store.rows import Bucket

__all__ = ["abort", "begin", "complete", "list_parts", "list_uploads", "put_part", "put_part_copy"]

_MOST: Final = 10_000
_PIECE: Final = 1 << 20
_RANGE: Final = "x-amz-copy-source-range"
_number: Final = re.compile(r"[0-9]{1,9}", re.ASCII).fullmatch
_range: Final = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})", re.ASCII).fullmatch


async def begin(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    """Begin an upload; the metadata of the object comes with this call."""
    node.check_access(bucket, access.PUT, "PUT")
    upload_id = await node.store.uploads.begin(bucket, name, user_metadata(request))
    return xml_reply(
        "InitiateMultipartUploadResult",
        leaf("Bucket", bucket.id.name),
        leaf("Key", name),
        leaf("UploadId", upload_id),
    )


# -- parts ---------------------------------------------------------------------------------------------------------


async def put_part(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    """Store a part; its entity tag is the MD5 of its content."""
    node.check_access(bucket, access.PUT, "PUT")
    number = _part_number(request)
    expect_checked(request)
    tag = hashlib.md5(usedforsecurity=False)
    try:
        await multipart.receive_part(node, request, bucket, name, (request.params["uploadId"], number), tag)
    except UploadGone as gone:
        raise _no_such_upload(gone) from None
    return Reply(200, [("ETag", f'"{tag.hexdigest()}"')])


def _part_number(request: Request) -> int:
    text = request.params.get("partNumber", "")
    if not _number(text) or not 1 <= int(text) <= _MOST:
        raise invalid(f"partNumber: {text[:64]!r} is not a number from 1 to {_MOST}")
    return int(text)


async def put_part_copy(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    """Store a part that is a copy of an object or of a range of it."""
    node.check_access(bucket, access.PUT, "PUT")
    number = _part_number(request)
    source, row = await source_row(node, request)
    store, upload_id = node.store, request.params["uploadId"]
    current = await open_verified(store, source, row)
    if current is None:
        raise no_such_key(node.name, source.id.object_cname(row.name))
    row, fd = current
    try:
        start, size = _copied_range(request, row.size)
        store.uploads.check(bucket, name, upload_id)
        await make_room(store, size)
        part = await store.uploads.open_part(upload_id, number, size)
        tag = hashlib.md5(usedforsecurity=False)
        try:
            await in_thread(_copy_into, part, fd, row.data, start, size, tag)
            await part.store(node.props(bucket).checksum.type, tag.hexdigest())
        except BaseException:
            await part.abandon()
            raise
    except UploadGone as gone:
        raise _no_such_upload(gone) from None
    finally:
        if fd >= 0:
            os.close(fd)
    node.stats.written(size)
    return xml_reply(
        "CopyPartResult",
        leaf("LastModified", iso_time(modified(row.custom, row.mtime))),
        leaf("ETag", f'"{tag.hexdigest()}"'),
    )


def _copied_range(request: Request, size: int) -> tuple[int, int]:
    """Offset and length of what is copied. Raises `ApiError` 400."""
    text = request.headers.get(_RANGE)
    if text is None:
        first, last = 0, size - 1
    else:
        found = _range(text.strip())
        if found is None:
            raise invalid(f"{_RANGE}: {text[:64]!r} is not bytes=FIRST-LAST")
        first, last = int(found[1]), int(found[2])
    if not first <= last < size:
        raise invalid(f"a part cannot be bytes {first} to {last} of an object of {size} bytes")
    return first, last - first + 1


def _copy_into(part: PartWriter, fd: int, data: bytes | None, start: int, size: int, tag: hashlib._Hash) -> None:
    """Write a range of an object's content, in memory or in a file, to a part (blocking)."""
    end = start + size
    while start < end:
        length = min(_PIECE, end - start)
        piece = data[start : start + length] if data is not None else os.pread(fd, length, start)
        if not piece:
            raise OSError(f"content file ends {end - start} bytes early")
        tag.update(piece)
        part.write(piece)
        start += len(piece)
    part.finish()


# -- the end -------------------------------------------------------------------------------------------------------


async def complete(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    """Make the object of all parts that were stored."""
    node.check_access(bucket, access.PUT, "PUT")
    expect_checked(request)
    wanted = _wanted(await read_parts(request))
    uploads, upload_id = node.store.uploads, request.params["uploadId"]
    props = node.props(bucket)
    try:
        uploads.check(bucket, name, upload_id)
        custom = uploads.pairs(upload_id)
        row = await uploads.complete(
            bucket, name, upload_id, sorted(wanted), props.checksum.type,
            versioned=props.versioning.enabled,
            elsewhere=None if bucket.remote is None else Remote(node, bucket, custom),
            describe=lambda parts: {**custom, **_tag_of_parts(parts, wanted)},
        )  # fmt: skip
    except UploadGone as gone:
        raise _no_such_upload(gone) from None
    except PartsRefused as error:
        raise ApiError(400, str(error), "InvalidPart") from None
    tag = tag_of(row)
    headers = tuple(object_headers(tag, modified(row.custom, row.mtime), {}))
    return xml_reply(
        "CompleteMultipartUploadResult",
        leaf("Bucket", bucket.id.name),
        leaf("Key", name),
        leaf("ETag", f'"{tag}"'),
        headers=headers,
    )


async def read_parts(request: Request) -> list[tuple[str, str]]:
    """Number and entity tag of each part that a completion names."""
    asked = await read_document(request, "CompleteMultipartUpload")
    return [((one.value("PartNumber") or "").strip(), (one.value("ETag") or "").strip()) for one in asked.all("Part")]


def _wanted(parts: Sequence[tuple[str, str]]) -> dict[int, str]:
    """Entity tags by number. Raises `ApiError` 400 unless the numbers ascend."""
    if not parts:
        raise malformed("no parts are named")
    wanted: dict[int, str] = {}
    last = 0
    for text, tag in parts:
        if not _number(text):
            raise malformed(f"{text[:64]!r} is no part number")
        if int(text) <= last:
            raise ApiError(400, "the parts are not in ascending order", "InvalidPartOrder")
        last = int(text)
        wanted[last] = tag.strip('"')
    return wanted


def _tag_of_parts(parts: Sequence[Part], wanted: Mapping[int, str]) -> dict[str, str]:
    """The entity tag of an object that was uploaded in parts, after those of the parts were compared. Raises `ApiError` 400."""
    if not all(part.tag for part in parts):  # a native client sent some
        return {}
    for part in parts:
        if wanted[part.number] not in ("", part.tag):
            raise ApiError(400, f"part {part.number} has another entity tag than the one given", "InvalidPart")
    joined = hashlib.md5(b"".join(bytes.fromhex(part.tag) for part in parts), usedforsecurity=False)
    return {"ETag": f"{joined.hexdigest()}-{len(parts)}"}


async def abort(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    """Give an upload up."""
    node.check_access(bucket, access.PUT, "PUT")
    try:
        await node.store.uploads.abort(bucket, name, request.params["uploadId"])
    except UploadGone as gone:
        raise _no_such_upload(gone) from None
    return Reply(204)


def _no_such_upload(gone: UploadGone) -> ApiError:
    return ApiError(404, f"there is no upload {gone.upload_id} of this object", "NoSuchUpload")


# -- lists ---------------------------------------------------------------------------------------------------------


def list_parts(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    """The parts of an upload that are there."""
    node.check_access(bucket, access.GET, "GET")
    upload_id = request.params["uploadId"]
    try:
        node.store.uploads.check(bucket, name, upload_id)
    except UploadGone as gone:
        raise _no_such_upload(gone) from None
    after = request.params.get("part-number-marker", "") or "0"
    if not _number(after):
        raise invalid(f"part-number-marker: {after[:64]!r} is no number")
    limit = page_size(request, "max-parts")
    behind = [part for part in node.store.uploads.parts(upload_id) if part.number > int(after)]
    parts, more = behind[:limit], len(behind) > limit
    return xml_reply(
        "ListPartsResult",
        leaf("Bucket", bucket.id.name),
        leaf("Key", name),
        leaf("UploadId", upload_id),
        leaf("PartNumberMarker", after),
        leaf("NextPartNumberMarker", parts[-1].number) if more and parts else "",
        leaf("MaxParts", limit),
        leaf("IsTruncated", "true" if more else "false"),
        *(
            element("Part", leaf("ETag", f'"{part.tag}"'), leaf("PartNumber", part.number), leaf("Size", part.size))
            for part in parts
        ),
    )


def list_uploads(node: Node, request: Request, bucket: Bucket) -> Reply:
    """The uploads of a bucket's objects that were not completed or aborted."""
    node.check_access(bucket, access.GET, "GET")
    params = request.params
    prefix, key, upload = params.get("prefix", ""), params.get("key-marker", ""), params.get("upload-id-marker", "")
    limit = page_size(request, "max-uploads")
    behind = node.store.uploads.of_bucket(bucket, prefix, (key, upload), limit + 1)
    found, more = behind[:limit], len(behind) > limit
    return xml_reply(
        "ListMultipartUploadsResult",
        leaf("Bucket", bucket.id.name),
        leaf("Prefix", prefix),
        leaf("KeyMarker", key),
        leaf("UploadIdMarker", upload),
        leaf("NextKeyMarker", found[-1].name) + leaf("NextUploadIdMarker", found[-1].id) if more and found else "",
        leaf("MaxUploads", limit),
        leaf("IsTruncated", "true" if more else "false"),
        *(
            element(
                "Upload",
                leaf("Key", one.name),
                leaf("UploadId", one.id),
                leaf("Initiated", iso_time(one.started / 1e9)),
            )
            for one in found
        ),
    )
