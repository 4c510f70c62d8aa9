"""Errors of calls, on one page.

    APIRequestError                  a server refused a call: status, its message, URL, request
    ├── AISError                     the cluster did; also requests.HTTPError
    │   ├── AISRetryableError        the same call may succeed later
    │   │   ├── ErrObjNotFound       no such object; also FileNotFoundError
    │   │   └── ErrGETConflict       the object is being fetched by another reader
    │   ├── ErrBckNotFound           no such bucket; also FileNotFoundError
    │   ├── ErrRemoteBckNotFound     no such bucket at its remote backend; also FileNotFoundError
    │   ├── ErrBckAlreadyExists      also FileExistsError
    │   ├── ErrETLNotFound           also LookupError
    │   ├── ErrETLAlreadyExists
    │   └── ErrBadChecksum           content arrived, but it is not what its checksum says
    InvalidBckProvider               the call is not for buckets of this provider
    InvalidURLException              no URL of an object
    InvalidObjectRangeIndex          indices that make no range
    InvalidPipelineError             also ValueError
    ETLDirectPutTransientError       a transformer could not hand on its result, but may later (within transformers)
    Timeout                          a job took longer than the caller wanted to wait; also TimeoutError
    JobInfoNotFound                  also LookupError
    NoTargetError                    the cluster map has no active target; also LookupError
    UnexpectedHTTPStatusCode         an answer that the protocol does not foresee

Failures of the network have their own page, `aistore.transport.errors`; each of those is also the `requests` error that callers know.
`aistore.sdk.obj.obj_file.errors` holds those of file-like readers. All of them pickle.

Importing this module imports `requests`, so nothing imports it before something fails.
"""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import requests

from aistore.wire import params
from aistore.wire.errors import ETL_ERROR, ETL_LOG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "AISError",
    "AISRetryableError",
    "APIRequestError",
    "ETLDirectPutTransientError",
    "ErrBadChecksum",
    "ErrBckAlreadyExists",
    "ErrBckNotFound",
    "ErrETLAlreadyExists",
    "ErrETLInit",
    "ErrETLNotFound",
    "ErrETLTransform",
    "ErrGETConflict",
    "ErrObjNotFound",
    "ErrRemoteBckNotFound",
    "InvalidBckProvider",
    "InvalidObjectRangeIndex",
    "InvalidPipelineError",
    "InvalidURLException",
    "JobInfoNotFound",
    "NoTargetError",
    "Timeout",
    "UnexpectedHTTPStatusCode",
]


class APIRequestError(Exception):
    """A server answered a call with an error.

    `message` is the whole text of the answer (for the cluster a JSON document, see `detail`), `req_url` the URL that answered,
    redirects included, and `req` the request that was sent there.
    """

    def __init__(self, status_code: int, message: str, req_url: str, req: requests.PreparedRequest | None) -> None:
        # Subclasses are OSErrors too, whose constructor would take these for errno, strerror and file name.
        self.args = (status_code, message, req_url, req)
        self.status_code = status_code
        self.message = message
        self.req_url = req_url
        self.req = req
        self.request_id = ""
        """What the request is called in the logs of a server that says so (`X-Request-Id`); empty otherwise."""

    @property
    def detail(self) -> str:
        """The readable part of the server's message."""
        return str(self._document().get("message", self.message)).strip()

    @property
    def tcode(self) -> str:
        """Type of the error as the server names it (`ErrBckNotFound`); empty if it did not."""
        return str(self._document().get("tcode", ""))

    def _document(self) -> Mapping[str, object]:
        try:
            document = json.loads(self.message)
        except ValueError:  # a plain text
            return {}
        return document if isinstance(document, dict) else {}

    @property
    def advice(self) -> str:
        """What happened, and what the user can do about it, in a line; empty when the server's message says it all."""
        return ""

    def __str__(self) -> str:
        # The first part is what official SDKs print, and what programs look for.
        text = f"STATUS:{self.status_code}, MESSAGE:{self.message}, REQ_URL:{self.req_url}"
        if self.request_id and self.status_code >= 500:
            text += f", REQUEST_ID:{self.request_id}"
        return f"{text}\n{self.advice}" if self.advice else text

    def __reduce__(self) -> tuple[object, ...]:
        arguments = (self.status_code, self.message, self.req_url, _without_body(self.req))
        return type(self), arguments, {"request_id": self.request_id}


class AISError(APIRequestError, requests.HTTPError):
    """The cluster answered with an error. It can be caught as `requests.HTTPError` as well, and has a `response` like one."""

    def __init__(self, status_code: int, message: str, req_url: str, req: requests.PreparedRequest | None) -> None:
        super().__init__(status_code, message, req_url, req)
        self.request = req
        self.response = _answer(status_code, message, req_url, req)

    @property
    def endpoint(self) -> str:
        """Scheme, host and port that answered."""
        parts = urlsplit(self.req_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def advice(self) -> str:
        if self.status_code != 401:
            return ""
        return f"{self.detail} on {self.endpoint} (log in: AuthNClient(url).login(name, password) gives what Client(token=...) takes)"


class AISRetryableError(AISError):
    """The same call may succeed later."""


class ErrObjNotFound(AISRetryableError, FileNotFoundError):
    """The object does not exist."""

    errno = errno.ENOENT

    @property
    def advice(self) -> str:
        url = urlsplit(self.req_url)
        bucket, _, name = url.path.partition("/objects/")[2].partition("/")
        query = parse_qs(url.query)
        # Of these the server's own words tell more; what is missing is not the object.
        if not name or "uploadId" in query or self.tcode == "ErrFailedTo":
            return _advice_on_clusters(self.detail)
        member = query.get("archpath", query.get("archregx", [""]))[0]
        if member and f"/{unquote(name)} does not exist" in self.detail and " in " in self.detail:
            where = f"object {unquote(name)!r} of bucket {unquote(bucket)!r}"
            return (
                f"nothing in {where} on {self.endpoint} matches {member!r} (see bucket.list_archive({unquote(name)!r}))"
            )
        return f"object {unquote(name)!r} is not in bucket {unquote(bucket)!r} on {self.endpoint} (see bucket.list_all_objects())"


def _advice_on_clusters(detail: str) -> str:
    """What to do about a cluster that is not attached; empty for other troubles."""
    if 'remote cluster "' not in detail:
        return ""
    return f"{detail} (attach it with `ais serve --backend ais=URL`, as remais, or as [backends.ais] of the configuration names it)"


class ErrGETConflict(AISRetryableError):
    """The object is being fetched from its backend by another reader; read it again."""


class ErrBckNotFound(AISError, FileNotFoundError):
    """The bucket does not exist."""

    errno = errno.ENOENT

    @property
    def advice(self) -> str:
        return f"{self.detail} on {self.endpoint} (create it with bucket.create())"


class ErrRemoteBckNotFound(AISError, FileNotFoundError):
    """The bucket does not exist at its remote backend, or the cluster may not see it."""

    errno = errno.ENOENT

    @property
    def advice(self) -> str:
        if "backend is missing in the cluster configuration" in self.detail:
            return f"{self.detail}; {self.endpoint} has none (it is configured by `ais serve --backend`)"
        if self.detail.endswith(")"):  # it advises itself
            return self.detail
        return f"{self.detail} (check its name, and the credentials that {self.endpoint} has for that backend)"


class ErrBckAlreadyExists(AISError, FileExistsError):
    """The bucket exists, or is busy with an operation that excludes this one."""

    errno = errno.EEXIST

    @property
    def advice(self) -> str:
        if self.tcode in ("", "ErrBucketAlreadyExists"):
            return f"{self.detail} on {self.endpoint} (bucket.create(exist_ok=True) accepts that)"
        return ""


class ErrETLAlreadyExists(AISError):
    """An ETL of this name exists, in whatever stage: one that failed to start keeps its name."""

    @property
    def advice(self) -> str:
        name = _etl_in(self.detail)
        return f"{self.detail} (client.etl({name!r}).delete() makes room, `with client.etl({name!r}) as etl:` deletes it at the end)"


class ErrETLNotFound(AISError, LookupError):
    """No ETL of this name, or none that runs."""

    @property
    def advice(self) -> str:
        what = self.detail.partition(" - try")[0]
        return (
            f"{what} on {self.endpoint}: client.cluster().list_etls() has those that run, etl.start() starts one that was stopped, "
            "etl.init_class() or etl.init() a new one"
        )


class ErrETLInit(AISError):
    """An ETL did not start; `log` is the end of what it printed, `reason` what happened to it."""

    @property
    def reason(self) -> str:
        """What happened to it: `exited with status 1`."""
        return self.detail.rpartition('"] ')[2]

    @property
    def log(self) -> str:
        """The end of what it printed."""
        return self.detail.partition(", message: ")[2].rpartition(", exitCode: ")[0]

    @property
    def advice(self) -> str:
        name = self.detail.partition('etl="')[2].partition('"')[0]
        log = f", and printed:\n{self.log}" if self.log and self.log != self.reason else ""
        hints = [hint for sign, hint in _ETL_HINTS if sign in self.detail]
        again = f"Its name is taken until client.etl({name!r}).delete(), also at the end of `with client.etl({name!r}) as etl:`"
        return "\n".join((f"ETL {name!r} did not start: {self.reason}{log}", *hints, again))


_ETL_HINTS = (
    (
        "Failed to deserialize ETL class: No module named",
        "A class, or a function that it uses, of a module of your own travels by name: call cloudpickle.register_pickle_by_value(module) before "
        "init_class(). What can be installed goes into init_class(dependencies=[...])",
    ),
    (
        "pip install 'aistore-py[etl]'",
        "That is for the server's environment; HTTPMultiThreadedServer needs nothing more",
    ),
    ("/ws: ", "comm_type='ws' needs a FastAPIServer that overrides transform()"),
)


def _etl_in(detail: str) -> str:
    """The name in `etl job NAME already exists`."""
    return detail.partition("etl job ")[2].partition(" ")[0]


class ErrETLTransform(AISError, requests.exceptions.RetryError):
    """A transformer failed on an object: it raised, took too long, ended or answered nonsense; `reason` is what it said.

    It is asked once, unless a `RetryConfig` says otherwise. Programs for the official SDK, which asks again first, catch `RetryError`.
    """

    @property
    def reason(self) -> str:
        """What the transformer said, or what happened to it."""
        said = self.detail.removeprefix(ETL_ERROR).strip()
        try:
            document = json.loads(said)
        except ValueError:
            return said
        told = document.get("detail", document.get("error", said)) if isinstance(document, dict) else said
        return str(told)

    @property
    def advice(self) -> str:
        url = urlsplit(self.req_url)
        name = parse_qs(url.query).get(params.ETL_NAME, ["?"])[0]
        bucket, _, obj = url.path.partition("/objects/")[2].partition("/")
        reason = self.reason
        log = "" if ETL_LOG in reason else f" (its log: client.etl({name!r}).logs())"
        hint = ". Packages are named in init_class(dependencies=[...])" if "No module named" in reason else ""
        return f"ETL {name!r} failed on object {unquote(obj)!r} of bucket {unquote(bucket)!r}: {reason}{log}{hint}"


class ErrBadChecksum(AISError):
    """What was read, sent, or lies on the cluster's disk differs from its checksum; `status_code` is that of the answer.

    With 410 the cluster knows that the object is damaged, until it is overwritten or deleted.
    """

    @property
    def advice(self) -> str:
        if self.status_code != 410:
            return ""
        return f"{self.detail} on {self.endpoint}: what it keeps is damaged (overwrite or delete the object; `ais doctor` looks for more)"


class InvalidBckProvider(Exception):
    """The operation does not exist for buckets of this provider, or there is no such provider; `advice` says which."""

    def __init__(self, provider: object, advice: str = "") -> None:
        super().__init__(f"Invalid bucket provider: '{provider}'" + (f" ({advice})" if advice else ""))
        self.provider = provider
        self.advice = advice

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.provider, self.advice)


class InvalidURLException(Exception):
    """The text is not the URL of an object."""

    def __init__(self, url: str) -> None:
        super().__init__(f"Invalid URL: '{url}'. Ensure it follows the format 'provider://bucket/object'.")
        self.url = url

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.url,)


class InvalidObjectRangeIndex(Exception):
    """Indices of an object range contradict each other."""

    def __init__(self, message: str) -> None:
        super().__init__(f"Invalid argument provided for object range index: {message}")
        self.message = message

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message,)


class InvalidPipelineError(ValueError):
    """The members of an ETL pipeline do not fit together."""


class ETLDirectPutTransientError(Exception):
    """A transformer could not hand its result on to `url`, for the reason `cause`; the same may succeed later.

    `bail_without_local_retry` says that the transformer cannot try again itself, because the body that it read is gone.
    """

    def __init__(self, url: str, cause: BaseException | None, bail_without_local_retry: bool = False) -> None:
        super().__init__(f"direct_put to '{url}' failed with transient error: {type(cause).__name__}({cause})")
        self.url = url
        self.cause = cause
        self.bail_without_local_retry = bail_without_local_retry

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.url, self.cause, self.bail_without_local_retry)


class Timeout(TimeoutError):
    """What was waited for did not happen in time."""

    def __init__(self, action: str, message: str = "") -> None:
        super().__init__(f"Timed out while waiting for {action}. {message}")
        self.action = action
        self.message = message

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.action, self.message)


class JobInfoNotFound(LookupError):
    """The cluster tells nothing about the job."""

    def __init__(self, message: str) -> None:
        super().__init__(f"Job information not found on the cluster: {message}")
        self.message = message

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message,)


class NoTargetError(LookupError):
    """The cluster map has no target that takes requests; `total_nodes` counts those that it lists."""

    def __init__(self, total_nodes: int) -> None:
        super().__init__(f"No available targets in the cluster map. Total nodes: {total_nodes}")
        self.total_nodes = total_nodes

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.total_nodes,)


class UnexpectedHTTPStatusCode(Exception):
    """The answer has a status that the protocol does not foresee here."""

    def __init__(self, expected_status_codes: Sequence[int], received_status_code: int) -> None:
        expected = ", ".join(map(str, expected_status_codes))
        super().__init__(
            f"Unexpected status code received. Expected one of the following: {expected}, but received: {received_status_code}"
        )
        self.expected_status_codes = expected_status_codes
        self.received_status_code = received_status_code

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.expected_status_codes, self.received_status_code)


def _answer(status_code: int, message: str, url: str, request: requests.PreparedRequest | None) -> requests.Response:
    answer = requests.Response()
    answer.status_code = status_code
    answer.url = url
    answer.encoding = "utf-8"
    answer._content = message.encode("utf-8", "surrogateescape")
    if request is not None:
        answer.request = request
    return answer


def _without_body(request: requests.PreparedRequest | None) -> requests.PreparedRequest | None:
    """A request as it pickles: what was sent stays behind, which may be a stream, large, or a password, and so does what authorized it."""
    if request is None:
        return None
    lean = request.copy()
    lean.body = None
    if lean.headers is not None:
        lean.headers.pop("Authorization", None)
    return lean
