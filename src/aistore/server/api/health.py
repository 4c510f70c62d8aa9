"""`/v1/health` and `/metrics` (protocol/00 14). A node that answers at all is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.http1.message import Reply
from aistore.server.about import node_state, uptime_headers
from aistore.server.api.messages import ALL_METHODS, json_reply, method_refused
from aistore.wire import params as param
from aistore.wire.errors import ApiError
from aistore.wire.values import parse_bool

if TYPE_CHECKING:
    from aistore.http1.server import Request
    from aistore.server.node import Node

__all__ = ["health", "metrics"]


def health(node: Node, request: Request) -> Reply:
    """Liveness, readiness, or the node-state document."""
    if request.method not in ALL_METHODS:
        return method_refused(request, "")
    headers = uptime_headers(node)
    params = request.params
    state, of_primary = (
        parse_bool(params.get(param.NODE_STATE, "")),
        parse_bool(params.get(param.NODE_STATE_OF_PRIMARY, "")),
    )
    if of_primary and (state or parse_bool(params.get("apr", ""))):
        why = '"cii-apr" implies ("cii" + "apr"); the explicit form must not be combined'
        raise ApiError(400, f"invalid query: {why}", headers=dict(headers))
    if parse_bool(params.get(param.PRIMARY_READY, "")) and (state or of_primary):
        why = 'param.PRIMARY_READY cannot be combined with "cii" or "cii-apr"'
        raise ApiError(400, f"invalid query: {why}", headers=dict(headers))
    if request.method == "GET" and (state or (of_primary and node.is_gateway)):
        reply = json_reply(request, node_state(node))
        return Reply(200, [*headers, *reply.headers], reply.body)
    return Reply(200, headers)


def metrics(node: Node, request: Request) -> Reply:
    """The counters as Prometheus text."""
    if request.method not in ("GET", "HEAD"):
        return method_refused(request, "GET, HEAD")
    body = node.stats.prometheus("target" if node.target_id else "proxy", node.target_id or node.gateway_id)
    return Reply(
        200, [("Content-Type", "text/plain; version=0.0.4; charset=utf-8")], body if request.method == "GET" else b""
    )
