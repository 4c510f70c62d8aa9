"""`/v1/health` and `/metrics` (protocol/00 14). A node that answers at all is ready."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from aistore.http1.message import Reply
from aistore.server.about import node_state, uptime_headers
from aistore.server.api.messages import ALL_METHODS, json_reply, method_refused
from aistore.server.exposition import CONTENT_TYPE, merge
from aistore.server.metrics import node_metrics, targets_up
from aistore.wire import params as param
from aistore.wire.errors import ApiError
from aistore.wire.values import parse_bool

if TYPE_CHECKING:
    from aistore.http1.server import Request, Result
    from aistore.server.node import Node

__all__ = ["health", "metrics"]

_SCRAPE_SECONDS: Final = 5.0  # Prometheus waits for ten


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


def metrics(node: Node, request: Request) -> Result:
    """The metrics of this process in Prometheus' text format; a gateway's with those of its targets, which `node_id` tells apart."""
    if request.method not in ("GET", "HEAD"):
        return method_refused(request, "GET, HEAD")
    if node.redirects:
        return _metrics_of_all(node)
    return _metrics_reply(node_metrics(node))


async def _metrics_of_all(node: Node) -> Reply:
    asked = await asyncio.gather(*(_scraped(node, url) for url in node.smap.targets.values()))
    texts = [cast("bytes", answer.body).decode() for answer in asked if answer.status == 200]
    return _metrics_reply(merge([node_metrics(node), targets_up(node, len(texts)), *texts]))


async def _scraped(node: Node, url: str) -> Reply:
    """A target's metrics; one that does not answer in time keeps nobody from those of the others."""
    try:
        return await asyncio.wait_for(node.ask(url, "GET", "/metrics"), _SCRAPE_SECONDS)
    except asyncio.TimeoutError:
        return Reply(504)


def _metrics_reply(text: str) -> Reply:
    return Reply(200, [("Content-Type", CONTENT_TYPE)], text.encode())
