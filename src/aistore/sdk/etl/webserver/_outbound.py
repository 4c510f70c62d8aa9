"""What transformers send: requests for objects, and results to the next hop. One request, one answer: whether to repeat is decided above."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, cast

from aistore.transport.blocking import Transport
from aistore.transport.request import Request, Timeout
from aistore.transport.tls import TlsConfig
from aistore.transport.url import split_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aistore.http1.payload import Body
    from aistore.transport.response import BaseResponse, Headers, Response
    from aistore.transport.retry import RetryRules

__all__ = ["HopAnswer", "Outbound", "TargetRefused", "is_true", "never_again", "outbound_request", "tls_of_environment"]

TIMEOUT: Final = Timeout(connect=10.0, read=None)
"""How long an object may take is the business of the server, which ends the request (`obj_timeout`)."""


def is_true(variable: str) -> bool:
    """Whether a variable of the environment says so."""
    return os.environ.get(variable, "").strip().lower() in ("1", "t", "true", "y", "yes", "on")


def tls_of_environment() -> TlsConfig:
    """TLS as the variables of the SDK have it (protocol/50 7.7)."""
    return TlsConfig(
        os.environ.get("AIS_CLIENT_CA") or None,
        os.environ.get("AIS_CRT") or None,
        os.environ.get("AIS_CRT_KEY") or None,
        not (is_true("AIS_SKIP_VERIFY") or is_true("AIS_SKIP_VERIFY_CRT")),
    )


def never_again() -> RetryRules:
    """A policy that repeats nothing."""
    import tenacity
    import urllib3

    from aistore.sdk.retry_config import RetryConfig

    config = RetryConfig(
        http_retry=urllib3.Retry(total=0, raise_on_status=False, status_forcelist=()),
        network_retry=tenacity.Retrying(stop=tenacity.stop_after_attempt(1), reraise=True),
    )
    return cast("RetryRules", config)


class TargetRefused(Exception):
    """The target did not give the object; `status` is its answer's."""

    def __init__(self, status: int) -> None:
        super().__init__("Target request failed")
        self.status = status


class HopAnswer:
    """The answer of a hop, by the names that `requests` gives its parts."""

    __slots__ = ("content", "headers", "status_code", "url")

    def __init__(self, status_code: int, content: bytes, headers: Headers, url: str) -> None:
        self.status_code = status_code
        self.content = content
        self.headers = headers
        self.url = url

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode("utf-8", "replace")

    @classmethod
    def of(cls, answer: BaseResponse, content: bytes) -> HopAnswer:
        """An answer of either transport, with its body."""
        return cls(answer.status, content, answer.headers, answer.url)


def outbound_request(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: Body = None,
    timeout: float | None = None,
    stream: bool = False,
) -> Request:
    """A request to any URL. Raises ValueError for what is none."""
    origin, target = split_url(url)
    path, _, query = target.partition("?")
    return Request(
        method,
        path[1:],
        query,
        tuple(headers.items()),
        body,
        stream,
        TIMEOUT if timeout is None else Timeout(timeout, timeout),
        str(origin),
    )


class Outbound:
    """Blocking requests, from any thread; connections are kept."""

    def __init__(self, home: str, token: str | None) -> None:
        self._transport = Transport(
            home, timeout=TIMEOUT, retry=never_again, token=token, tls=tls_of_environment(), pool_size=64
        )

    def fetch(self, url: str) -> Response:
        """An object as a stream. Raises `TargetRefused`, and errors of the network."""
        answer = self._transport.exchange(outbound_request("GET", url, {}, stream=True))
        if answer.status >= 300:
            raise TargetRefused(answer.status)
        return answer

    def put(
        self,
        url: str,
        data: Body,
        headers: Mapping[str, str],
        timeout: float | None = None,
    ) -> HopAnswer:
        """A PUT; an iterable is sent in chunks. Raises errors of the network, and what the iterable raises."""
        answer = self._transport.exchange(outbound_request("PUT", url, headers, data, timeout))
        return HopAnswer.of(answer, answer.content)

    def close(self) -> None:
        """Close what is kept."""
        self._transport.close()
