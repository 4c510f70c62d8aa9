"""From a path to its handler (protocol/00 2.2, 2.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.server.api import objects
from aistore.wire.errors import invalid_request_uri

if TYPE_CHECKING:
    from aistore.http1.server import Request, Result
    from aistore.server.node import Node

_OBJECTS = "/v1/objects/"


def handle(node: Node, request: Request) -> Result:
    """Answer one request."""
    path = request.path
    if path.startswith(_OBJECTS):
        bucket, _slash, name = path[len(_OBJECTS) :].partition("/")
        return objects.handle(node, request, bucket, name)
    raise invalid_request_uri(request.method, path, request.peer)


async def start(node: Node) -> None:
    """Start what belongs to the routes."""


async def stop(node: Node) -> None:
    """Stop it."""
