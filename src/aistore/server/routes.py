"""From a path to its handler (protocol/00 2.2, 2.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from aistore.http1.message import Reply
from aistore.server.api import objects
from aistore.server.api.batch import ml
from aistore.server.api.buckets import buckets
from aistore.server.api.cluster import cluster
from aistore.server.api.daemon import daemon, reverse
from aistore.server.api.etl import etl
from aistore.server.api.health import health, metrics
from aistore.server.api.messages import method_refused
from aistore.server.api.s3.endpoint import s3
from aistore.server.api.sort import sort
from aistore.wire import headers
from aistore.wire import params as param
from aistore.wire.errors import ApiError, invalid_request_uri, not_implemented

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.http1.server import Request, Result
    from aistore.server.node import Node

__all__ = ["handle", "rewrite"]

_CALLER_ID: Final = headers.CALLER_ID.lower()
_OBJECTS: Final = "/v1/objects/"
_OBJECT_METHODS: Final = frozenset({"GET", "PUT", "HEAD", "DELETE", "POST", "PATCH"})
# What a target does only when a gateway sent the client (protocol/00 9.3).
_CHANGES: Final = frozenset({"PUT", "DELETE", "POST", "PATCH"})
# Resources of a gateway only, and of every node; the handler gets the path behind the resource.
_OF_GATEWAY: Final[dict[str, Callable[[Node, Request, str], Result]]] = {
    "cluster": cluster,
    "reverse": reverse,
    "sort": sort,
}
_OF_NODE: Final[dict[str, Callable[[Node, Request, str], Result]]] = {
    "buckets": buckets,
    "daemon": daemon,
    "etl": etl,
    "ml": ml,
}
# Easy URLs (protocol/00 2.5) and the provider that they name.
_EASY: Final = {"ais": "ais", "gs": "gcp", "az": "azure"}
_LATER: Final = frozenset({"download", "tokens"})  # tokens: without AuthN


def rewrite(node: Node, request: Request) -> None:
    """Give a request its native path: without a surplus slash, and for easy URLs. Raises `ApiError` 400."""
    path = request.path
    if path.startswith("//") and not path.startswith("///"):
        request.path = path = path[1:]  # some clients send one slash too many
        request.raw_path = request.raw_path[1:]
    version, _, rest = path[1:].partition("/")
    if version in _EASY:
        _easy(node, request, version, rest)


def handle(node: Node, request: Request) -> Result:
    """Answer one request, whose path is native."""
    if _CALLER_ID in request.headers:
        caller = request.headers[_CALLER_ID]
        raise ApiError(403, f"unexpected intra-cluster header on pub: 'Ais-Caller-Id={caller}'")
    path = request.path
    if path.startswith(_OBJECTS):
        return _object(node, request, path[len(_OBJECTS) :])
    version, _, rest = path[1:].partition("/")
    if version == "v1":
        return _resource(node, request, rest)
    if path == "/metrics":
        return metrics(node, request)
    if path == "/favicon.ico" or (path == "*" and request.method == "OPTIONS"):
        return Reply(200)
    if version == "s3" and node.is_gateway:
        return s3(node, request, rest)
    raise invalid_request_uri(request.method, path, request.peer)


def _resource(node: Node, request: Request, rest: str) -> Result:
    name, _, tail = rest.partition("/")
    if name == "health" and not tail:
        return health(node, request)
    handler = _OF_NODE.get(name) or (_OF_GATEWAY.get(name) if node.is_gateway else None)
    if handler is not None:
        return handler(node, request, tail)
    if name == "objects":
        return _object(node, request, tail)
    if name in _LATER:
        raise not_implemented("use", f"/v1/{name}")
    raise invalid_request_uri(request.method, request.path, request.peer)


def _object(node: Node, request: Request, tail: str) -> Result:
    if request.method not in _OBJECT_METHODS:
        return method_refused(request, objects.ALLOW)
    if node.is_target and request.method in _CHANGES:
        params = request.params
        if not (params.get(param.PROXY_ID) and params.get(param.REDIRECT_TIME)):
            raise ApiError(400, f"{node.name}: {request.method}(obj) is expected to be redirected")
    bucket, _, name = tail.partition("/")
    return objects.handle(node, request, bucket, name)


def _easy(node: Node, request: Request, scheme: str, rest: str) -> None:
    """Rewrite `/ais/bucket/object`: it is processed as if the native URL had come."""
    if not node.is_gateway:
        raise ApiError(400, 'trying to execute "easy URL" via AIS target? (hint: use proxy)')
    bucket, _, name = rest.partition("/")
    if request.method == "PUT" and not name:
        raise ApiError(400, 'missing destination object name in the "easy URL"')
    request.path = f"/v1/objects/{bucket}/{name}" if name else f"/v1/buckets/{bucket}" if bucket else "/v1/buckets"
    request.raw_path = quote(request.path)
    if "provider" not in request.query:
        request.query += f"{'&' if request.query else ''}provider={_EASY[scheme]}"
