"""Calls on `/v1/buckets` (protocol/10): which one it is, life and listing of buckets."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from aistore.http1.message import Reply
from aistore.server.api import bucket_jobs, inventory
from aistore.server.api.archive_job import archive
from aistore.server.api.bucket_props import reset_props, set_props
from aistore.server.api.listing import list_objects
from aistore.server.api.messages import (
    OK,
    bucket_identity,
    bucket_name,
    json_reply,
    method_refused,
    read_action,
    read_message,
    refuse_bad_query,
)
from aistore.server.api.multiobj import delete_objects
from aistore.server.api.registering import passing_bucket, registering
from aistore.server.api.remote import buckets as remote_buckets
from aistore.server.api.remote import jobs as remote_jobs
from aistore.server.api.remote.buckets import list_elsewhere
from aistore.server.api.summaries import info, summarize
from aistore.server.backends.errors import bucket_missing
from aistore.server.backends.registry import UnknownBucket
from aistore.server.store.errors import BucketExists
from aistore.wire import access, actions, headers, listing
from aistore.wire import params as param
from aistore.wire.errors import (
    ApiError,
    bucket_exists,
    invalid_action,
    not_implemented,
    unsupported,
    url_too_short,
)
from aistore.wire.headers import BUCKET_PROPS
from aistore.wire.messages import ActionMessage, BadMessage, parse_action, value_refused
from aistore.wire.names import BACKENDS, BucketId, parse_namespace, parse_provider
from aistore.wire.props import backend_of, change_props, encode_wire, pack_native
from aistore.wire.snaps import NamespaceRef, PrintedBucket
from aistore.wire.values import parse_bool

if TYPE_CHECKING:
    from aistore.http1.server import Answer, Request
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["buckets", "create_native", "message_of_get"]

# PUT is served although the reference does not list it.
_ALLOW: Final = "DELETE, GET, HEAD, PATCH, POST"
# Presence filters that ask for nothing outside the cluster.
_PRESENT: Final = frozenset({"2", "3", "4"})


async def buckets(node: Node, request: Request, tail: str) -> Answer:
    """A call on buckets; `tail` is the path behind `/v1/buckets`."""
    return await registering(node, lambda: _buckets(node, request, tail))


async def _buckets(node: Node, request: Request, tail: str) -> Reply:
    method = request.method
    if method == "GET":
        return await _get(node, request, tail)
    if method == "HEAD":
        return await _head(node, request, tail)
    if method not in ("POST", "PUT", "PATCH", "DELETE"):
        return method_refused(request, _ALLOW)
    if node.is_target:
        raise ApiError(400, f"{node.name}: {method}(bucket) requires proxy mediation")
    name = bucket_name(request, tail)
    if method == "POST":
        if "/" in name:
            raise ApiError(400, f'invalid request URI "{request.path}"')
        return await _post(node, request, name)
    if method == "PUT":
        return await _put(node, request, name.partition("/")[0])
    # The rest of the path counts as part of the name, and is refused with it.
    return await (_patch if method == "PATCH" else _delete)(node, request, name.removesuffix("/"))


# -- GET --


def message_of_get(node: Node, request: Request, body: bytes, name: str) -> ActionMessage:
    """The message of a GET; browsers send none."""
    if not body and not request.headers.get("content-type", "").startswith(headers.JSON):
        return ActionMessage(actions.LIST, value={} if name else None)
    return parse_action(body, "GET", node.gateway_name)


async def _get(node: Node, request: Request, tail: str) -> Reply:
    name = tail.removeprefix("/").partition("/")[0]
    message = message_of_get(node, request, await read_message(request), name)
    action = message.action
    if action == actions.LIST:
        if message.value is None:
            return await _list_buckets(node, request, name, message)
        bucket = await _listed_bucket(node, request, bucket_name(request, name), message.value)
        return await list_objects(node, request, bucket, message.value)
    if action == actions.SHOW_INVENTORY:
        return await inventory.show(node, request, node.bucket(name, request) if name else None, message.name)
    if action == actions.SUMMARY:
        return await summarize(node, request, name, message.value)
    if action == actions.SUMMARY_SHARD:
        raise not_implemented(action, name or "buckets")
    raise invalid_action(action)


async def _listed_bucket(node: Node, request: Request, name: str, value: object) -> Bucket:
    """The bucket to list; the flags may say that it is not to be registered (protocol/10 17.1)."""
    flags = value.get("flags") if isinstance(value, dict) else None
    bits = int(flags) if isinstance(flags, str) and flags.isdecimal() and len(flags) < 20 else 0
    try:
        return node.bucket(name, request)
    except UnknownBucket as unknown:
        if bits & listing.BCK_PRESENT:
            raise bucket_missing(unknown.bucket) from None
        if not bits & listing.DONT_ADD_REMOTE:
            raise
        return await passing_bucket(node, unknown.bucket)


async def _list_buckets(node: Node, request: Request, name: str, message: ActionMessage) -> Reply:
    if name and name != message.name:
        sent = f"actm[list{f', name={message.name}' if message.name else ''}]"
        raise ApiError(400, f'bad list-buckets request: "{name}" vs "{message.name}" ({name}, {sent})')
    params = request.params
    provider = params.get("provider", "")
    only_present = params.get("presence", "") in _PRESENT
    if provider:
        provider = parse_provider(provider)
        if provider in BACKENDS and provider not in node.backends.clouds and not only_present:
            raise ApiError(
                400, f"{BACKENDS[provider]} backend is missing in the cluster configuration", "ErrMissingBackend"
            )
    uuid, namespace = parse_namespace(params.get("namespace", ""))
    known = [bucket.id for bucket in node.store.buckets()]
    if not only_present:
        known += await list_elsewhere(node, provider, uuid)
    uuid = node.backends.resolve(BucketId("ais", uuid, "", "")).uuid
    found = [
        PrintedBucket(one.name, one.provider, NamespaceRef(one.uuid, one.namespace))
        for one in sorted(set(known))
        if (not provider or one.provider == provider)
        and (one.uuid if uuid == "@" else not uuid or one.uuid == uuid)
        and (not namespace or one.namespace == namespace)
        and (not message.name or one.name == message.name)
        and (not one.name.startswith(".") or parse_bool(params.get(param.SYSTEM, "")))
    ]
    return json_reply(request, found)


# -- HEAD --


async def _head(node: Node, request: Request, tail: str) -> Reply:
    name, slash, prefix = bucket_name(request, tail).partition("/")
    refuse_bad_query(request)
    params = request.params
    wants_info = bool(params.get(param.BSUMM_REMOTE))
    if prefix and not wants_info:
        what = f"expecting just the bucket name, got '{name}' and '{prefix}'"
        raise ApiError(400, f"invalid URL '{request.path}': {what}")
    if slash and not prefix:
        raise url_too_short(request.path.lstrip("/"), 4, 3)
    presence = params.get("presence", "")
    try:
        bucket = node.bucket(name, request)
    except UnknownBucket as unknown:
        if presence in _PRESENT:
            raise bucket_missing(unknown.bucket) from None
        if not parse_bool(params.get(param.DONT_ADD_REMOTE_BCK_MD, "")):
            raise
        bucket = await passing_bucket(node, unknown.bucket)
    if presence and not presence.removeprefix("-").isdecimal():
        why = f"parse 'flt-presence': strconv.Atoi: parsing \"{presence[:64]}\": invalid syntax"
        raise ApiError(400, f"{node.gateway_name}: {why}")
    if wants_info:
        return info(node, request, bucket, prefix)
    return Reply(200, [(BUCKET_PROPS, encode_wire(node.props(bucket)).decode())])


# -- POST --


async def _post(node: Node, request: Request, name: str) -> Reply:
    message = await read_action(node, request)
    if message.action == actions.CREATE_BUCKET:
        identity = bucket_identity(name, request)
        if identity.is_remote:
            return await remote_buckets.create(node, request, identity, message.value)
        return await create_native(node, identity, message.value)
    return await bucket_jobs.start(node, request, node.bucket(name, request), message)


async def create_native(node: Node, identity: BucketId, value: object) -> Reply:
    """Create a native bucket with the properties that `value` gives. Raises `ApiError` 400, 409."""
    if node.store.bucket(identity) is not None:
        raise bucket_exists(identity.cname)
    defaults = node.control.config.current.bucket_props()
    try:
        props = change_props(defaults, value, targets=len(node.smap.targets))
    except BadMessage as error:
        raise value_refused(value, actions.CREATE_BUCKET, node.gateway_name, str(error)) from None
    if (behind := backend_of(props)) is not None:
        await node.backends.with_extra(behind, props.extra).check_bucket(behind)
    try:
        await node.store.create_bucket(identity, partial(pack_native, props))
    except BucketExists:
        raise bucket_exists(identity.cname) from None
    return OK


# -- PUT, PATCH, DELETE --


async def _put(node: Node, request: Request, name: str) -> Reply:
    message = await read_action(node, request)
    bucket = node.bucket(name, request)
    if message.action != actions.ARCHIVE:
        raise invalid_action(message.action)
    return await archive(node, bucket, message.value)


async def _patch(node: Node, request: Request, name: str) -> Reply:
    message = await read_action(node, request)
    bucket = node.bucket(name, request)
    if message.action == actions.SET_PROPS:
        return await set_props(node, bucket, message.value)
    if message.action == actions.RESET_PROPS:
        return await reset_props(node, bucket)
    raise invalid_action(message.action, f" (expected one of [{actions.SET_PROPS} {actions.RESET_PROPS}])")


async def _delete(node: Node, request: Request, name: str) -> Reply:
    message = await read_action(node, request)
    action = message.action
    identity = bucket_identity(name, request)
    if action == actions.DESTROY_BUCKET and identity.provider in BACKENDS:
        error = unsupported("destroy", f"cloud bucket {identity.cname}")
        raise ApiError(405, error.message, error.tcode)
    if action == actions.EVICT_BUCKET:
        return await remote_buckets.evict(node, identity, keep=parse_bool(request.params.get(param.KEEP_BCK_MD, "")))
    bucket = node.bucket(name, request)
    is_remote = bucket.remote is not None
    if action == actions.DESTROY_BUCKET:
        node.check_access(bucket, access.DESTROY_BUCKET, "DESTROY-BUCKET")
        if bucket.id.is_remote:
            return await remote_buckets.destroy(node, bucket)
        if is_remote:
            await inventory.forget(node, bucket)
        await node.store.destroy_bucket(identity)
        return OK
    if action == actions.DELETE_OBJECTS:
        return await (remote_jobs.delete_objects if is_remote else delete_objects)(node, bucket, message.value)
    if action == actions.EVICT_OBJECTS:
        return await remote_jobs.evict_objects(node, bucket, message.value)
    if action == actions.DESTROY_INVENTORY:
        return await inventory.destroy(node, bucket, message.name)
    raise invalid_action(action)
