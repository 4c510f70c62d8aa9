"""The blocking transport: requests in, responses out; threads, forks and pickling are its business and not the caller's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NoReturn

from aistore.http1.blocking import BlockingConnection, TlsConnection
from aistore.http1.encode import encode_request_line
from aistore.http1.failures import NoAnswer
from aistore.http1.payload import EXPECT_FROM, as_payload
from aistore.transport.heads import HeadBlocks
from aistore.transport.policy import Leg, Sleep, is_append, recover
from aistore.transport.pool import Pool
from aistore.transport.proxy import Proxies
from aistore.transport.redirect import FOLLOWED
from aistore.transport.request import Request, Timeout
from aistore.transport.response import Response
from aistore.transport.retry import Rules
from aistore.transport.tls import TlsConfig
from aistore.transport.url import base_url, split_url

if TYPE_CHECKING:
    import ssl

    from aistore.http1.body import BlockingBody
    from aistore.http1.head import ResponseHead
    from aistore.transport.errors import TransportError
    from aistore.transport.retry import Retry
    from aistore.transport.url import Origin

__all__ = ["Transport"]

# RFC 9110 9.2.2: sending them twice has the effect of sending them once.
_IDEMPOTENT = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"))


class Transport:
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
        token: str | None = None,
        tls: TlsConfig | None = None,
        pool_size: int = 10,
    ) -> None:
        self.endpoint = endpoint
        self.base_url = base_url(endpoint)
        self.timeout = timeout or Timeout()
        self.retry = retry
        self.token = token
        self.tls = tls or TlsConfig()
        self.pool_size = pool_size
        self._home, self._prefix = split_url(self.base_url)
        self._rules = Rules(retry)
        self._blocks = HeadBlocks(token)
        self._pool = Pool(pool_size)
        self._proxies = Proxies(self.tls, self._blocks, pool_size)
        self._context: ssl.SSLContext | None = None

    def exchange(self, request: Request) -> Response:
        """The answer to `request`, whatever its status; its body is read already unless `request.stream` and the status is good.

        Raises `TransportError` when there is no answer, and when the last one after all retries was a status that is retried.
        """
        leg = self._leg(request)
        started = time.monotonic()
        try:
            response = self._send(leg)
        except Exception as e:
            return self._recover(leg, _transport_error(e), started)
        status = response.status
        if status < 300 or (status not in FOLLOWED and not self._rules.may_repeat(status)):
            return response
        return self._recover(leg, response, started)

    def close(self) -> None:
        """Close the idle connections; the transport stays usable."""
        self._pool.close()
        self._proxies.close()

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (self.endpoint, self.timeout, self.retry, self.token, self.tls, self.pool_size)

    def __repr__(self) -> str:
        return f"<Transport {self.base_url} {self._pool!r}>"

    def _leg(self, request: Request) -> Leg:
        if request.base is None:
            origin, prefix = self._home, self._prefix
        else:
            origin, prefix = split_url(request.base)
        target = f"{prefix}/{request.path}?{request.query}" if request.query else f"{prefix}/{request.path}"
        body = request.body
        return Leg(request, None if body is None else as_payload(body), origin, target)

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
                result = _transport_error(e)

    def _send(self, leg: Leg) -> Response:
        request, _, origin, target, _ = leg
        if origin.scheme == "https" and self._context is None:
            self._context = self.tls.context()
        connection = self._pool.take(origin)
        if connection is None and (proxy := self._proxies.get(origin)) is not None:
            return proxy.send(leg, request.timeout or self.timeout)
        try:
            connection, head, body = self._ask(leg, connection)
        except Exception as failure:
            _raise(failure, request.method, origin, target)
        if isinstance(body, bytes):
            self._pool.give(origin, connection)
            return Response(request, origin, target, head, body)
        source = _Source(self._pool, connection, body, request.method, origin, target)
        if request.stream and head.status < 300:
            return Response(request, origin, target, head, source)
        return Response(request, origin, target, head, _rest(source, head.status))

    def _ask(
        self, leg: Leg, connection: BlockingConnection | None
    ) -> tuple[BlockingConnection, ResponseHead, bytes | BlockingBody]:
        request, payload, origin, target, authorized = leg
        method = request.method
        timeout = request.timeout or self.timeout
        expect = payload is not None and (payload.length is None or payload.length > EXPECT_FROM)
        head = encode_request_line(method, target) + self._blocks.get(origin, request, payload, expect, authorized)
        reused = connection is not None
        if connection is not None and method not in ("GET", "HEAD") and not connection.is_alive():
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
                # The server may have closed an idle connection at the moment it was used: that says nothing about the request.
                if (
                    not reused
                    or method not in _IDEMPOTENT
                    or is_append(request)
                    or (payload is not None and not payload.rewind())
                ):
                    raise
                connection, reused = None, False
            except BaseException:
                connection.close()
                raise
            else:
                return connection, *answer

    def _open(self, origin: Origin, timeout: float | None) -> BlockingConnection:
        if origin.scheme == "http":
            return BlockingConnection.connect(origin.host, origin.port, timeout)
        assert self._context is not None  # made before: a missing file is no failure of the network
        return TlsConnection.handshake(origin.host, origin.port, timeout, self._context)


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


def _rest(source: _Source, status: int) -> bytes:
    """The rest of a body; that of a redirect may be missing, its `Location` says all."""
    try:
        return source.read_rest()
    except Exception as e:
        if status not in FOLLOWED:
            raise
        _transport_error(e)
        return b""


def _raise(failure: BaseException, method: str, origin: Origin, target: str) -> NoReturn:
    """Raise the typed error that `failure` means, or `failure` itself when it is none of the network."""
    if isinstance(failure, Exception):
        from aistore.transport.errors import from_failure

        error = from_failure(failure, method, f"{origin}{target}")
        if error is not None:
            raise error from failure
    raise failure


def _transport_error(failure: Exception) -> TransportError:
    """`failure`, if it is one of the network; anything else is raised."""
    from aistore.transport.errors import TransportError

    if not isinstance(failure, TransportError):
        raise failure
    return failure


def _restore(
    endpoint: str, timeout: Timeout, retry: Retry, token: str | None, tls: TlsConfig, pool_size: int
) -> Transport:
    return Transport(endpoint, timeout=timeout, retry=retry, token=token, tls=tls, pool_size=pool_size)
