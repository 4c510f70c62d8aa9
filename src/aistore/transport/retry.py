"""The user's retry policies (`urllib3.Retry`, `tenacity.Retrying`) as plain decisions, so that both faces share them.

`urllib3` and `tenacity` cost more to import than a thousand requests cost to send, so nothing here loads them before something failed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    import tenacity
    import urllib3

    from aistore.transport.errors import TransportError
    from aistore.transport.policy import Answer

__all__ = ["LONGEST_WAIT", "ColdGetRules", "NetworkRetries", "Retry", "RetryRules", "Rules", "StatusRetries"]

# 404 and 409 are answers of a healthy cluster: a missing object must fail at once (protocol/00 18.2).
_FINAL: Final = frozenset((404, 409))
# What the default policy may repeat; 413 only with Retry-After. Anything else is decided without loading urllib3.
_DEFAULT_RETRIED: Final = frozenset((413, 429, 500, 502, 503, 504))

LONGEST_WAIT: Final = 120.0
"""Seconds of `Retry-After` from which on an answer is final: as long as `urllib3` backs off at most of its own accord. A caller that is
told so at once can do something else meanwhile, and no server keeps it for a day."""

log = logging.getLogger("aistore.transport")


class ColdGetRules(Protocol):
    """How to wait for an object that a remote backend is still delivering."""

    est_bandwidth_bps: int
    max_cold_wait: int


class RetryRules(Protocol):
    """What `aistore.sdk.retry_config.RetryConfig` has; None stands for the default."""

    http_retry: urllib3.Retry | None
    network_retry: tenacity.Retrying | None
    cold_get_conf: ColdGetRules | None


Retry: TypeAlias = "RetryRules | Callable[[], RetryRules] | None"


class Rules:
    """The retry configuration of a transport: given, made on demand by a function, or the default."""

    def __init__(self, retry: Retry, renew_token: Callable[[], bool] = lambda: False) -> None:
        self._retry = retry
        self.renew_token = renew_token
        """Looks for another token when one was refused; whether there is one."""

    def _given(self) -> RetryRules | None:
        retry = self._retry
        if retry is not None and not hasattr(retry, "http_retry"):
            self._retry = retry = retry()
        return cast("RetryRules | None", retry)

    @property
    def given(self) -> bool:
        """Whether the user said what to repeat."""
        return self._retry is not None

    def may_repeat(self, status: int) -> bool:
        """False for an answer that is final under any policy; cheap."""
        return status >= 400 and status not in _FINAL and (self._retry is not None or status in _DEFAULT_RETRIED)

    def status_retries(self) -> StatusRetries:
        """A fresh count of retries by status."""
        given = self._given()
        retry = given.http_retry if given is not None else None
        if retry is None:
            from aistore.transport.defaults import http_retry

            retry = http_retry()
        return StatusRetries(retry)

    def network_retries(self, started: float) -> NetworkRetries:
        """A fresh count of retries after failures of the network; `started` is when (`time.monotonic`) the first attempt began."""
        given = self._given()
        retrying = given.network_retry if given is not None else None
        if retrying is None:
            from aistore.transport.defaults import network_retry

            retrying = network_retry()
        return NetworkRetries(retrying, started)

    def cold_get(self) -> ColdGetRules | None:
        """How to wait for remote objects; None for the defaults."""
        given = self._given()
        return given.cold_get_conf if given is not None else None


class StatusRetries:
    """Decides, with a `urllib3.Retry`, what follows an answer with an error status or a failure against the same URL."""

    def __init__(self, retry: urllib3.Retry) -> None:
        self._retry = retry
        self._count = 1

    def after_answer(self, answer: Answer) -> float | None:
        """Seconds to wait before the request is repeated; None when the answer is final. Raises `RetriesExhausted`."""
        from urllib3 import HTTPResponse
        from urllib3.exceptions import MaxRetryError

        retry, status, method = self._retry, answer.status, answer.request.method
        after = answer.headers.get("Retry-After")
        if not retry.is_retry(method, status, after is not None):
            return None
        shim = HTTPResponse(
            status=status, headers={} if after is None else {"Retry-After": after}, preload_content=False
        )
        wait = _asked_for(retry, after) if retry.respect_retry_after_header else None
        if wait is not None and wait > LONGEST_WAIT:
            log.warning("%s %s answered %d, and asks to wait %.0f s: not repeated", method, answer.url, status, wait)
            return None
        try:
            self._retry = retry.increment(method, answer.url, response=shim)
        except MaxRetryError as e:
            if not retry.raise_on_status:
                return None
            self._exhausted(answer, e)
        self._count += 1
        return wait or self._retry.get_backoff_time()

    def after_failure(self, failure: TransportError) -> float | None:
        """Seconds to wait before the request is repeated against the same URL; None when the failure goes to the outer layer."""
        from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, ProtocolError, ReadTimeoutError

        from aistore.transport.errors import ConnectionFailed, ReadTimeout

        error: Exception
        if not isinstance(failure, ConnectionFailed):
            return None
        if failure.before_sending:
            error = ConnectTimeoutError(failure.reason)
        elif isinstance(failure, ReadTimeout):
            error = ReadTimeoutError(None, failure.url, failure.reason)  # type: ignore[arg-type]  # the pool is only shown
        else:
            error = ProtocolError(failure.reason)
        try:
            self._retry = self._retry.increment(failure.method, failure.url, error=error)
        except (MaxRetryError, type(error)):
            return None
        self._count += 1
        return self._retry.get_backoff_time()

    def _exhausted(self, answer: Answer, cause: Exception) -> NoReturn:
        from aistore.transport.errors import RetriesExhausted

        raise RetriesExhausted(
            answer.status, _server_message(answer), answer.request.method, answer.url, self._count
        ) from cause


class NetworkRetries:
    """Drives a `tenacity.Retrying` attempt by attempt, with all its hooks and rules."""

    def __init__(self, retrying: tenacity.Retrying, started: float) -> None:
        import tenacity

        if not isinstance(retrying, tenacity.Retrying):
            raise TypeError(f"network_retry must be a tenacity.Retrying, not {type(retrying).__name__}")
        # The hook runs when the wait for a remote object is over, not before it (protocol/00 19).
        self._hook = retrying.before_sleep
        self._retrying = retrying.copy(before_sleep=None)
        self._enabled = getattr(retrying, "enabled", True)
        self._state = tenacity.RetryCallState(retry_object=retrying, fn=None, args=(), kwargs={})
        self._state.start_time = started
        self._retrying.begin()
        self._retrying.iter(self._state)

    @property
    def attempt(self) -> int:
        """Number of the attempt under way, from 1."""
        return self._state.attempt_number

    @property
    def sleep(self) -> Callable[[float], None]:
        """How the user wants to wait."""
        return self._retrying.sleep

    def after(self, failure: Exception) -> float:
        """Seconds to wait before the next attempt; raises `failure`, or what the policy makes of it, after the last one."""
        import tenacity

        if not self._enabled:
            raise failure
        self._state.set_exception((type(failure), failure, failure.__traceback__))
        decision = self._retrying.iter(self._state)
        if not isinstance(decision, tenacity.DoSleep):
            raise failure
        return float(decision)

    def before_sleep(self) -> None:
        """Run the user's hook."""
        if self._hook is not None:
            self._hook(self._state)

    def next_attempt(self) -> None:
        """The wait is over."""
        self._state.prepare_for_next_attempt()
        self._retrying.iter(self._state)


def _asked_for(retry: urllib3.Retry, after: str | None) -> float | None:
    """Seconds that `Retry-After` says, as the policy reads it."""
    from urllib3.exceptions import InvalidHeader

    if after is None:
        return None
    try:
        return float(retry.parse_retry_after(after))
    except (InvalidHeader, ValueError, OverflowError):  # no number, and no date: as if it had not said anything
        return None


def _server_message(answer: Answer) -> str:
    """The `message` of a JSON error, in the body or, for HEAD, in `Hdr-Error` (protocol/00 8), else its text; shortened."""
    import json

    from aistore.wire.errors import ERROR_HEADER

    text = answer.content.decode("utf-8", "replace") or answer.headers.get(ERROR_HEADER, "")
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    message = document.get("message") if isinstance(document, dict) else None
    return (message if isinstance(message, str) else text).strip()[:500]
