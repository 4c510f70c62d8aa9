"""Single objects over S3: GET, HEAD, PUT, DELETE and copies (protocol/00 21)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.http1.message import Pending, Reply
from aistore.server.api import reading, writing
from aistore.server.api.remote import reading as remote_reading
from aistore.server.api.remote import writing as remote_writing
from aistore.server.api.remote.copying_out import copy_out
from aistore.server.api.s3.body import expect_checked
from aistore.server.api.s3.buckets import find_bucket
from aistore.server.api.s3.errors import no_such_key
from aistore.server.api.s3.headers import (
    COPY_SOURCE,
    S3Dress,
    check_conditions,
    copy_source,
    iso_time,
    modified,
    object_headers,
    tag_of,
    user_metadata,
)
from aistore.server.api.s3.xml import leaf, xml_reply
from aistore.server.backends.base import own_pairs, system_pairs, where
from aistore.server.store.copying import copy_objects
from aistore.wire import access
from aistore.wire import headers as header
from aistore.wire.errors import ApiError
from aistore.wire.names import check_object_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.http1.server import Request, Result
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket, ObjectRow

__all__ = ["copy", "delete", "get", "head", "key_of", "put", "source_row"]


def key_of(node: Node, request: Request, bucket: Bucket, key: str) -> str:
    """The object name that a key is. Raises `ApiError` 400, or 404 where an object of this name is asked for: there is none."""
    try:
        return check_object_name(key)
    except ApiError:
        if request.method in ("GET", "HEAD", "DELETE"):
            raise no_such_key(node.name, bucket.id.object_cname(key)) from None
        raise


# -- reading -------------------------------------------------------------------------------------------------------


def get(node: Node, request: Request, bucket: Bucket, name: str) -> Result:
    """The object's content, or a range of it."""
    node.check_access(bucket, access.GET, "GET")
    read = reading.get if bucket.remote is None else remote_reading.get
    return read(node, request, bucket, name, S3Dress(request))


def head(node: Node, request: Request, bucket: Bucket, name: str) -> Result:
    """The object's attributes."""
    node.check_access(bucket, access.HEAD_OBJECT, "HEAD-OBJECT")
    row = node.store.lookup(bucket, name)
    if row is not None:
        return _described(node, row.size, S3Dress(request).of_row(row))
    if bucket.remote is None:
        raise no_such_key(node.name, bucket.id.object_cname(name))
    return _head_remote(node, request, bucket, name)


async def _head_remote(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    found = await node.backends.of(bucket).head(where(bucket), name)
    return _described(node, found.size, S3Dress(request).of_remote(found))


def _described(node: Node, size: int, headers: list[tuple[str, str]]) -> Reply:
    node.stats.headed()
    own = [("Content-Length", str(size)), ("Content-Type", header.OCTETS), ("Accept-Ranges", "bytes")]
    return Reply(200, own + headers)


# -- writing -------------------------------------------------------------------------------------------------------


async def put(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    """Store an object. It replaces one of this name with its version and metadata, as it does in S3."""
    node.check_access(bucket, access.PUT, "PUT")
    custom = user_metadata(request)
    expect_checked(request)
    if bucket.remote is not None:
        await _check_remote(node, request, bucket, name)
    content, kind, checksum = await writing.receive_checked(node, request, bucket, name)
    size = len(content) if isinstance(content, bytes) else content.size
    if bucket.remote is not None:
        row = await remote_writing.write_through(node, bucket, name, content, (kind, checksum), custom, fresh=True)
    else:
        row = await node.store.put(
            bucket, name, content, kind, checksum, custom=custom, fresh=True,
            versioned=node.props(bucket).versioning.enabled, check=_condition(node, request, bucket, name),
        )  # fmt: skip
    node.stats.written(size)
    return Reply(200, object_headers(tag_of(row), modified(row.custom, row.mtime), {}))


def _condition(node: Node, request: Request, bucket: Bucket, name: str) -> Callable[[ObjectRow | None], None] | None:
    """What looks at the version that a PUT replaces, in the same change of the catalog."""
    if "if-match" not in request.headers and "if-none-match" not in request.headers:
        return None

    def check(old: ObjectRow | None) -> None:
        if old is not None:
            check_conditions(request, tag_of(old), modified(old.custom, old.mtime))
        elif "if-match" in request.headers:
            raise no_such_key(node.name, bucket.id.object_cname(name))

    return check


async def _check_remote(node: Node, request: Request, bucket: Bucket, name: str) -> None:
    """The conditions of a PUT to a remote bucket, before it begins: backends take none along."""
    check = _condition(node, request, bucket, name)
    if check is None:
        return
    found = await remote_reading.head_there(node, bucket, name)
    if found is None:
        check(None)
    else:
        check_conditions(request, found.custom.get("ETag", ""), modified(found.custom, 0))


def delete(node: Node, bucket: Bucket, name: str) -> Result:
    """Delete an object; unlike S3 the reference says so if there is none."""
    node.check_access(bucket, access.DELETE_OBJECT, "DELETE-OBJECT")
    if bucket.remote is not None:
        return remote_writing.delete(node, bucket, name)

    def render(deleted: list[tuple[str, int]]) -> Reply:
        if not deleted:
            raise no_such_key(node.name, bucket.id.object_cname(name))
        node.stats.deleted()
        return Reply(200)

    return Pending(node.store.delete(bucket, [name]), render)


# -- copies --------------------------------------------------------------------------------------------------------


async def source_row(node: Node, request: Request) -> tuple[Bucket, ObjectRow]:
    """The object that `x-amz-copy-source` names, in the cache if its bucket is remote. Raises `ApiError` 404, 412."""
    bucket_name, key = copy_source(request)
    bucket = find_bucket(node, bucket_name)
    node.check_access(bucket, access.GET, "GET")
    row = await remote_reading.cached(node, bucket, check_object_name(key))
    check_conditions(request, tag_of(row), modified(row.custom, row.mtime), f"{COPY_SOURCE}-")
    return bucket, row


async def copy(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    """Copy an object; the copy shares the content, and has the metadata of the original unless the request brings its own."""
    node.check_access(bucket, access.PUT, "PUT")
    source, row = await source_row(node, request)
    replaces = request.headers.get("x-amz-metadata-directive", "").upper() == "REPLACE"
    custom = user_metadata(request) if replaces else own_pairs(row.custom)
    to_itself = (source.bid, row.name) == (bucket.bid, name)
    if to_itself and not replaces:
        raise ApiError(400, "an object is copied to itself only with other metadata (REPLACE)", "InvalidRequest")
    if bucket.remote is not None:
        await copy_out(node, source, row.name, bucket, name, custom)
        found = await node.backends.of(bucket).head(where(bucket), name)
        return _copied(found.custom.get("ETag", ""), modified(found.custom, 0))
    if to_itself:
        await node.store.set_custom(bucket, name, {**system_pairs(row.custom), **custom}, replace=True)
    else:
        if "ETag" in row.custom:
            custom["ETag"] = row.custom["ETag"]  # it tells of the content, which is the same
        done = await copy_objects(
            node.store, source, bucket, [(row.name, name)], node.props(bucket).checksum.type, custom
        )
        if done.missing:
            raise no_such_key(node.name, source.id.object_cname(row.name))
        if done.failed:
            raise ApiError(500, f"{node.name}: {done.failed[0][1]}")
    made = node.store.lookup(bucket, name)
    if made is None:
        raise no_such_key(node.name, bucket.id.object_cname(name))  # deleted at this moment
    return _copied(tag_of(made), modified(made.custom, made.mtime))


def _copied(tag: str, seconds: float) -> Reply:
    return xml_reply("CopyObjectResult", leaf("LastModified", iso_time(seconds)), leaf("ETag", f'"{tag}"'))
