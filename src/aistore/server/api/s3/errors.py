"""Errors of the S3 endpoint: the codes that clients of S3 act on, and the XML that carries them (protocol/00 21)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aistore.http1.message import Reply
from aistore.server.api.s3.xml import XML, document, element, leaf
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from aistore.http1.server import Request

__all__ = ["error_element", "invalid", "is_s3", "no_such_key", "not_built", "refusal"]

# By the reference's type of an error: code, and the status that S3 gives it where that is another one.
_CODES: Final[dict[str, tuple[str, int]]] = {
    "ErrBckNotFound": ("NoSuchBucket", 404),
    "ErrRemoteBckNotFound": ("NoSuchBucket", 404),
    "ErrNotFound": ("NoSuchKey", 404),
    "ErrBucketAlreadyExists": ("BucketAlreadyExists", 409),
    "ErrBucketAccessDenied": ("AccessDenied", 403),
    "ErrBadCksum": ("BadDigest", 400),
    "ErrRangeNotSatisfiable": ("InvalidRange", 416),
    "ErrUnsupp": ("NotImplemented", 501),
    "ErrNotImpl": ("NotImplemented", 501),
    "ErrBusy": ("OperationAborted", 409),
    "errInvalidPath": ("InvalidArgument", 400),
}
_BY_STATUS: Final = {
    400: "InvalidRequest",
    401: "AccessDenied",
    403: "AccessDenied",
    404: "NoSuchKey",
    405: "MethodNotAllowed",
    409: "OperationAborted",
    412: "PreconditionFailed",
    413: "EntityTooLarge",
    416: "InvalidRange",
    429: "SlowDown",
    501: "NotImplemented",
    503: "ServiceUnavailable",
    507: "InsufficientStorage",
}
_NO_BODY: Final = 304
_REQUEST_ID: Final = "x-amz-request-id"  # where clients of S3 look


def is_s3(path: str) -> bool:
    """Whether a path belongs to the S3 endpoint."""
    return path.startswith("/s3") and path[3:4] in ("", "/")


def refusal(request: Request, error: ApiError, *, request_id: str, close: bool = False) -> Reply:
    """The answer for an error, with what the request is called in the log."""
    if error.status == _NO_BODY:
        return Reply(error.status, [*error.headers.items(), (_REQUEST_ID, request_id)], close=close)
    code, status = code_of(error)
    body = document(
        "Error",
        leaf("Code", code),
        leaf("Message", error.message),
        "<Resource></Resource><RequestId></RequestId>",
        namespace=False,
    )
    headers = [("Content-Type", XML), (_REQUEST_ID, request_id), *error.headers.items()]
    if request.method == "HEAD":
        return Reply(status, [*headers, ("Content-Length", str(len(body)))], close=close)
    return Reply(status, headers, body, close=close)


def code_of(error: ApiError) -> tuple[str, int]:
    """Code and status of an error; one raised for this endpoint names its code itself."""
    known = _CODES.get(error.tcode)
    if known is not None:
        return known
    if error.tcode and not error.tcode.startswith(("Err", "err")):
        return error.tcode, error.status
    return _BY_STATUS.get(error.status, "InternalError" if error.status >= 500 else "InvalidRequest"), error.status


def error_element(key: str, error: ApiError) -> str:
    """What an answer about many objects says of one that failed."""
    return element("Error", leaf("Key", key), leaf("Code", code_of(error)[0]), leaf("Message", error.message))


def invalid(what: str) -> ApiError:
    """A parameter or header that makes no sense."""
    return ApiError(400, what, "InvalidArgument")


def not_built(what: str) -> ApiError:
    """A part of S3 that this server does not have."""
    return ApiError(501, f"{what} is not supported", "NotImplemented")


def no_such_key(node_name: str, cname: str) -> ApiError:
    """An object that is not there."""
    return ApiError(404, f"{node_name}: {cname} does not exist", "NoSuchKey")
