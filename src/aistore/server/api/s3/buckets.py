"""Buckets over S3: found by their names alone (protocol/00 21)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aistore.http1.message import Reply
from aistore.server.api.bucket_props import set_props
from aistore.server.api.remote import buckets as remote_buckets
from aistore.server.api.remote import writing as remote_writing
from aistore.server.api.s3.body import expect_checked
from aistore.server.api.s3.errors import error_element
from aistore.server.api.s3.headers import iso_time
from aistore.server.api.s3.xml import element, leaf, malformed, read_document, xml_reply
from aistore.server.backends.registry import UnknownBucket
from aistore.wire import access
from aistore.wire.errors import ApiError
from aistore.wire.names import BucketId, check_object_name

if TYPE_CHECKING:
    from aistore.http1.server import Request
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = [
    "create",
    "delete_objects",
    "destroy",
    "find_bucket",
    "identity_of",
    "list_buckets",
    "set_versioning",
    "versioning",
]

_FIND: Final = "SELECT provider, uuid, namespace FROM bucket WHERE name = ?"
_DELETED_AT_ONCE: Final = 1000
_REMOTE_AT_ONCE: Final = 16
_CONFIGURATION_MAX: Final = 64 << 10


def find_bucket(node: Node, name: str) -> Bucket:
    """The bucket of this name, whatever its provider and namespace. Raises `ApiError` 404: also where there are several."""
    found = _of_name(node, name)
    if not found:
        raise ApiError(404, f'bucket "{name}" does not exist', "NoSuchBucket")
    if len(found) > 1:
        those = ", ".join(sorted(one.cname for one in found))
        raise ApiError(404, f'bucket name "{name}" is ambiguous: it may be any of {those}', "AmbiguousBucketName")
    return node.find(found[0])


def identity_of(node: Node, name: str) -> BucketId:
    """The same without its properties, also for a remote bucket that was evicted. Raises `ApiError` 404."""
    try:
        return find_bucket(node, name).id
    except UnknownBucket as unknown:
        return unknown.bucket


def _of_name(node: Node, name: str) -> list[BucketId]:
    rows = node.store.catalog.read(_FIND, (name,)).fetchall()
    return [BucketId(provider, uuid, namespace, name) for provider, uuid, namespace in rows]


def list_buckets(node: Node) -> Reply:
    """All buckets that the cluster knows; of those with the same name one, since a name is all that S3 has."""
    created: dict[str, float] = {}
    for bucket in node.store.buckets():
        if not bucket.id.name.startswith("."):
            created.setdefault(bucket.id.name, int(node.props(bucket).created) / 1e9)
    listed = (
        element("Bucket", leaf("Name", name), leaf("CreationDate", iso_time(created[name]))) for name in sorted(created)
    )
    owner = element("Owner", leaf("ID", "1"), leaf("DisplayName", "ListAllMyBucketsOutput"))
    return xml_reply("ListAllMyBucketsResult", owner, element("Buckets", *listed))


async def create(node: Node, request: Request, name: str) -> Reply:
    """Create a native bucket."""
    from aistore.server.api.buckets import create_native

    await request.read(_CONFIGURATION_MAX)  # a region: there is one
    identity = BucketId("ais", "", "", name)
    try:
        identity.validate()
    except ApiError as error:
        raise ApiError(400, error.message, "InvalidBucketName") from None
    if used := _of_name(node, name):
        what = f'cannot create bucket "{name}" via S3 API: name already in use by {used[0].cname}'
        raise ApiError(409, what, "BucketAlreadyExists")
    await create_native(node, identity, None)
    return Reply(200)


async def destroy(node: Node, bucket: Bucket) -> Reply:
    """Destroy a bucket with all that is in it, as the reference does."""
    node.check_access(bucket, access.DESTROY_BUCKET, "DESTROY-BUCKET")
    if bucket.id.is_remote:
        return await remote_buckets.destroy(node, bucket)
    await node.store.destroy_bucket(bucket.id)
    return Reply(200)


# -- versioning ----------------------------------------------------------------------------------------------------


def versioning(node: Node, bucket: Bucket) -> Reply:
    """Whether versions are counted."""
    enabled = node.props(bucket).versioning.enabled
    return xml_reply("VersioningConfiguration", leaf("Status", "Enabled" if enabled else "Suspended"))


async def set_versioning(node: Node, request: Request, bucket: Bucket) -> Reply:
    """Have versions counted, or not."""
    node.check_access(bucket, access.PATCH, "PATCH")
    expect_checked(request)
    status = (await read_document(request, "VersioningConfiguration")).value("Status")
    if status not in ("Enabled", "Suspended"):
        raise malformed(f"the versioning status is {status!r}, not Enabled or Suspended")
    return await set_props(node, bucket, {"versioning": {"enabled": status == "Enabled"}})


# -- many objects --------------------------------------------------------------------------------------------------


async def delete_objects(node: Node, request: Request, bucket: Bucket) -> Reply:
    """Delete up to 1,000 objects; one that is not there counts as deleted."""
    node.check_access(bucket, access.DELETE_OBJECT, "DELETE-OBJECT")
    expect_checked(request)
    asked = await read_document(request, "Delete")
    keys = [one.value("Key") or "" for one in asked.all("Object")]
    if not 0 < len(keys) <= _DELETED_AT_ONCE:
        raise malformed(f"{len(keys)} objects are named, 1 to {_DELETED_AT_ONCE} can be deleted at once")
    failed: dict[str, ApiError] = {}
    names: dict[str, str] = {}
    for key in keys:
        try:
            names[key] = check_object_name(key)
        except ApiError as error:
            failed[key] = error
    if bucket.remote is not None:
        failed.update(await _delete_remote(node, bucket, names))
    else:
        for _ in await node.store.delete(bucket, list(names.values())):
            node.stats.deleted()
    quiet = (asked.value("Quiet") or "").strip().lower() == "true"
    done = () if quiet else (element("Deleted", leaf("Key", key)) for key in keys if key not in failed)
    return xml_reply("DeleteResult", *done, *(error_element(key, error) for key, error in failed.items()))


async def _delete_remote(node: Node, bucket: Bucket, names: dict[str, str]) -> dict[str, ApiError]:
    """Delete in the backend and in the cache; the errors by key."""
    failed: dict[str, ApiError] = {}
    at_once = asyncio.Semaphore(_REMOTE_AT_ONCE)

    async def drop(key: str, name: str) -> None:
        async with at_once:
            try:
                await remote_writing.delete(node, bucket, name)
            except ApiError as error:
                if error.status != 404:
                    failed[key] = error

    await asyncio.gather(*(drop(key, name) for key, name in names.items()))
    return failed
