"""The retry policies of a client that was given none (protocol/00 18). Imports `urllib3`, `tenacity` and `requests`: loaded when something failed."""

from __future__ import annotations

from typing import Any

import requests
import tenacity
import urllib3
from urllib3.exceptions import ConnectTimeoutError, ReadTimeoutError

from aistore.transport.errors import ConnectionRefused, MalformedAnswer, NameNotResolved, TlsError
from aistore.transport.url import split_url

__all__ = ["RETRIED_STATUSES", "http_retry", "network_retry"]

RETRIED_STATUSES = (429, 500, 502, 503, 504)

PATIENCE = 1.0
"""Seconds after which a loopback address that refuses connections and a name that does not exist are given up: nobody is starting there."""

SHORT_WAIT = 0.25


def http_retry() -> urllib3.Retry:
    """Retries by status: five, for methods that may be repeated, after 0, 6, 12, 24 and 48 seconds or what `Retry-After` says, 120 at most."""
    return urllib3.Retry(total=5, connect=0, read=0, backoff_factor=3.0, status_forcelist=RETRIED_STATUSES)


def network_retry() -> tenacity.Retrying:
    """Retries after failures of the network: seven attempts, random waits up to 30 s.

    Four failures end it early, because waiting cannot help: a loopback address that still refuses after a second, a host name that still
    does not exist then, a certificate that does not verify, and an answer that is not HTTP.
    """
    return tenacity.Retrying(
        stop=_stop,
        wait=_wait,
        retry=tenacity.retry_if_exception(_is_transient),
        reraise=True,
    )


_ATTEMPTS = tenacity.stop_after_attempt(7)
_random_wait = tenacity.wait_random_exponential(multiplier=1, min=1, max=30)
_TRANSIENT = (
    requests.ConnectTimeout,
    requests.ReadTimeout,
    requests.exceptions.ChunkedEncodingError,
    requests.ConnectionError,
    ConnectTimeoutError,
    ReadTimeoutError,
)


# Module-level functions, so that a retry configuration pickles.
def _is_transient(failure: BaseException) -> bool:
    if isinstance(failure, MalformedAnswer) or (isinstance(failure, TlsError) and failure.untrusted):
        return False
    return isinstance(failure, _TRANSIENT)


def _stop(state: tenacity.RetryCallState) -> bool:
    patience_over = _nobody_is_there(state) and (state.seconds_since_start or 0.0) >= PATIENCE
    return patience_over or bool(_ATTEMPTS(state))


def _wait(state: tenacity.RetryCallState) -> float:
    return SHORT_WAIT if _nobody_is_there(state) else float(_random_wait(state))


def _nobody_is_there(state: tenacity.RetryCallState) -> bool:
    failure: Any = state.outcome.exception() if state.outcome is not None else None
    if isinstance(failure, NameNotResolved):
        return not failure.temporary
    return isinstance(failure, ConnectionRefused) and split_url(failure.url)[0].is_loopback
