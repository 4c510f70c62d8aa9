"""Calls on the cluster and its nodes (protocol/00 12-16)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aistore.calls.query import encode_query
from aistore.transport.request import Request
from aistore.transport.url import base_url
from aistore.wire import headers, params, whats

if TYPE_CHECKING:
    from aistore.calls.steps import Answer, Steps
    from aistore.sdk.enums import LogSeverity, NodeFilter
    from aistore.sdk.types import Smap

__all__ = ["cluster_logs", "is_ready", "node_log", "performance", "primary_url", "smap"]


def smap() -> Steps[Smap]:
    """The cluster map."""
    from aistore.sdk.types import Smap

    answer = yield Request("GET", "daemon", f"{params.WHAT}={whats.SMAP}")
    return Smap.model_validate_json(answer.content)


def primary_url() -> Steps[str]:
    """URL of the primary gateway."""
    found = yield from smap()
    node = found.proxy_si.public_net
    return node.direct_url if node is not None else ""


def is_ready() -> Steps[bool]:
    """Whether the primary gateway is up and the cluster started. Whatever goes wrong means "no": an unreachable one is not ready."""
    try:
        found = yield from smap()
        primary = found.proxy_si.public_net
        if primary is None:
            return False
        yield Request("GET", "health", f"{params.PRIMARY_READY}=true", base=base_url(primary.direct_url))
    except Exception:
        return False
    return True


def _on_node(node_id: str, query: str) -> Steps[Answer]:
    return (yield Request("GET", "reverse/daemon", query, ((headers.NODE_ID, node_id),)))


def performance() -> Steps[dict[str, object]]:
    """Statistics and state of every target, by its id."""
    found = yield from smap()
    told: dict[str, object] = {}
    for node_id in found.tmap:
        answer = yield from _on_node(node_id, f"{params.WHAT}={whats.NODE_STATUS}")
        told[node_id] = json.loads(answer.content)
    return told


def node_log(node_id: str, severity: LogSeverity | str, archive: bool = False) -> Steps[bytes]:
    """The log of a node as it is now, or with `archive` all its logs, as a TAR.GZ."""
    query = {params.WHAT: whats.LOG, params.SEVERITY: getattr(severity, "value", severity)}
    if archive:
        query[params.ALL] = "true"
    answer = yield from _on_node(node_id, encode_query(query))
    return answer.content


def cluster_logs(severity: LogSeverity | str, role: NodeFilter | str) -> Steps[dict[str, str]]:
    """Logs of all nodes of a role, by their ids."""
    from aistore.sdk.enums import NodeFilter

    wanted = NodeFilter(role)
    found = yield from smap()
    nodes: list[str] = []
    if wanted is not NodeFilter.PROXY:
        nodes += found.tmap
    if wanted is not NodeFilter.TARGET:
        nodes += found.pmap
    logs = {}
    for node_id in nodes:
        content = yield from node_log(node_id, severity)
        logs[node_id] = content.decode("utf-8", "replace")
    return logs
