"""What the blocking and the asyncio transport share: their configuration, and what a request becomes on its way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

from aistore.http1.encode import encode_request_line
from aistore.http1.payload import EXPECT_FROM, as_payload
from aistore.transport.heads import HeadBlocks
from aistore.transport.policy import Leg, is_append, transport_error
from aistore.transport.proxy import Proxies
from aistore.transport.redirect import FOLLOWED
from aistore.transport.request import Timeout
from aistore.transport.retry import Rules
from aistore.transport.tls import TlsConfig
from aistore.transport.url import base_url, split_url

if TYPE_CHECKING:
    import ssl
    from typing import TypeVar

    from aistore.transport.request import Request
    from aistore.transport.retry import Retry
    from aistore.transport.token import TokenFile
    from aistore.transport.url import Origin

    T = TypeVar("T", bound="BaseTransport")

__all__ = [
    "REFUSAL_MAX",
    "REFUSAL_PIECE",
    "BaseTransport",
    "check_scheme",
    "may_resend",
    "raise_typed",
    "transport_error",
]

REFUSAL_MAX = 16 << 20
"""Bytes of the body of an answer that is no success, from which on no more is read: a server may be hostile."""
REFUSAL_PIECE = 64 << 10

# What servers in Go say, and ours.
_SPEAKS_TLS = b"Client sent an HTTP request to an HTTPS server"
# RFC 9110 9.2.2: sending them twice has the effect of sending them once.
_IDEMPOTENT = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"))


class BaseTransport:
    """Where requests go and by which rules; see `Transport` for the parameters."""

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
        if pool_size < 0:
            raise ValueError(f"pool size {pool_size} is negative")
        self.endpoint = endpoint
        self.base_url = base_url(endpoint)
        self.timeout = timeout or Timeout()
        self.retry = retry
        self.tls = tls or TlsConfig()
        self.pool_size = pool_size
        self._home, self._prefix = split_url(self.base_url)
        self._token = token
        self._blocks = HeadBlocks(token)
        self._rules = Rules(retry, self._blocks.renew)
        self._proxies = Proxies(self.tls, self._blocks, pool_size)
        self._context: ssl.SSLContext | None = None
        self._pinned_as = 0

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (
            type(self),
            self.endpoint,
            self.timeout,
            self.retry,
            self._token,
            self.tls,
            self.pool_size,
        )

    @property
    def token(self) -> str:
        """What authorizes the requests; empty for nothing."""
        return self._blocks.token

    @token.setter
    def token(self, token: str | TokenFile | None) -> None:
        self._token = token
        self._blocks.use(token)

    def _leg(self, request: Request) -> Leg:
        if request.base is None:
            origin, prefix = self._home, self._prefix
        else:
            origin, prefix = split_url(request.base)
            prefix = prefix.rstrip("/")  # a bare origin
        target = f"{prefix}/{request.path}?{request.query}" if request.query else f"{prefix}/{request.path}"
        body = request.body
        return Leg(request, None if body is None else as_payload(body), origin, target)

    def _head(self, leg: Leg) -> tuple[bytes, bool]:
        """The head of a request, and whether it announces `Expect: 100-continue`."""
        request, payload, origin, target, authorized = leg
        expect = payload is not None and (payload.length is None or payload.length > EXPECT_FROM)
        block = self._blocks.get(origin, request, payload, expect, authorized)
        return encode_request_line(request.method, target) + block, expect

    def _is_final(self, status: int) -> bool:
        """Whether an answer needs no thought: neither redirect nor repeat."""
        if status < 300:
            return True
        if status == 401 and self._blocks.may_renew:
            return False
        return status not in FOLLOWED and not self._rules.may_repeat(status)

    def _prepare(self, origin: Origin) -> None:
        """Read the TLS files: one that is missing is no failure of the network."""
        if origin.scheme != "https":
            return
        # Without pathlib, which costs this path more than the call.
        if self.tls.pinned is not None and (written := os.stat(self.tls.pinned).st_mtime_ns) != self._pinned_as:  # noqa: PTH116
            self._context, self._pinned_as = None, written  # the server has a new certificate
        if self._context is None:
            self._context = self.tls.context()


def check_scheme(leg: Leg, status: int, body: bytes) -> None:
    """Raise `TlsError` for an answer that only says that the server speaks HTTPS: nothing in it is of AIStore."""
    if status == 400 and leg.origin.scheme == "http" and body.startswith(_SPEAKS_TLS):
        from aistore.transport.errors import needs_tls

        raise needs_tls(leg.request.method, leg.url)


def may_resend(leg: Leg) -> bool:
    """Whether a request may go over a fresh connection when a reused one died before the first byte of the answer.

    The server may have closed an idle connection at the moment it was used: that says nothing about the request.
    """
    if leg.request.method not in _IDEMPOTENT or is_append(leg.request):
        return False
    return leg.payload is None or leg.payload.rewind()


def raise_typed(failure: BaseException, leg: Leg) -> NoReturn:
    """Raise the typed error that `failure` means, or `failure` itself when it is none of the network."""
    if isinstance(failure, Exception):
        from aistore.transport.errors import from_failure

        error = from_failure(failure, leg.request.method, leg.url)
        if error is not None:
            raise error from failure
    raise failure


def _restore(
    kind: type[T],
    endpoint: str,
    timeout: Timeout,
    retry: Retry,
    token: str | TokenFile | None,
    tls: TlsConfig,
    pool_size: int,
) -> T:
    return kind(endpoint, timeout=timeout, retry=retry, token=token, tls=tls, pool_size=pool_size)
