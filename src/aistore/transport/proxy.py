"""Requests through a proxy that the environment names; `urllib3` speaks to it."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, NoReturn

from aistore.http1.head import Headers, ResponseHead
from aistore.transport.response import Response

if TYPE_CHECKING:
    from collections.abc import Callable

    import urllib3

    from aistore.transport.heads import HeadBlocks
    from aistore.transport.policy import Leg
    from aistore.transport.request import Timeout
    from aistore.transport.tls import TlsConfig
    from aistore.transport.url import Origin

_PIECE = 64 * 1024

__all__ = ["Proxies", "Proxy"]

_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")


class Proxies:
    """Which origin is reached through which proxy: `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, never for loopback."""

    def __init__(self, tls: TlsConfig, blocks: HeadBlocks, pool_size: int) -> None:
        self._tls = tls
        self._blocks = blocks
        self._pool_size = pool_size
        self._made: dict[str, tuple[int, Proxy]] = {}

    def get(self, origin: Origin) -> Proxy | None:
        """The proxy for `origin`, or None; asked only when a connection would be opened."""
        if origin.is_loopback or not any(name in os.environ or name.upper() in os.environ for name in _VARIABLES):
            return None
        # Imported here: it costs more than all of this package.
        from urllib import request

        proxies = request.getproxies_environment()
        url = proxies.get(origin.scheme) or proxies.get("all")
        # typeshed does not know this function of every platform.
        bypass: Callable[[str, dict[str, str]], bool] = request.proxy_bypass_environment  # type: ignore[attr-defined]  # see above
        if not url or bypass(f"{origin.host}:{origin.port}", proxies):
            return None
        if "://" not in url:
            url = f"http://{url}"
        pid, proxy = self._made.get(url, (0, None))
        if proxy is None or pid != os.getpid():
            proxy = Proxy(url, self._tls, self._blocks, self._pool_size)
            self._made[url] = os.getpid(), proxy
        return proxy

    def close(self) -> None:
        """Close the idle connections to all proxies."""
        for _, proxy in self._made.values():
            proxy.close()


class Proxy:
    """A `urllib3.ProxyManager` that answers as the transport's own connections do."""

    def __init__(self, url: str, tls: TlsConfig, blocks: HeadBlocks, pool_size: int) -> None:
        import urllib3

        self._url = url
        self._blocks = blocks
        headers = urllib3.make_headers(proxy_basic_auth=auth) if (auth := urllib3.util.parse_url(url).auth) else None
        self._manager = urllib3.ProxyManager(url, maxsize=pool_size, proxy_headers=headers, ssl_context=tls.context())
        self._manager.pool_classes_by_scheme = {"http": urllib3.HTTPConnectionPool, "https": _strict_pool()}

    def close(self) -> None:
        """Close the idle connections."""
        self._manager.clear()

    def send(self, leg: Leg, timeout: Timeout) -> Response:
        """One request, one answer: no redirect, no retry."""
        import urllib3

        request, payload = leg.request, leg.payload
        headers = dict(self._blocks.lines(leg.origin, request, leg.authorized))
        if payload is not None and payload.length is not None:
            headers["Content-Length"] = str(payload.length)
        try:
            answer = self._manager.urlopen(
                request.method,
                leg.url,
                body=None if payload is None else payload.pieces(),
                headers=headers,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
                enforce_content_length=True,
                timeout=urllib3.Timeout(connect=timeout.connect, read=timeout.read),
            )
        except Exception as failure:
            _raise(failure, request.method, leg.url, self._url)
        fields = Headers()
        for name, value in answer.headers.items():
            if name.lower() in fields:
                fields.add(name.lower(), value)
            else:
                fields[name.lower()] = value
        head = ResponseHead(answer.status, answer.reason or "", fields, True)
        source = _Source(answer, request.method, leg.url, self._url)
        keep = request.stream and answer.status < 300
        return Response(request, leg.origin, leg.target, head, source if keep else source.read_rest())


class _Source:
    """The rest of a body that comes through the proxy."""

    __slots__ = ("_answer", "_context", "touched")

    def __init__(self, answer: urllib3.BaseHTTPResponse, method: str, url: str, proxy: str) -> None:
        self._answer = answer
        self._context = (method, url, proxy)
        self.touched = False

    def read(self, size: int) -> bytes:
        return self._read(size)

    def _read(self, size: int | None) -> bytes:
        self.touched = True
        try:
            data = self._answer.read(size)
        except Exception as failure:
            self._answer.close()
            _raise(failure, *self._context, in_body=True)
        if not data:
            self._answer.release_conn()
        return data

    def readinto(self, view: memoryview) -> int:
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read_some(self) -> bytes:
        self.touched = True
        return self._read(_PIECE)

    def read_rest(self) -> bytes:
        data = self._read(None)
        self._answer.release_conn()
        return data

    def close(self) -> None:
        self.touched = True
        self._answer.close()


@cache
def _strict_pool() -> type[urllib3.HTTPSConnectionPool]:
    """Connections for which an end of TLS that was not announced is an error: what came before may be cut (RFC 8446 6.1)."""
    import urllib3
    from urllib3.connection import HTTPSConnection

    class Connection(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            self.sock.suppress_ragged_eofs = False  # type: ignore[union-attr]  # over TLS it is no plain socket

    class Pool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Connection

    return Pool


def _raise(failure: Exception, method: str, url: str, proxy: str, *, in_body: bool = False) -> NoReturn:
    """Raise the typed error that a failure of `urllib3` means."""
    from urllib3 import exceptions as foreign

    from aistore.transport import errors

    through = f"through the proxy {_without_password(proxy)}: {failure}"
    if isinstance(failure, foreign.ConnectTimeoutError) and not isinstance(failure, foreign.NewConnectionError):
        raise errors.ConnectTimeout(f"no connection within the connect timeout {through}", method, url) from failure
    if isinstance(failure, foreign.ReadTimeoutError):
        raise errors.ReadTimeout(f"no answer within the read timeout {through}", method, url) from failure
    if in_body and isinstance(failure, foreign.HTTPError):
        raise errors.IncompleteBody(f"the answer is incomplete {through}", method, url) from failure
    if isinstance(failure, foreign.SSLError) and "EOF occurred" not in str(failure):
        raise errors.TlsError(f"no trusted TLS connection {through}", method, url) from failure
    if isinstance(failure, (foreign.HTTPError, OSError)):
        raise errors.ConnectionFailed(f"no answer {through}", method, url) from failure
    raise failure


def _without_password(url: str) -> str:
    scheme, _, rest = url.rpartition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
