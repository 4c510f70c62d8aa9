"""Fetching the external key map of a dSort job (protocol/40 B5).

Its URL comes from a client: this server does not fetch for others what only it can reach. An object of its own is read as that.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, unquote, urlsplit

from aistore.server.api.registering import register
from aistore.server.api.remote.reading import cached
from aistore.server.archive.archives import Content
from aistore.server.backends.registry import UnknownBucket
from aistore.server.dsort.key_map import MAP_MAX, parse_map
from aistore.server.store.content import finished, in_thread
from aistore.wire import access
from aistore.wire import params as param
from aistore.wire.errors import ApiError
from aistore.wire.names import check_object_name, parse_bucket

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.client import HTTPConnection
    from urllib.parse import SplitResult

    from aistore.server.dsort.key_map import KeyMap
    from aistore.server.dsort.spec import Order
    from aistore.server.node import Node
    from aistore.wire.names import BucketId

__all__ = ["bucket_of_map", "fetch_map"]

_OBJECTS: Final = "/v1/objects/"
_SECONDS: Final = 30.0  # for all of it
_PORTS: Final = {"http": 80, "https": 443}
_LOOPBACK_NAME: Final = "localhost"


async def fetch_map(node: Node, order: Order, host: str, warn: Callable[[str], None]) -> KeyMap:
    """The key map of an order; `host` is how its client calls this server. Raises `ApiError`."""
    url, port = _split(order)
    if _is_own(node, url, port, host):
        data = await _own_object(node, url)
    else:
        data = await _fetched(url, port)
    reactions = order.reactions
    return await in_thread(parse_map, data, url.path, order.separator, reactions.ekm_malformed_line, warn)


def bucket_of_map(node: Node, order: Order, host: str) -> BucketId | None:
    """The bucket of this cluster that the key map of an order lies in; None if it comes from elsewhere. Raises `ApiError` 400."""
    url, port = _split(order)
    return _own_name(url)[0] if _is_own(node, url, port, host) else None


def _split(order: Order) -> tuple[SplitResult, int]:
    url = urlsplit(order.key_map)
    return url, url.port or _PORTS[url.scheme]


def _is_own(node: Node, url: SplitResult, port: int, host: str) -> bool:
    own = urlsplit(node.url)
    if url.netloc in (host, own.netloc):
        return True
    return port == own.port and (url.hostname == _LOOPBACK_NAME or _is_loopback(url.hostname or ""))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _own_name(url: SplitResult) -> tuple[BucketId, str]:
    bucket_name, _, name = unquote(url.path).removeprefix(_OBJECTS).partition("/")
    if not url.path.startswith(_OBJECTS) or not name:
        raise ApiError(400, f"the key map's URL {url.geturl()[:300]!r} is not that of an object")
    query = parse_qs(url.query)
    return parse_bucket(bucket_name, query.get(param.PROVIDER, [""])[0], query.get(param.NAMESPACE, [""])[0]), name


async def _own_object(node: Node, url: SplitResult) -> bytes:
    identity, name = _own_name(url)
    try:
        bucket = node.find(identity)
    except UnknownBucket as unknown:
        bucket = await register(node, unknown.bucket)
    node.check_access(bucket, access.GET, "GET")
    name = check_object_name(name)
    await cached(node, bucket, name)
    content = await Content.open_verified(node.store, bucket, name)
    if content is None:
        raise ApiError(404, f"the key map {identity.object_cname(name)} does not exist")
    try:
        if content.source.size > MAP_MAX:
            raise _too_long()
        return await in_thread(content.source.read_at, 0, content.source.size)
    finally:
        content.close()


async def _fetched(url: SplitResult, port: int) -> bytes:
    """GET it from elsewhere, in a thread of its own: hosts that take their time keep nobody else from working."""
    threads = ThreadPoolExecutor(1, "key-map")
    try:
        return await finished(asyncio.get_running_loop().run_in_executor(threads, _fetch, url, port))
    finally:
        threads.shutdown()


def _fetch(url: SplitResult, port: int) -> bytes:
    """GET it (blocking); redirects are not followed."""
    from http.client import HTTPException

    shown = url.geturl()[:300]
    try:
        with _Limited(_address(url, port), port) as limited, closing(_connection(limited, url, port)) as connection:
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
            connection.request("GET", target, headers={"Host": url.netloc.rpartition("@")[2]})
            response = connection.getresponse()
            data = response.read(MAP_MAX + 1)
            if limited.over:
                raise TimeoutError(f"it took longer than {_SECONDS:.0f} seconds")
            if response.length and len(data) <= MAP_MAX:
                raise ConnectionError(f"its last {response.length} bytes did not come")
    except (OSError, HTTPException, ValueError) as error:
        raise ApiError(400, f"the key map {shown!r} cannot be fetched: {error}") from error
    if response.status != 200:
        raise ApiError(400, f"the key map {shown!r} cannot be fetched: {response.status} {response.reason}")
    if len(data) > MAP_MAX:
        raise _too_long()
    return data


class _Limited:
    """A socket that is shut down some time after it was made: timeouts of its own begin anew with every byte."""

    def __init__(self, address: str, port: int) -> None:
        """Connect. Raises `OSError`."""
        self.socket = socket.create_connection((address, port), _SECONDS)
        self.over = False
        self._same = self.socket.dup()  # TLS takes the first one
        self._timer = threading.Timer(_SECONDS, self._end)
        self._timer.daemon = True
        self._timer.start()

    def _end(self) -> None:
        self.over = True
        with suppress(OSError):  # the other side was faster
            self._same.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> _Limited:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        self._same.close()
        self.socket.close()


def _address(url: SplitResult, port: int) -> str:
    """The address to connect to, which nobody can exchange any more. Raises `ApiError` for one that is not public, `OSError`."""
    assert url.hostname is not None
    address = str(socket.getaddrinfo(url.hostname, port, type=socket.SOCK_STREAM)[0][4][0])
    if not _is_public(ipaddress.ip_address(address.partition("%")[0])):
        raise ApiError(400, f"the key map's host {url.hostname!r} has the address {address}, which is not a public one")
    return address


def _connection(limited: _Limited, url: SplitResult, port: int) -> HTTPConnection:
    """A connection on a socket. Raises `OSError`."""
    from http.client import HTTPConnection

    assert url.hostname is not None
    connection = HTTPConnection(url.hostname, port, timeout=_SECONDS)
    connection.sock = limited.socket
    if url.scheme == "https":
        import ssl

        connection.sock = ssl.create_default_context().wrap_socket(limited.socket, server_hostname=url.hostname)
    return connection


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and (
        address.ipv4_mapped or address.sixtofour or address.teredo or address.is_site_local
    ):
        return False  # an IPv4 address stands behind it, or it is one of a network of one's own
    # Those that are reserved are not handed out; IPv4 addresses that are translated (RFC 6052, 8215) are among them.
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _too_long() -> ApiError:
    return ApiError(400, f"the key map has more than {MAP_MAX} bytes")
