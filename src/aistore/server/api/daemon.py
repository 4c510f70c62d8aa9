"""Calls on one node: `/v1/daemon` and, through the gateway, `/v1/reverse/daemon` (protocol/00 13)."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from aistore.http1.message import Reply
from aistore.server import logs
from aistore.server.about import (
    VERSION,
    bucket_metadata,
    capacity,
    mountpaths,
    node_config,
    node_entry,
    node_stats,
    node_status,
    system,
)
from aistore.server.api.certificate import load_certificate, tls_of
from aistore.server.api.cluster import configure
from aistore.server.api.messages import OK, json_reply, method_refused, read_message, text_reply
from aistore.server.api.remote.buckets import attached_clusters
from aistore.wire import actions, headers, whats
from aistore.wire import params as param
from aistore.wire.errors import ApiError, invalid_request_uri, not_implemented, url_too_short
from aistore.wire.headers import TEXT
from aistore.wire.values import parse_bool

if TYPE_CHECKING:
    from aistore.http1.server import Request
    from aistore.server.about import SpokenRole
    from aistore.server.node import Node

__all__ = ["daemon", "reverse"]

_NODE_ID: Final = headers.NODE_ID.lower()
_ALLOW: Final = "GET, POST, PUT"
_ALLOW_REVERSE: Final = "DELETE, GET, POST, PUT"


async def daemon(node: Node, request: Request, tail: str) -> Reply:
    """A call on this node, which speaks as gateway unless it is a target only."""
    role: SpokenRole = "target" if node.is_target else "proxy"
    return await _answer(node, role, request, tail)


async def _answer(node: Node, role: SpokenRole, request: Request, tail: str) -> Reply:
    method = request.method
    if method == "GET":
        return await _tell(node, role, request)
    if method not in ("PUT", "POST", "DELETE"):
        return method_refused(request, _ALLOW)
    if method == "PUT" and tail == actions.LOAD_CERTIFICATE and not (node.is_target and request.peer):
        await load_certificate(node)  # a target is told by its gateway, through a socket without addresses
        return OK
    if node.is_target:
        raise ApiError(403, f"{node.name}: {method} {request.path} is read-only on PUBLIC")
    if method == "PUT" and (not tail or tail == actions.SET_CONFIG):
        return await configure(node, request, tail)
    raise not_implemented(method, request.path.lstrip("/"))


async def _tell(node: Node, role: SpokenRole, request: Request) -> Reply:
    what = request.params.get(param.WHAT, "")
    if what == whats.LOG:
        return await _log(node, request)
    if what == whats.SOFTWARE_VERSION:
        return text_reply(VERSION)
    if what == whats.TLS_CERTIFICATE:
        return json_reply(request, tls_of(node).properties())
    if what == whats.REMOTE and role == "target":
        return json_reply(request, await attached_clusters(node))
    if node.is_target:
        node.control.config.reload()
    document = _document(node, role, what)
    if document is None:
        raise ApiError(400, f"invalid '/v1/daemon' request: unrecognized 'what={what}' query")
    return json_reply(request, document)


def _document(node: Node, role: SpokenRole, what: str) -> object:
    """The JSON document of a query, None for one that this role does not know."""
    if what == whats.SMAP:
        return node.smap.document()
    if what == whats.BMD:
        return bucket_metadata(node)
    if what == whats.CONFIG:
        return node_config(node)
    if what == whats.SNODE:
        return node_entry(node, role)
    if what == whats.NODE_STATUS:
        return node_status(node, role)
    if what == whats.NODE_STATS:
        return node_stats(node, role)
    if what == whats.METRICS:
        return node.stats.kinds()
    if what == whats.SYSINFO:
        return system(node, role)
    if role == "target":
        if what == whats.MOUNTPATHS:
            return mountpaths(node)
        if what == whats.DISK:
            return {"disk_stats": {}, "capacity": capacity(node, role)}
    return None


async def _log(node: Node, request: Request) -> Reply:
    params = request.params
    log = logs.log_of_severity(node.settings.log_path, params.get(param.SEVERITY, ""))
    loop = asyncio.get_running_loop()
    if parse_bool(params.get(param.ALL, "")):
        body = await loop.run_in_executor(None, logs.archive_logs, log)
        return Reply(200, [("Content-Type", logs.ARCHIVE_TYPE)], body)
    text = params.get(param.OFFSET, "") or "0"
    if not (text.isascii() and text.isdigit()) or len(text) > 19:
        raise ApiError(400, f'invalid log offset "{text[:64]}"')
    body = await loop.run_in_executor(None, partial(logs.read_log, log, int(text)))
    return Reply(200, [("Content-Type", TEXT)], body)


async def reverse(node: Node, request: Request, tail: str) -> Reply:
    """A daemon call executed on the node that `Ais-Node-Id` names."""
    resource, _, rest = tail.partition("/")
    if not resource:
        raise url_too_short(request.path.lstrip("/").rstrip("/"), 3, 2)
    if resource != "daemon":
        raise invalid_request_uri(request.method, request.path, request.peer)
    if request.method not in ("GET", "PUT", "POST", "DELETE"):
        return method_refused(request, _ALLOW_REVERSE)
    request.path = f"/v1/{tail}"  # the call that is executed, which its errors show
    wanted = request.headers.get(_NODE_ID, "")
    if not wanted:
        raise ApiError(400, "missing node ID")
    if wanted == node.gateway_id:
        return await _answer(node, "proxy", request, rest)
    if wanted == node.target_id:
        return await _answer(node, "target", request, rest)
    url = node.smap.targets.get(wanted)
    if url is None:
        what = f"cannot forward request to node node {wanted} not present in Smap v{node.smap.version}"
        raise ApiError(404, f"{node.gateway_name}: {what}", "errNodeNotFound")
    path = request.raw_path.replace("/v1/reverse/", "/v1/", 1)
    target = f"{path}?{request.query}" if request.query else path
    return await node.ask(url, request.method, target, await read_message(request), on_behalf=request)
