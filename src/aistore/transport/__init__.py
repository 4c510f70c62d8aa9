"""Between calls and HTTP: pool, redirects, retries, truthful errors. Names are loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.lazy import lazily
from aistore.transport.request import Request, Timeout
from aistore.transport.response import Headers, Response, StreamConsumed

if TYPE_CHECKING:
    from aistore.transport.aio import AsyncResponse, AsyncTransport
    from aistore.transport.blocking import Transport
    from aistore.transport.tls import TlsConfig

__all__ = [
    "AsyncResponse",
    "AsyncTransport",
    "Headers",
    "Request",
    "Response",
    "StreamConsumed",
    "Timeout",
    "TlsConfig",
    "Transport",
]

_HOME = {
    "AsyncResponse": "aistore.transport.aio",
    "AsyncTransport": "aistore.transport.aio",
    "TlsConfig": "aistore.transport.tls",
    "Transport": "aistore.transport.blocking",
}


__getattr__ = lazily(__name__, _HOME)
