"""Calls on the cluster: `/v1/cluster` (protocol/00 15)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

import msgspec

from aistore.server import logs
from aistore.server.about import bucket_metadata, mountpaths, node_entry, node_stats, system
from aistore.server.api import jobs
from aistore.server.api.certificate import load_certificates
from aistore.server.api.messages import OK, json_reply, method_refused, read_action, text_reply
from aistore.server.api.registering import registering
from aistore.server.api.remote.buckets import attach_or_detach, attached_clusters
from aistore.wire import actions, whats
from aistore.wire import params as param
from aistore.wire.errors import ApiError, invalid_action, not_implemented
from aistore.wire.messages import BadMessage, value_refused
from aistore.wire.values import parse_bool

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.http1.message import Reply
    from aistore.http1.server import Request
    from aistore.server.node import Node

__all__ = ["cluster", "configure"]

_ALLOW: Final = "DELETE, GET, POST, PUT"
_MEMBERSHIP: Final = frozenset(
    {
        actions.START_MAINTENANCE,
        actions.STOP_MAINTENANCE,
        actions.DECOMMISSION_NODE,
        actions.SHUTDOWN_NODE,
        actions.REMOVE_UNSAFE,
    }
)


async def cluster(node: Node, request: Request, tail: str) -> Reply:
    """A query or an action of the whole cluster."""
    method = request.method
    if method == "GET":
        return await _tell(node, request)
    if method == "PUT":
        return await _act(node, request, tail)
    if method == "POST":
        raise not_implemented("change", "membership of a cluster of one machine")
    if method == "DELETE":
        raise ApiError(403, "not expecting DELETE /v1/cluster via pub-net")
    return method_refused(request, _ALLOW)


# -- queries --


async def _tell(node: Node, request: Request) -> Reply:
    what = request.params.get(param.WHAT, "")
    if what in jobs.QUERIES:
        return await jobs.query(node, request, what)
    if what == whats.TARGET_IPS:
        hosts = [urlsplit(url).hostname or "" for _, url in sorted(node.smap.targets.items()) for _ in range(3)]
        return text_reply(",".join(hosts))
    if what in (whats.NODE_STATS, whats.SYSINFO, whats.MOUNTPATHS):
        return json_reply(request, await _gather(node, request, what))
    if what == whats.REMOTE:
        return json_reply(request, await attached_clusters(node))
    documents: dict[str, Callable[[], object]] = {
        whats.SMAP: node.smap.document,
        whats.BMD: lambda: bucket_metadata(node),
        whats.SNODE: lambda: node_entry(node, "proxy"),
        whats.CLUSTER_CONFIG: lambda: node.control.config.document(node.smap.uuid),
        whats.BACKENDS: lambda: node.backends.clouds,
    }
    if what not in documents:
        raise ApiError(400, f"unexpected query [what={what}]")
    return json_reply(request, documents[what]())


async def _gather(node: Node, request: Request, what: str) -> dict[str, object]:
    """What every target says, by id."""
    answers: dict[str, object] = {}
    for target, url in sorted(node.smap.targets.items()):
        if target == node.target_id:
            answers[target] = {
                whats.NODE_STATS: lambda: node_stats(node, "target"),
                whats.SYSINFO: lambda: system(node, "target"),
                whats.MOUNTPATHS: lambda: mountpaths(node),
            }[what]()
            continue
        reply = await node.ask(url, "GET", f"/v1/daemon?{param.WHAT}={what}", on_behalf=request)
        if reply.status == 200 and isinstance(reply.body, bytes):
            answers[target] = msgspec.json.decode(reply.body)
    if what == whats.MOUNTPATHS:
        return {"targets": answers}
    # The answering gateway itself is left out of `sysinfo` (protocol/00 15.1).
    return {"proxy": node_stats(node, "proxy") if what == whats.NODE_STATS else {}, "target": answers}


# -- actions --


async def _act(node: Node, request: Request, tail: str) -> Reply:
    if tail in ("attach", "detach"):
        return await attach_or_detach(node, request, tail)
    action, _, one = tail.partition("/")
    if action == actions.LOAD_CERTIFICATE:
        await load_certificates(node, one)
        return OK
    if tail and tail != actions.SET_CONFIG:
        raise not_implemented("change", f"the cluster by PUT /v1/cluster/{tail.partition('/')[0]}")
    return await configure(node, request, tail)


async def configure(node: Node, request: Request, tail: str) -> Reply:
    """An action message of PUT on the cluster or its gateway, or `set-config` by query."""
    config = node.control.config
    if tail:
        params = request.params
        changes = {name: text for name, text in params.items() if name != param.TRANSIENT}
        await _set_config(node, config.from_query(changes), transient=parse_bool(params.get(param.TRANSIENT, "")))
        return OK
    message = await read_action(node, request)
    action = message.action
    if action == actions.START:
        return cast("Reply", await registering(node, lambda: jobs.start(node, request, message)))
    if action == actions.STOP:
        return jobs.stop(node, request, message)
    if action == actions.SET_CONFIG:
        await _set_config(node, message.value, transient=parse_bool(request.params.get(param.TRANSIENT, "")))
    elif action == actions.RESET_CONFIG:
        config.reset()
    elif action == actions.ROTATE_LOGS:
        logs.rotate()
    elif action == actions.RESET_STATS:
        node.stats.reset(errors_only=message.value is True)
    elif action == actions.CLEAR_CACHE:
        if message.name:
            raise not_implemented(action, message.name)
        node.store.clear_cache()
    elif action == actions.RELOAD_CREDENTIALS:
        raise not_implemented("reload", "credentials of cloud backends")
    elif action in _MEMBERSHIP:
        _refuse_membership(node, action, message.value)
    elif action in (actions.SHUTDOWN, actions.DECOMMISSION):
        raise not_implemented(action, "the server (end its process instead: ais stop)")
    else:
        raise invalid_action(action)
    return OK


async def _set_config(node: Node, value: object, *, transient: bool) -> None:
    try:
        await node.control.config.set(value, transient=transient)
    except BadMessage as error:
        raise value_refused(value, actions.SET_CONFIG, node.gateway_name, str(error)) from None


def _refuse_membership(node: Node, action: str, value: object) -> None:
    named = value.get("sid", "") if isinstance(value, dict) else ""
    if named and named != node.gateway_id and not node.smap.has_target(named):
        what = f"{action} node {named} not present in Smap v{node.smap.version}"
        raise ApiError(404, f"{node.gateway_name}: {what}", "errNodeNotFound")
    raise not_implemented(action, "nodes of a cluster of one machine")
