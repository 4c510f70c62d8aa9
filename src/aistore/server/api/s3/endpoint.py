"""The S3 endpoint, `/s3` (protocol/00 21): which call a request is. It always answers in place.

Signatures are checked where there is AuthN, before a call comes here. Access is decided by the bucket's properties, as for native calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aistore.http1.message import Reply
from aistore.server.api.registering import registering
from aistore.server.api.s3 import buckets, listing, multipart, objects
from aistore.server.api.s3.errors import invalid, not_built
from aistore.server.api.s3.headers import COPY_SOURCE
from aistore.server.api.s3.xml import xml_reply
from aistore.server.backends.registry import UnknownBucket
from aistore.wire import access
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from aistore.http1.server import Request, Result
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["names_of", "s3"]

# What the reference answers with a bare 501.
_BARE: Final = frozenset({"lifecycle", "policy", "cors", "acl"})
_NOT_BUILT: Final = _BARE | {
    "accelerate", "analytics", "attributes", "encryption", "intelligent-tiering", "inventory", "legal-hold", "logging", "metrics",
    "notification", "object-lock", "ownershipControls", "policyStatus", "publicAccessBlock", "rename", "renameObject", "replication",
    "requestPayment", "restore", "retention", "select", "session", "tagging", "torrent", "website",
}  # fmt: skip


def names_of(tail: str) -> tuple[str, str]:
    """Bucket and key that a path names behind `/s3/`; both may be empty."""
    bucket_name, _, key = tail.removeprefix("/").partition("/")
    return bucket_name, key


def s3(node: Node, request: Request, tail: str) -> Result:
    """Answer a call; `tail` is the path behind `/s3/`."""
    bucket_name, key = names_of(tail)
    if not bucket_name:
        if request.method == "GET":
            return buckets.list_buckets(node)
        raise _no_method(request, "the endpoint itself")
    if request.query:
        _check_text(request)
    wanted = request.params.keys() & _NOT_BUILT if request.query else ()
    if wanted:
        if not key and request.method == "GET" and wanted & _BARE:
            buckets.find_bucket(node, bucket_name)
            return Reply(501)
        raise not_built(f"{request.method} ?{min(wanted)}")
    if not key and request.method == "PUT" and "versioning" not in request.params:
        return buckets.create(node, request, bucket_name)
    answer = _on_object if key else _on_bucket
    try:
        return answer(node, request, buckets.find_bucket(node, bucket_name), key)
    except UnknownBucket:  # it was evicted, or its cluster is attached by another name now
        return registering(node, lambda: answer(node, request, buckets.find_bucket(node, bucket_name), key))


def _check_text(request: Request) -> None:
    """Names of S3 are UTF-8, and so is what is asked of them."""
    try:
        "".join(request.params.values()).encode()
    except UnicodeEncodeError:
        raise invalid("a parameter of the query is not UTF-8") from None


def _on_bucket(node: Node, request: Request, bucket: Bucket, _: str) -> Result:
    method, params = request.method, request.params
    if method == "GET":
        if "uploads" in params:
            return multipart.list_uploads(node, request, bucket)
        if "versioning" in params:
            return buckets.versioning(node, bucket)
        if "location" in params:
            return xml_reply("LocationConstraint")
        return listing.list_objects(node, request, bucket)
    if method == "HEAD":
        node.check_access(bucket, access.HEAD_BUCKET, "HEAD-BUCKET")
        return Reply(200)
    if method == "PUT":
        return buckets.set_versioning(node, request, bucket)
    if method == "DELETE":
        return buckets.destroy(node, bucket)
    if method == "POST" and "delete" in params:
        return buckets.delete_objects(node, request, bucket)
    if method == "POST":
        raise not_built("an upload by a form")
    raise _no_method(request, "a bucket")


def _on_object(node: Node, request: Request, bucket: Bucket, key: str) -> Result:
    method, params = request.method, request.params
    name = objects.key_of(node, request, bucket, key)
    if not request.query:
        in_parts = False
    else:
        in_parts = "uploadId" in params
        if params.get("versionId", "null") != "null":
            raise not_built("a version of an object")
        if "partNumber" in params and not in_parts:
            raise not_built("a part of an object")
    if method == "GET":
        return (multipart.list_parts if in_parts else objects.get)(node, request, bucket, name)
    if method == "HEAD":
        return objects.head(node, request, bucket, name)
    if method == "PUT":
        is_copy = COPY_SOURCE in request.headers
        if in_parts:
            return (multipart.put_part_copy if is_copy else multipart.put_part)(node, request, bucket, name)
        return (objects.copy if is_copy else objects.put)(node, request, bucket, name)
    if method == "DELETE":
        if in_parts:
            return multipart.abort(node, request, bucket, name)
        return objects.delete(node, bucket, name)
    if method == "POST" and in_parts:
        return multipart.complete(node, request, bucket, name)
    if method == "POST" and "uploads" in params:
        return multipart.begin(node, request, bucket, name)
    raise _no_method(request, "an object")


def _no_method(request: Request, what: str) -> ApiError:
    return ApiError(405, f"{request.method} of {what} is not a call of S3", "MethodNotAllowed")
