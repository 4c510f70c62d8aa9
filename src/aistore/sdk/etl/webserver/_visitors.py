"""Keeping everybody else than the server out of transformers that run on a machine where people work and browse.

A transformer reads objects, and files by their name (`etl_fqn`), for whoever asks. Under the server of one machine it listens on loopback,
which every user of the machine reaches: so requests have to show the key that the server gave it. A browser, besides, carries requests of
any page there: WebSockets of pages from anywhere, and requests by a name that was turned into 127.0.0.1 (DNS rebinding). Both say where they
come from, as for the server itself (`aistore.server.guard`).
"""

from __future__ import annotations

import functools
import hmac
import os
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from aistore.sdk.etl.webserver._listening import FD
from aistore.wire import etl

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = ["REFUSAL", "asgi_without_strangers", "is_stranger", "wsgi_without_strangers"]

REFUSAL: Final = b"requests of others than the server, and of web pages, are not answered"

# Only where the server of one machine started this process, a class or a command; in a cluster transformers have names.
_REFUSED: Final = FD in os.environ or "AIS_ETL_CONTAINER_PORT" in os.environ
_KEY: Final = os.environ.get(etl.KEY_VARIABLE, "").encode()
_HEADER: Final = etl.KEY.lower().encode()
_VARIABLE: Final = f"HTTP_{etl.KEY.upper().replace('-', '_')}"  # as WSGI has the header
_ADDRESS: Final = re.compile(r"(localhost|[0-9.]+|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?", re.ASCII)


def is_stranger(host: str, from_browser: bool, key: str, query: str) -> bool:
    """Whether a request is to be refused: by its `Host`, whether it has `Origin` or `Sec-Fetch-Site`, the key of its header, and its query."""
    if not _REFUSED:
        return False
    return from_browser or not _is_address(host) or not _has_key(key, query)


def _has_key(key: str, query: str) -> bool:
    if not key and f"{etl.KEY_PARAM}=" in query:  # of a stage before
        key = parse_qs(query).get(etl.KEY_PARAM, [""])[0]
    return not _KEY or hmac.compare_digest(key.encode(), _KEY)


@functools.lru_cache(maxsize=64)
def _is_address(host: str) -> bool:
    # Browsers never leave it out.
    return not host or _ADDRESS.fullmatch(host) is not None


def asgi_without_strangers(app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """An ASGI application that answers 403 to strangers, and everybody else as `app` does."""
    if not _REFUSED:
        return app

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" or not _is_stranger(scope):
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it was accepted: 403
        else:
            length = (b"content-length", b"%d" % len(REFUSAL))
            await send({"type": "http.response.start", "status": 403, "headers": [length]})
            await send({"type": "http.response.body", "body": REFUSAL})

    return guarded


def _is_stranger(scope: Any) -> bool:
    host, from_browser, key = "", False, ""
    for name, value in scope["headers"]:
        if name == b"host":
            host = value.decode("latin-1")
        elif name == _HEADER:
            key = value.decode("latin-1")
        elif name in (b"origin", b"sec-fetch-site"):
            from_browser = True
    return is_stranger(host, from_browser, key, scope["query_string"].decode("latin-1"))


def wsgi_without_strangers(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """A WSGI application that answers 403 to strangers, and everybody else as `app` does."""
    if not _REFUSED:
        return app

    def guarded(environ: Any, start_response: Any) -> Iterable[bytes]:
        from_browser = "HTTP_ORIGIN" in environ or "HTTP_SEC_FETCH_SITE" in environ
        key = environ.get(_VARIABLE, "")
        if not is_stranger(environ.get("HTTP_HOST", ""), from_browser, key, environ.get("QUERY_STRING", "")):
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Length", str(len(REFUSAL))), ("Content-Type", "text/plain")])
        return [REFUSAL]

    return guarded
