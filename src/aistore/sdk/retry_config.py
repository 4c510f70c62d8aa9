"""How failed calls are repeated."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from aistore.transport import cold_get

if TYPE_CHECKING:
    from tenacity import Retrying
    from urllib3 import Retry

    NETWORK_RETRY_EXCEPTIONS: tuple[type[Exception], ...]
    """What the default policy calls a failure of the network."""

__all__ = ["NETWORK_RETRY_EXCEPTIONS", "ColdGetConf", "RetryConfig"]

# What a tenacity policy is made of; its thread-local state stays where it is.
_POLICY = ("sleep", "stop", "wait", "retry", "before", "after", "before_sleep", "reraise", "retry_error_cls")


@dataclass
class ColdGetConf:
    """How long a read waits for an object that the cluster is still fetching from its remote backend (protocol/00 19).

    `est_bandwidth_bps`: bytes per second between cluster and backend, an estimate (default 10 Gbit/s) that spaces the polls.
    `max_cold_wait`: seconds to wait at most (default 180).
    `enable_remote_head`: whether the backend may be asked for the object's size.
    """

    est_bandwidth_bps: int = cold_get.BANDWIDTH
    max_cold_wait: int = cold_get.MAX_WAIT
    enable_remote_head: bool = True

    @staticmethod
    def default() -> ColdGetConf:
        """The defaults."""
        return ColdGetConf()


@dataclass
class RetryConfig:
    """Two layers of retries, and the wait for cold objects.

    `http_retry` repeats a request at the same URL after an error status (429, 500, 502, 503, 504 by default, for methods that may be
    repeated), after the time that `Retry-After` says, if there is one; an answer that asks for more than 120 s is final. `network_retry`
    starts again at the endpoint after a failure of the network, so that another target can be chosen.

    A configuration pickles; a part of the network policy that does not (a lambda, say) is replaced by the default's.
    """

    http_retry: Retry
    network_retry: Retrying
    cold_get_conf: ColdGetConf = field(default_factory=ColdGetConf)

    @staticmethod
    def default() -> RetryConfig:
        """What a client does that is given none (protocol/00 18): a fresh configuration, to be changed at will."""
        from aistore.transport import defaults

        return RetryConfig(defaults.http_retry(), defaults.network_retry(), ColdGetConf())

    def __getstate__(self) -> dict[str, object]:
        parts = {name: getattr(self.network_retry, name) for name in _POLICY}
        kept = {name: part for name, part in parts.items() if _pickles(part)}
        return {"http_retry": self.http_retry, "network_retry": kept, "cold_get_conf": self.cold_get_conf}

    def __setstate__(self, state: dict[str, object]) -> None:
        from aistore.transport import defaults

        kept = cast("dict[str, object]", state.pop("network_retry"))
        self.__dict__.update(state)
        self.network_retry = defaults.network_retry()
        for name, part in kept.items():
            setattr(self.network_retry, name, part)


def _pickles(part: object) -> bool:
    try:
        pickle.dumps(part)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


def __getattr__(name: str) -> object:
    if name != "NETWORK_RETRY_EXCEPTIONS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import urllib3
    from requests import exceptions

    from aistore.sdk.errors import AISRetryableError

    return (
        exceptions.ConnectTimeout,
        exceptions.ReadTimeout,
        exceptions.ChunkedEncodingError,
        exceptions.ConnectionError,
        AISRetryableError,
        urllib3.exceptions.TimeoutError,
    )
