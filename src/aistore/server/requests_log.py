"""What the logs tell of requests: their ids, those that failed, and with `--access-log` all of them.

A request's id is what the client sent in `X-Request-Id`, if that is a plain word; else what its gateway's redirect is known by; else one that
is made. It is in every line about the request, in the answer to one that failed, and goes along to other nodes of the cluster.

Nothing that may be a secret is told: no headers, no bodies, and of the query only parameters that are known to say nothing.
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets
from time import perf_counter
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from aistore.wire import headers
from aistore.wire import params as param

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.http1.server import Request

__all__ = ["ACCESS", "RequestsLog", "redirected_id", "request_id", "without_secret"]

ACCESS: Final = "aistore.server.access"
"""Name of the logger of all requests."""

_HEADER: Final = headers.REQUEST_ID.lower()
_is_plain: Final = re.compile(r"[A-Za-z0-9._:=+-]{1,128}").fullmatch
_MADE_BY: Final = secrets.token_hex(4)
_numbers: Final = itertools.count(1)
_SECRET: Final = re.compile(r"^(/+v1/etl/_object/[^/]*/)[^/]*")
_PATH_MAX: Final = 2048
_VALUE_MAX: Final = 256
_SHOWN: Final = (
    param.PROVIDER, param.NAMESPACE, param.WHAT, param.PROPS, param.BCK_TO, param.OBJECT_TO, param.UUID, param.APPEND_TYPE,
    param.ARCHPATH, param.ARCHREGX, param.ARCHMODE, param.ETL_NAME, param.ETL_PIPELINE, param.PART_NUMBER, param.LATEST_VER, "list-type", "prefix",
)  # fmt: skip


def request_id(request: Request) -> str:
    """The id of a request."""
    try:
        return request.id
    except AttributeError:
        request.id = found = _given(request) or f"{_MADE_BY}-{next(_numbers):x}"
        return found


def _given(request: Request) -> str:
    given = request.headers.get(_HEADER, "")
    if not given and param.REDIRECT_TIME in request.query:
        given = redirected_id(request.params.get(param.PROXY_ID, ""), request.params.get(param.REDIRECT_TIME, ""))
    return given if _is_plain(given) else ""


def redirected_id(gateway: str, when: str) -> str:
    """What a redirect is known by at both of its ends."""
    return f"{gateway}-{when}"


def without_secret(path: str) -> str:
    """The path of a request without the secret that transformers have in theirs."""
    return _SECRET.sub(r"\1***", path)


class RequestsLog:
    """Writes the lines. `user_of` tells who sent a request, empty where nobody knows; `all_of_them` is `--access-log`."""

    def __init__(self, module: logging.Logger, *, all_of_them: bool, user_of: Callable[[Request], str]) -> None:
        self._failures = module
        self._access = logging.getLogger(ACCESS) if all_of_them else None
        self._user_of = user_of

    @property
    def wants_all(self) -> bool:
        """Whether requests that went well are told, too."""
        return self._access is not None

    def failed(self, request: Request, what: str, defect: BaseException | None = None) -> None:
        """Something failed: a fault of the machine, or a defect, which is told with its traceback."""
        facts = {"request": request_id(request)}
        path = quote(_shown_path(request)[:_PATH_MAX], safe="/%*")
        self._failures.error("%s %s %s", request.method, path, what, exc_info=defect, extra={"facts": facts})

    def answered(self, request: Request, status: int, sent: int, *, whole: bool = True) -> None:
        """A request was answered."""
        if status >= 400:
            level = logging.WARNING if status >= 500 else logging.DEBUG
            if self._failures.isEnabledFor(level):
                self._tell(self._failures, level, request, status, sent, whole)
        if self._access is not None:
            self._tell(self._access, logging.INFO, request, status, sent, whole)

    def _tell(self, logger: logging.Logger, level: int, request: Request, status: int, sent: int, whole: bool) -> None:
        user = self._user_of(request)
        facts = {
            "request": request_id(request),
            "method": request.method,
            "path": quote(_shown_path(request)[:_PATH_MAX], safe="/%:@!$&'()*+,;=~?"),
            "query": _shown(request),
            "status": status,
            "bytes": sent,
            "received": request.received,
            "seconds": round(perf_counter() - request.began, 6),
            "user": user,
            "peer": request.peer,
            **({} if whole else {"cut": True}),
        }
        told = f"{facts['path']}?{facts['query']}" if facts["query"] else facts["path"]
        logger.log(
            level,
            "%s %s %d %d bytes in %.6f s%s, %s from %s",
            facts["method"],
            told,
            status,
            sent,
            facts["seconds"],
            "" if whole else ", cut off",
            quote(user, safe="@._-") or "nobody",
            request.peer,
            extra={"facts": facts},
        )


def _shown_path(request: Request) -> str:
    """The path as it was sent; one with a secret, however it was encoded, as it was read, without that."""
    hidden = without_secret(request.path)
    return request.raw_path if hidden == request.path else quote(hidden, safe="/*", errors="surrogateescape")


def _shown(request: Request) -> str:
    """What may be told of the parameters, encoded as in a query."""
    if not request.query:
        return ""
    params = request.params
    return "&".join(f"{name}={quote(params[name][:_VALUE_MAX], errors='replace')}" for name in _SHOWN if name in params)
