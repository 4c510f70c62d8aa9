"""Keeping web pages out of transformers that run on a machine where people browse.

A transformer reads objects, and files by their name (`etl_fqn`), for whoever asks. Under the server of one machine it listens on loopback,
where a browser carries requests of any page: WebSockets of pages from anywhere, and requests by a name that was turned into 127.0.0.1
(DNS rebinding). Both say where they come from, as for the server itself (`aistore.server.guard`).
"""

from __future__ import annotations

import functools
import os
import re
from typing import TYPE_CHECKING, Any, Final

from aistore.sdk.etl.webserver._listening import FD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = ["REFUSAL", "asgi_without_pages", "is_page", "wsgi_without_pages"]

REFUSAL: Final = b"requests of web pages are not answered"

# Only where the server of one machine started this process, a class or a command; in a cluster transformers have names.
_REFUSED: Final = FD in os.environ or "AIS_ETL_CONTAINER_PORT" in os.environ
_ADDRESS: Final = re.compile(r"(localhost|[0-9.]+|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?", re.ASCII)


def is_page(host: str, from_browser: bool) -> bool:
    """Whether a page may have sent a request with this `Host`; `from_browser` says that it has `Origin` or `Sec-Fetch-Site`."""
    return _REFUSED and (from_browser or not _is_address(host))


@functools.lru_cache(maxsize=64)
def _is_address(host: str) -> bool:
    # Browsers never leave it out.
    return not host or _ADDRESS.fullmatch(host) is not None


def asgi_without_pages(app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """An ASGI application that answers 403 to pages, and everybody else as `app` does."""
    if not _REFUSED:
        return app

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" or not _is_page_of(scope["headers"]):
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it was accepted: 403
        else:
            length = (b"content-length", b"%d" % len(REFUSAL))
            await send({"type": "http.response.start", "status": 403, "headers": [length]})
            await send({"type": "http.response.body", "body": REFUSAL})

    return guarded


def _is_page_of(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    host, from_browser = "", False
    for name, value in headers:
        if name == b"host":
            host = value.decode("latin-1")
        elif name in (b"origin", b"sec-fetch-site"):
            from_browser = True
    return is_page(host, from_browser)


def wsgi_without_pages(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """A WSGI application that answers 403 to pages, and everybody else as `app` does."""
    if not _REFUSED:
        return app

    def guarded(environ: Any, start_response: Any) -> Iterable[bytes]:
        if not is_page(environ.get("HTTP_HOST", ""), "HTTP_ORIGIN" in environ or "HTTP_SEC_FETCH_SITE" in environ):
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Length", str(len(REFUSAL))), ("Content-Type", "text/plain")])
        return [REFUSAL]

    return guarded
