"""What a failure of a transformation is to whoever asked for it (protocol/50 7.6)."""

from __future__ import annotations

import sys
from typing import Literal, NamedTuple, TypeAlias

from aistore.sdk.etl.webserver._outbound import TargetRefused
from aistore.wire import etl

__all__ = ["ClientLeft", "Failure", "HopFailed", "failure_of"]

Kind: TypeAlias = Literal["pipeline", "missing", "fetch", "network", "hop", "transform"]


class Failure(NamedTuple):
    """Status and text of the answer, and what went wrong."""

    status: int
    kind: Kind
    text: str
    headers: tuple[tuple[str, str], ...] = ()


class ClientLeft(ConnectionError):
    """Whoever asked for a transformation is gone, or sent less than was announced."""


class HopFailed(Exception):
    """The result could not be handed on: `failure` is the answer."""

    def __init__(self, status: int, text: str, transient: bool = False) -> None:
        super().__init__(text)
        headers = ((etl.RETRY_REASON, etl.DIRECT_PUT_TRANSIENT),) if transient else ()
        self.failure = Failure(status, "hop", text, headers)


def failure_of(error: BaseException, path: str, fqn: str = "") -> Failure:
    """The answer that an exception means which came out of a transformation of `path` (from the file `fqn`)."""
    if isinstance(error, HopFailed):
        return error.failure
    if isinstance(error, ClientLeft):
        return Failure(400, "network", str(error))  # which nobody reads
    if isinstance(error, TargetRefused):
        return Failure(error.status, "fetch", str(error))
    if _is_error_of_client(error):
        # Also FileNotFoundError or HTTPError here, but about something that the transformer asked a cluster for, and not in the official SDK.
        return Failure(500, "transform", str(error))
    if isinstance(error, FileNotFoundError):
        text = f"Error processing object '{path}': file not found at '{fqn or path}'."
        return Failure(404, "missing", text)
    status = _status_of_service(error)
    if status is not None:
        return Failure(status, "fetch", "Target request failed")
    if _is_network(error):
        return Failure(502, "network", f"Network error: {error}")
    return Failure(500, "transform", str(error) or type(error).__name__)


def _is_error_of_client(error: BaseException) -> bool:
    errors = sys.modules.get("aistore.sdk.errors")
    return errors is not None and isinstance(error, errors.APIRequestError)


def _status_of_service(error: BaseException) -> int | None:
    """Status of the answer of another service, which user code raised as `requests` does."""
    requests = sys.modules.get("requests")
    if requests is None or not isinstance(error, requests.HTTPError) or error.response is None:
        return None
    status: int = error.response.status_code
    return status if 400 <= status < 600 else None


def _is_network(error: BaseException) -> bool:
    """Whether it is a failure to reach another service. These libraries are loaded if one of their errors is here."""
    requests, httpx = sys.modules.get("requests"), sys.modules.get("httpx")
    return (requests is not None and isinstance(error, requests.RequestException)) or (
        httpx is not None and isinstance(error, httpx.TransportError)
    )
