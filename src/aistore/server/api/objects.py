"""Calls on `/v1/objects/<bucket>/<object>` (protocol/20): which one it is, and the short ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.http1.message import Pending, Reply
from aistore.server.api.append import url_of_session
from aistore.server.api.archive_reading import archive_query
from aistore.server.api.etl_inline import is_inline, transform_inline
from aistore.server.api.messages import OK, refuse_bad_query
from aistore.server.api.multipart import abort_upload, begin_upload, complete_upload
from aistore.server.api.promoting import promote
from aistore.server.api.reading import get, head
from aistore.server.api.registering import registering
from aistore.server.api.remote import reading as remote_reading
from aistore.server.api.remote import writing as remote_writing
from aistore.server.api.remote.jobs import blob_download
from aistore.server.api.writing import put
from aistore.server.backends.base import system_pairs
from aistore.server.backends.registry import UnknownBucket
from aistore.server.store.copying import move_object
from aistore.server.store.errors import ObjectMissing
from aistore.wire import access, actions
from aistore.wire import custom as custom_metadata
from aistore.wire import params as param
from aistore.wire.errors import (
    ApiError,
    not_remote,
    object_gone,
    object_not_found,
    unmarshal_failed,
    url_too_short,
)
from aistore.wire.messages import parse_action, value_refused
from aistore.wire.names import check_object_name
from aistore.wire.values import parse_bool

if TYPE_CHECKING:
    from aistore.http1.server import Request, Result
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["ALLOW", "handle"]

ALLOW = "DELETE, GET, HEAD, POST, PUT"
_MESSAGE_MAX = 1 << 20


def handle(node: Node, request: Request, bucket_name: str, object_name: str) -> Result:
    """Answer a call on an object."""
    if request.method == "POST":
        return registering(node, lambda: _post(node, request, bucket_name, object_name))
    if request.query and param.OBJECT_TO in request.query:  # it names a second bucket
        return registering(node, lambda: _handle(node, request, bucket_name, object_name))
    try:
        return _handle(node, request, bucket_name, object_name)
    except UnknownBucket:
        return registering(node, lambda: _handle(node, request, bucket_name, object_name))


def _handle(node: Node, request: Request, bucket_name: str, object_name: str) -> Result:
    method = request.method
    if not bucket_name or not object_name:
        path = request.path.lstrip("/")
        raise url_too_short(path, 4, 3 if bucket_name else 2)
    params = request.params
    if params.bad is not None and not params.bad.startswith("provider="):
        refuse_bad_query(request)
    if params.count >= 100:
        raise ApiError(400, "dpq: exceeded maximum number of iterations (100)")
    bucket = node.bucket(bucket_name, request)
    name = check_object_name(object_name, directory=method == "HEAD")
    if param.ETL_NAME in request.query and node.settings.etl and is_inline(request):
        return transform_inline(node, request, bucket, name)
    if node.redirects:
        if "arch" in request.query:
            archive_query(request, name)  # what is wrong with it the gateway tells
        if method == "PUT" and params.get(param.APPEND_TYPE) and (session := params.get(param.APPEND_HANDLE)):
            return node.redirect_to(request, url_of_session(node, session))
        return node.redirect(request, bucket, name)
    if request.first_leg:
        return node.redirect_to(request, node.url)
    if bucket.remote is not None:
        return _handle_remote(node, request, bucket, name)
    if method == "GET":
        return get(node, request, bucket, name)
    if method == "PUT":
        return put(node, request, bucket, name)
    if method == "HEAD":
        return head(node, request, bucket, name)
    if method == "DELETE":
        return _delete(node, request, bucket, name)
    return _patch(node, request, bucket, name)


def _handle_remote(node: Node, request: Request, bucket: Bucket, name: str) -> Result:
    """A call on an object that lives elsewhere."""
    method = request.method
    if method == "GET":
        return remote_reading.get(node, request, bucket, name)
    if method == "PUT":
        return remote_writing.put(node, request, bucket, name)
    if method == "HEAD":
        return remote_reading.head(node, request, bucket, name)
    if method == "DELETE":
        return _delete_remote(node, request, bucket, name)
    return _patch(node, request, bucket, name)


async def _delete_remote(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    """Delete an object, or with the message `evict-listrange` only what is cached of it (protocol/20 9)."""
    action = _delete_action(node, request) if await request.read(_MESSAGE_MAX) else ""
    if action == actions.MULTIPART_ABORT:
        return await abort_upload(node, request, bucket, name)
    if action == actions.EVICT_OBJECTS:
        if await remote_writing.evict_one(node, bucket, name) is None:
            raise object_not_found(node.name, bucket.id.object_cname(name))
        return OK
    node.check_access(bucket, access.DELETE_OBJECT, "DELETE-OBJECT")
    return await remote_writing.delete(node, bucket, name)


def _delete(node: Node, request: Request, bucket: Bucket, name: str) -> Result:
    node.check_access(bucket, access.DELETE_OBJECT, "DELETE-OBJECT")
    if request.content is None:
        return _delete_with_message(node, request, bucket, name)
    if request.content and _check_delete_message(node, request, bucket) == actions.MULTIPART_ABORT:
        return abort_upload(node, request, bucket, name)
    return _delete_now(node, bucket, name)


async def _delete_with_message(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    await request.read(_MESSAGE_MAX)
    if _check_delete_message(node, request, bucket) == actions.MULTIPART_ABORT:
        return await abort_upload(node, request, bucket, name)
    pending = _delete_now(node, bucket, name)
    answer = pending.render(await pending.future)
    assert isinstance(answer, Reply)
    return answer


def _check_delete_message(node: Node, request: Request, bucket: Bucket) -> str:
    """The action that the message names."""
    action = _delete_action(node, request)
    if action == actions.EVICT_OBJECTS:
        raise not_remote(actions.EVICT_OBJECTS, bucket.id.cname)
    return action


def _delete_action(node: Node, request: Request) -> str:
    try:
        return parse_action(request.content, "DELETE", node.name).action
    except ApiError as error:
        raise unmarshal_failed(node.name, "[*ais.actMsgExt]", "DELETE", error.message.partition("err: ")[2]) from None


def _delete_now(node: Node, bucket: Bucket, name: str) -> Pending:
    def render(deleted: list[tuple[str, int]]) -> Reply:
        if not deleted:
            raise object_gone(bucket.id.object_cname(name))
        node.stats.deleted()
        return OK

    return Pending(node.store.delete(bucket, [name]), render)


async def _patch(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    """Set custom metadata (protocol/20 8)."""
    node.check_access(bucket, access.UPDATE_OBJECT, "UPDATE-OBJECT")
    message = parse_action(await request.read(_MESSAGE_MAX), "PATCH", node.name)
    pairs = _custom_pairs(node, message.value)
    custom_metadata.check(pairs, bucket.id.object_cname(name))
    replaces = parse_bool(request.params.get(param.SET_NEW_CUSTOM, ""))
    if replaces and bucket.remote is not None and (row := node.store.lookup(bucket, name)) is not None:
        pairs = {**system_pairs(row.custom), **pairs}  # without them the cached copy would count as the only one
    try:
        await node.store.set_custom(bucket, name, pairs, replace=replaces)
    except ObjectMissing:
        raise object_not_found(node.name, bucket.id.object_cname(name)) from None
    return OK


def _custom_pairs(node: Node, value: object) -> dict[str, str]:
    if value is None:
        return {}
    if isinstance(value, dict):
        pairs = {str(key): "" if item is None else item for key, item in value.items()}
        if all(isinstance(item, str) for item in pairs.values()):
            return pairs
    raise value_refused(value, "set-custom", node.name, "expect an object of strings")


def _part_of_name() -> ApiError:
    """The reference takes all that follows for the bucket's name (protocol/00 3)."""
    text = "bucket name is invalid: may only contain letters, numbers, dashes (-), underscores (_), and dots (.)"
    return ApiError(400, text)


async def _rename(node: Node, bucket: Bucket, name: str, new_name: str) -> Reply:
    """Give an object another name in its bucket (protocol/20 10)."""
    if bucket.remote is not None:
        text = f'invalid action "rename-obj": not supported for remote buckets ({bucket.id.cname})'
        raise ApiError(501, text, "ErrUnsupp")
    node.check_access(bucket, access.MOVE_OBJECT, "MOVE-OBJECT")
    new_name = check_object_name(new_name)
    if new_name == name:
        raise ApiError(400, f"cannot rename {bucket.id.object_cname(name)} to self, nothing to do")
    try:
        await move_object(node.store, bucket, name, new_name)
    except ObjectMissing:
        raise object_not_found(node.name, bucket.id.object_cname(name)) from None
    return OK


async def _post(node: Node, request: Request, bucket_name: str, object_name: str) -> Reply:
    if not bucket_name:
        raise url_too_short(request.path.lstrip("/"), 3, 2)
    message = parse_action(await request.read(_MESSAGE_MAX), "POST", node.gateway_name)
    action = message.action
    if action in (actions.PROMOTE, actions.BLOB_DOWNLOAD):
        if object_name:
            raise _part_of_name()
        bucket = node.bucket(bucket_name, request)
        if action == actions.BLOB_DOWNLOAD:
            return await blob_download(node, bucket, message)
        return await promote(node, bucket, message)
    if action not in (
        actions.RENAME_OBJECT,
        actions.CHECK_LOCK,
        actions.MULTIPART_UPLOAD,
        actions.MULTIPART_COMPLETE,
        actions.MULTIPART_ABORT,
    ):
        if object_name:
            raise _part_of_name()
        node.bucket(bucket_name, request)
        raise ApiError(400, f'invalid action "{action}"')
    if not object_name:
        raise url_too_short(request.path.lstrip("/"), 4, 3)
    bucket = node.bucket(bucket_name, request)
    name = check_object_name(object_name)
    if node.redirects:
        return node.redirect(request, bucket, name)
    if action == actions.CHECK_LOCK:
        if node.backends.under_way(bucket, name) is not None:
            return Reply(423)
        return Reply(202 if (bucket.bid, name) in node.reading else 200)
    if action == actions.RENAME_OBJECT:
        return await _rename(node, bucket, name, message.name)
    if action == actions.MULTIPART_UPLOAD:
        return await begin_upload(node, bucket, name)
    if action == actions.MULTIPART_COMPLETE:
        elsewhere = None if bucket.remote is None else remote_writing.Remote(node, bucket)
        return await complete_upload(node, request, bucket, name, message.value, elsewhere)
    return await abort_upload(node, request, bucket, name)
