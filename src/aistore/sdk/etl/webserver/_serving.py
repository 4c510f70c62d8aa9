"""Serving an ASGI application with uvicorn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aistore.sdk.etl.webserver._listening import listening_socket
from aistore.sdk.etl.webserver._visitors import asgi_without_strangers

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["WS_MAX_MESSAGE", "serve_asgi"]

WS_MAX_MESSAGE: Final = 16 * 1024**3
"""Bytes: an object is one message (protocol/50 6.6)."""

KEEP_ALIVE: Final = 120
"""Seconds that idle connections are kept."""


def serve_asgi(app: Callable[..., Any], host: str, port: int, sock: socket.socket | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    import uvicorn

    config = uvicorn.Config(
        asgi_without_strangers(app),
        host=host,
        port=port,
        log_level="info",
        access_log=False,
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=5,
        ws_max_size=WS_MAX_MESSAGE,
        ws_ping_interval=None,
        ws_ping_timeout=None,
        ws_per_message_deflate=False,
        server_header=False,
        date_header=False,
    )
    listening = sock or listening_socket(host, port)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        listening.close()
