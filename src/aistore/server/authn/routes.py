"""From a path of the AuthN service to its handler (protocol/60 2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from aistore.http1.message import Reply
from aistore.server.api.messages import method_refused
from aistore.server.authn import access_keys, clusters, keyring, roles, users
from aistore.server.authn.service import not_found
from aistore.server.exposition import CONTENT_TYPE
from aistore.server.metrics import service_metrics
from aistore.wire import authn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aistore.http1.server import Request, Result
    from aistore.server.authn.service import AuthnService

    Handler = Callable[[AuthnService, Request, list[str]], Awaitable[Reply]]

__all__ = ["route"]

# The order of methods is that of `Allow` in the reference's answers.
_RESOURCES: Final[dict[str, dict[str, Handler]]] = {
    authn.USERS: {"DELETE": users.delete, "GET": users.get, "POST": users.post, "PUT": users.put},
    authn.CLUSTERS: {"DELETE": clusters.delete, "GET": clusters.get, "POST": clusters.post, "PUT": clusters.put},
    authn.ROLES: {"DELETE": roles.delete, "GET": roles.get, "POST": roles.post, "PUT": roles.put},
    authn.TOKENS: {"DELETE": users.revoke},
    authn.ACCESS_KEYS: {"DELETE": access_keys.delete, "GET": access_keys.get, "POST": access_keys.post},
    "daemon": {"PUT": keyring.configure, "GET": keyring.configuration},
    "public-key": {"GET": keyring.public_key},
    "rotate-key": {"POST": keyring.rotate},
}
_WELL_KNOWN: Final[dict[str, Handler]] = {
    "openid-configuration": keyring.discovery,
    "jwks.json": keyring.jwks,
}


def route(service: AuthnService, request: Request) -> Result:
    """Answer one request."""
    # A slash within a name is encoded, and separates nothing.
    parts = [unquote(part) for part in request.raw_path.split("/") if part]
    if request.path == "/metrics" and request.method in ("GET", "HEAD"):
        return Reply(200, [("Content-Type", CONTENT_TYPE)], service_metrics(service).encode())
    methods: dict[str, Handler] = {}
    if parts[:1] == ["v1"] and len(parts) > 1:
        methods = _RESOURCES.get(parts[1], {})
    elif parts[:1] == [".well-known"] and len(parts) == 2 and parts[1] in _WELL_KNOWN:
        methods = {"GET": _WELL_KNOWN[parts[1]]}
    if not methods:
        return not_found()
    handler = methods.get(request.method)
    if handler is None:
        return method_refused(request, ", ".join(methods))
    return handler(service, request, parts[2:])
