"""What clients are made with: arguments, environment, and what older versions took."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING, NamedTuple, cast

from aistore.sdk.session_manager import DEFAULT_POOL_SIZE, SessionManager
from aistore.transport.request import CONNECT_SECONDS, READ_SECONDS, Timeout
from aistore.wire import environment

if TYPE_CHECKING:
    import urllib3

    from aistore.sdk.response_handler import ResponseHandler
    from aistore.sdk.retry_config import RetryConfig
    from aistore.transport.token import TokenFile

__all__ = ["Settings", "as_timeout", "object_of_url", "settings_of"]

logger = logging.getLogger("aistore.sdk.client")


class Settings(NamedTuple):
    """Arguments of a request client."""

    endpoint: str
    session_manager: SessionManager
    timeout: float | tuple[float | None, float | None]
    token: str | TokenFile | None
    response_handler: ResponseHandler | None
    retry_config: RetryConfig | None


def settings_of(
    endpoint: str | None,
    skip_verify: bool,
    ca_cert: str | None,
    client_cert: str | tuple[str, str] | None,
    timeout: float | tuple[float | None, float | None] | None,
    retry_config: RetryConfig | None,
    token: str | RetryConfig | urllib3.Retry | None,
    max_pool_size: int | str | None,
    retry: urllib3.Retry | None,
) -> Settings:
    """What the arguments of a client mean, see `Client` for those."""
    endpoint = endpoint or os.environ.get("AIS_ENDPOINT")
    if not endpoint:
        raise ValueError("no endpoint: pass the URL of a gateway, or `local:`, or set AIS_ENDPOINT")
    if token is not None and not isinstance(token, str):
        # The seventh argument was a retry policy before it was the token, which came eighth.
        if hasattr(token, "http_retry"):
            retry_config = cast("RetryConfig", token)
        else:
            retry = token
        token = None
    if isinstance(max_pool_size, str):
        token, max_pool_size = max_pool_size, None
    if retry is not None:
        retry_config = _with_http_retry(retry, retry_config)
    sessions = SessionManager(
        None if retry_config is None else retry_config.http_retry,
        ca_cert,
        skip_verify,
        client_cert,
        _pool_size() if max_pool_size is None else max_pool_size,
    )
    return Settings(
        endpoint,
        sessions,
        _timeouts() if timeout is None else timeout,
        token or default_token(),
        None,
        retry_config,
    )


def as_timeout(timeout: float | tuple[float | None, float | None] | None) -> Timeout | None:
    """Seconds as the transport takes them: a zero waits for ever (protocol/00 17); None stays None."""
    if timeout is None:
        return None
    connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    for seconds in (connect, read):
        if seconds is not None and seconds < 0:
            raise ValueError(f"timeout {timeout!r} is negative")
    return Timeout(connect or None, read or None)


def object_of_url(url: str) -> tuple[str, str, str]:
    """Bucket, provider and name of the object of a URL such as `ais://bucket/dir/name`. Raises `InvalidURLException`."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    name = parts.path.lstrip("/")
    if not (parts.scheme and parts.netloc and name):
        from aistore.sdk.errors import InvalidURLException

        raise InvalidURLException(url)
    return parts.netloc, parts.scheme, name


def _with_http_retry(retry: urllib3.Retry, config: RetryConfig | None) -> RetryConfig:
    from aistore.sdk.retry_config import RetryConfig

    warnings.warn(
        "Client(retry=...) is deprecated: use retry_config=RetryConfig(http_retry=...)",
        DeprecationWarning,
        stacklevel=4,
    )
    config = config or RetryConfig.default()
    return RetryConfig(retry, config.network_retry, config.cold_get_conf)


def default_token() -> str | TokenFile | None:
    """The token of the environment, or the file that has it."""
    if token := os.environ.get(environment.TOKEN):
        return token
    from aistore.transport.token import TokenFile, default_file

    named = os.environ.get(environment.TOKEN_FILE)
    return TokenFile(named) if named else default_file()


def _timeouts() -> tuple[float, float]:
    return _seconds("AIS_CONNECT_TIMEOUT", CONNECT_SECONDS), _seconds("AIS_READ_TIMEOUT", READ_SECONDS)


def _seconds(variable: str, default: float) -> float:
    text = os.environ.get(variable)
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        logger.warning("%s=%r is no number of seconds: %s is used", variable, text, default)
        return default
    return seconds


def _pool_size() -> int:
    text = os.environ.get("AIS_MAX_CONN_POOL")
    if not text:
        return DEFAULT_POOL_SIZE
    if not text.isdecimal():
        logger.warning("AIS_MAX_CONN_POOL=%r is no number: %d is used", text, DEFAULT_POOL_SIZE)
        return DEFAULT_POOL_SIZE
    return int(text)
