"""The blocking transport: requests in, responses out; threads, forks and pickling are its business and not the caller's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NoReturn

from aistore.http1.blocking import BlockingConnection, TlsConnection
from aistore.http1.failures import NoAnswer
from aistore.transport.base import (
    REFUSAL_MAX,
    REFUSAL_PIECE,
    BaseTransport,
    check_scheme,
    may_resend,
    raise_typed,
    transport_error,
)
from aistore.transport.policy import Leg, Sleep, recover
from aistore.transport.pool import Pool
from aistore.transport.redirect import FOLLOWED
from aistore.transport.response import Response

if TYPE_CHECKING:
    from aistore.http1.body import BlockingBody
    from aistore.http1.head import ResponseHead
    from aistore.transport.errors import TransportError
    from aistore.transport.request import Request, Timeout
    from aistore.transport.retry import Retry
    from aistore.transport.tls import TlsConfig
    from aistore.transport.token import TokenFile
    from aistore.transport.url import Origin

__all__ = ["Transport"]


class Transport(BaseTransport):
    """Sends requests below `endpoint`'s `/v1/` and gives back the answers, following redirects and repeating what may be repeated.

    `timeout` is 3 s for a connection and 20 s for each gap of an answer by default; `retry` is a `RetryConfig` (or a function that makes
    one when something failed first), None for the defaults; `token` goes into `Authorization`. At most `pool_size` idle connections are
    kept for each node. Threads may share it, a forked child gets connections of its own, and it pickles without them.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        timeout: Timeout | None = None,
        retry: Retry = None,
        token: str | TokenFile | None = None,
        tls: TlsConfig | None = None,
        pool_size: int = 10,
    ) -> None:
        super().__init__(endpoint, timeout=timeout, retry=retry, token=token, tls=tls, pool_size=pool_size)
        self._pool = Pool(pool_size)

    def exchange(self, request: Request) -> Response:
        """The answer to `request`, whatever its status; its body is read already unless `request.stream` and the status is good.

        Raises `TransportError` when there is no answer, and when the last one after all retries was a status that is retried.
        """
        leg = self._leg(request)
        started = time.monotonic()
        try:
            response = self._send(leg)
        except Exception as e:
            return self._recover(leg, transport_error(e), started)
        if self._is_final(response.status):
            return response
        return self._recover(leg, response, started)

    def close(self) -> None:
        """Close the idle connections; the transport stays usable."""
        self._pool.close()
        self._proxies.close()

    def __repr__(self) -> str:
        return f"<Transport {self.base_url} {self._pool!r}>"

    def _recover(self, leg: Leg, outcome: Response | TransportError, started: float) -> Response:
        steps = recover(leg, outcome, self._rules, started, self._leg)
        result: Response | TransportError | None = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as end:
                response: Response = end.value
                return response
            if isinstance(step, Sleep):
                (step.sleep or time.sleep)(step.seconds)
                result = None
                continue
            try:
                result = self._send(step)
            except Exception as e:
                result = transport_error(e)

    def _send(self, leg: Leg) -> Response:
        request, _, origin, target, _ = leg
        self._prepare(origin)
        connection = self._pool.take(origin)
        if connection is None and (proxy := self._proxies.get(origin)) is not None:
            return proxy.send(leg, request.timeout or self.timeout)
        try:
            connection, head, body = self._ask(leg, connection)
        except Exception as failure:
            raise_typed(failure, leg)
        if isinstance(body, bytes):
            self._pool.give(origin, connection)
            check_scheme(leg, head.status, body)
            return Response(request, origin, target, head, body)
        source = _Source(self._pool, connection, body, leg)
        if request.stream and head.status < 300:
            return Response(request, origin, target, head, source)
        return Response(request, origin, target, head, _rest(source, head.status))

    def _ask(
        self, leg: Leg, connection: BlockingConnection | None
    ) -> tuple[BlockingConnection, ResponseHead, bytes | BlockingBody]:
        request, payload, origin, _, _ = leg
        method = request.method
        timeout = request.timeout or self.timeout
        head, expect = self._head(leg)
        reused = connection is not None
        # An idle connection on which something arrived is not asked: its next answer would be to another question.
        if connection is not None and not connection.is_alive():
            connection.close()
            connection, reused = None, False
        while True:
            if connection is None:
                connection = self._open(origin, timeout.connect)
            try:
                connection.set_timeout(timeout.read)
                if payload is None:
                    connection.send_head(head)
                    answer = connection.receive(method)
                else:
                    answer = connection.send(method, head, payload, expect=expect) or connection.receive(method)
            except NoAnswer:
                connection.close()
                if not reused or not may_resend(leg):
                    raise
                connection, reused = None, False
            except BaseException:
                connection.close()
                raise
            else:
                return connection, *answer

    def _open(self, origin: Origin, timeout: float | None) -> BlockingConnection:
        if self._context is None or origin.scheme == "http":
            return BlockingConnection.connect(origin.host, origin.port, timeout)
        return TlsConnection.handshake(origin.host, origin.port, timeout, self._context)


class _Source:
    """The rest of a body on a connection of a pool."""

    __slots__ = ("_body", "_connection", "_leg", "_pool", "touched")

    def __init__(self, pool: Pool, connection: BlockingConnection, body: BlockingBody, leg: Leg) -> None:
        self._pool = pool
        self._connection: BlockingConnection | None = connection
        self._body = body
        self._leg = leg
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

    def read_some(self) -> bytes:
        self.touched = True
        if self._connection is None:
            return b""
        try:
            data = self._body.read_some()
        except BaseException as failure:
            self._fail(failure)
        if self._body.done:
            self._release()
        return data

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
            self._pool.give(self._leg.origin, connection)

    def _fail(self, failure: BaseException) -> NoReturn:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        raise_typed(failure, self._leg)


def _rest(source: _Source, status: int) -> bytes:
    """The rest of a body; that of a redirect may be missing, its `Location` says all, a refusal's may be cut."""
    try:
        if status < 300:
            return source.read_rest()
        found = bytearray()
        while len(found) < REFUSAL_MAX and (piece := source.read(REFUSAL_PIECE)):
            found += piece
    except Exception as e:
        if status not in FOLLOWED:
            raise
        transport_error(e)
        return b""
    source.close()
    return bytes(found)
