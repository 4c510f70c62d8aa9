"""The blocking transport: requests in, responses out; threads, forks and pickling are its business and not the caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from aistore.http1.blocking import EXPECT_FROM, BlockingConnection
from aistore.http1.encode import encode_request_line
from aistore.http1.failures import NoAnswer
from aistore.http1.payload import as_payload
from aistore.transport.heads import HeadBlocks
from aistore.transport.pool import Pool
from aistore.transport.request import Request, Timeout
from aistore.transport.response import Response
from aistore.transport.url import base_url, split_url

if TYPE_CHECKING:
    from aistore.http1.body import BlockingBody
    from aistore.http1.head import ResponseHead
    from aistore.http1.payload import Payload
    from aistore.transport.url import Origin

__all__ = ["Transport"]

# RFC 9110 9.2.2: sending them twice has the effect of sending them once.
IDEMPOTENT = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"))


class Transport:
    """Sends requests below `endpoint`'s `/v1/` and gives back the answers."""

    def __init__(
        self,
        endpoint: str,
        *,
        timeout: Timeout | None = None,
        token: str | None = None,
        pool_size: int = 10,
    ) -> None:
        self.endpoint = endpoint
        self.base_url = base_url(endpoint)
        self._timeout = timeout or Timeout()
        self._pool_size = pool_size
        self._home, self._prefix = split_url(self.base_url)
        self._blocks = HeadBlocks(token)
        self._pool = Pool(pool_size)

    def exchange(self, request: Request) -> Response:
        """The answer to `request`, whatever its status. Raises `TransportError` when there is none."""
        if request.base is None:
            origin, prefix = self._home, self._prefix
        else:
            origin, prefix = split_url(request.base)
        target = f"{prefix}/{request.path}?{request.query}" if request.query else f"{prefix}/{request.path}"
        body = request.body
        payload = None if body is None else as_payload(body)
        return self._send(request, origin, target, payload)

    def close(self) -> None:
        """Close the idle connections; the transport stays usable."""
        self._pool.close()

    def __repr__(self) -> str:
        return f"<Transport {self.base_url} {self._pool!r}>"

    def _send(self, request: Request, origin: Origin, target: str, payload: Payload | None) -> Response:
        try:
            connection, head, body = self._ask(request, origin, target, payload)
        except Exception as failure:
            _raise(failure, request.method, origin, target)
        if isinstance(body, bytes):
            self._pool.give(origin, connection)
            return Response(request, origin, target, head, body)
        source = _Source(self._pool, connection, body, request.method, origin, target)
        return Response(request, origin, target, head, source if request.stream else source.read_rest())

    def _ask(
        self, request: Request, origin: Origin, target: str, payload: Payload | None
    ) -> tuple[BlockingConnection, ResponseHead, bytes | BlockingBody]:
        method = request.method
        timeout = request.timeout or self._timeout
        expect = payload is not None and (payload.length is None or payload.length > EXPECT_FROM)
        head = encode_request_line(method, target) + self._blocks.get(origin, request, payload, expect)
        connection = self._pool.take(origin)
        reused = connection is not None
        if connection is not None and method not in ("GET", "HEAD") and not connection.is_alive():
            connection.close()
            connection, reused = None, False
        while True:
            if connection is None:
                connection = BlockingConnection.connect(origin.host, origin.port, timeout.connect)
            try:
                connection.set_timeout(timeout.read)
                if payload is None:
                    connection.send_head(head)
                    answer = connection.receive(method)
                else:
                    answer = connection.send(method, head, payload, expect=expect) or connection.receive(method)
            except NoAnswer:
                connection.close()
                # The server may have closed an idle connection at the moment it was used: that says nothing about the request.
                if not reused or method not in IDEMPOTENT or (payload is not None and not payload.rewind()):
                    raise
                connection, reused = None, False
            except BaseException:
                connection.close()
                raise
            else:
                return connection, *answer


class _Source:
    """The rest of a body on a connection of a pool."""

    __slots__ = ("_body", "_connection", "_method", "_origin", "_pool", "_target", "touched")

    def __init__(
        self, pool: Pool, connection: BlockingConnection, body: BlockingBody, method: str, origin: Origin, target: str
    ) -> None:
        self._pool = pool
        self._connection: BlockingConnection | None = connection
        self._body = body
        self._method = method
        self._origin = origin
        self._target = target
        self.touched = False

    def read(self, size: int) -> bytes:
        self.touched = True
        if self._connection is None:
            return b""
        try:
            data = self._body.read(size)
        except BaseException as failure:
            self._fail(failure)
        if self._body.done:
            self._release()
        return data

    def readinto(self, view: memoryview) -> int:
        self.touched = True
        if self._connection is None:
            return 0
        try:
            count = self._body.readinto(view)
        except BaseException as failure:
            self._fail(failure)
        if self._body.done:
            self._release()
        return count

    def read_rest(self) -> bytes:
        self.touched = True
        if self._connection is None:
            return b""
        try:
            data = self._body.read_rest()
        except BaseException as failure:
            self._fail(failure)
        self._release()
        return data

    def close(self) -> None:
        self.touched = True
        self._release()

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give(self._origin, connection)

    def _fail(self, failure: BaseException) -> NoReturn:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        _raise(failure, self._method, self._origin, self._target)

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _raise(failure: BaseException, method: str, origin: Origin, target: str) -> NoReturn:
    """Raise the typed error that `failure` means, or `failure` itself when it is none of the network."""
    if isinstance(failure, Exception):
        from aistore.transport.errors import from_failure

        error = from_failure(failure, method, f"{origin}{target}")
        if error is not None:
            raise error from failure
    raise failure
