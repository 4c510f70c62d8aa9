"""Errors of the protocol: what a server answers, and how a client reads it (protocol/00 8, protocol/20 17)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

# Where a client finds the error of a HEAD, which has no body.
ERROR_HEADER = "Hdr-Error"


class ApiError(Exception):
    """A refusal with its HTTP status; the server turns it into the error body, `headers` go with the answer.

    `tcode` is the reference's error type (`ErrBckNotFound`), empty for plain texts. `call` is method and path that the error
    document shows instead of the request's, where the reference's error comes from a call of its own to another node.
    """

    def __init__(
        self,
        status: int,
        message: str,
        tcode: str = "",
        headers: Mapping[str, str] | None = None,
        call: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, tcode)
        self.status = status
        self.message = message
        self.tcode = tcode
        self.headers: Mapping[str, str] = headers or {}
        self.call = call

    def __str__(self) -> str:
        return f"{self.status}: {self.message}"


class ErrorBody(msgspec.Struct):
    """The JSON error document; the order of its fields is part of the protocol (protocol/00 8.1)."""

    tcode: str | msgspec.UnsetType = msgspec.UNSET
    message: str = ""
    method: str = ""
    url_path: str = ""
    remote_addr: str = ""
    caller: str = ""
    node: str = ""
    status: int = 0


def error_body(err: ApiError, method: str, url_path: str, remote_addr: str, caller: str, node: str) -> bytes:
    """Encode the error document, final newline included.

    `url_path` is the decoded path without query, `node` the printed node (`p[id]`).
    """
    if err.call is not None:
        method, url_path = err.call
    document = ErrorBody(
        err.tcode or msgspec.UNSET, err.message, method, url_path, remote_addr, caller, node, err.status
    )
    try:
        return msgspec.json.encode(document) + b"\n"
    except UnicodeEncodeError:  # a name that is no UTF-8 was decoded with surrogates
        for field in ("message", "url_path", "caller"):
            setattr(document, field, getattr(document, field).encode("utf-8", "replace").decode())
        return msgspec.json.encode(document) + b"\n"


# -- what a server says; the texts matter, clients classify by them (protocol/00 8.4) --


def bucket_not_found(cname: str) -> ApiError:
    return ApiError(404, f'bucket "{cname}" does not exist', "ErrBckNotFound")


def bucket_exists(cname: str, status: int = 409) -> ApiError:
    """`status` is 409 for a create and 400 for a rename onto an existing bucket."""
    return ApiError(status, f'bucket "{cname}" already exists', "ErrBucketAlreadyExists")


def backend_missing(node: str, cname: str, backend: str) -> ApiError:
    """A bucket of a cloud provider that is not configured; `backend` as in `names.BACKENDS`."""
    message = f"{node}: failed to lookup bucket {cname}, err: {backend} backend is missing in the cluster configuration"
    return ApiError(404, message, "ErrFailedTo")


def remote_cluster_missing(node: str, cname: str, uuid: str, bucket: str) -> ApiError:
    """A bucket in a cluster that is not attached; the reference finds out by a HEAD of the bucket."""
    message = f'{node}: failed to HEAD remote bucket {cname}, err: {node}: remote cluster "{uuid}" does not exist'
    return ApiError(404, message, "ErrFailedTo", call=("HEAD", f"/v1/buckets/{bucket}"))


def object_not_found(node: str, cname: str) -> ApiError:
    return ApiError(404, f"{node}: {cname} does not exist", "ErrNotFound")


def object_gone(cname: str) -> ApiError:
    """The answer to DELETE of a missing object, worded differently from all others (protocol/20 17)."""
    return ApiError(404, f"{cname} doesn't exist")


def invalid_object_name(name: str) -> ApiError:
    shown = name if len(name) <= 300 else name[:300] + "..."
    return ApiError(400, f'invalid object name "{shown}"', "errInvalidPath")


def access_denied(cname: str, bid: int, operation: str, allowed: str) -> ApiError:
    """The bucket's `access` bits forbid `operation`; `allowed` is the comma-separated list of what they allow."""
    return ApiError(
        403,
        f"bucket {cname}(0x{bid & 0xFFF:x}): {operation} access denied (allowed: [{allowed}])",
        "ErrBucketAccessDenied",
    )


def bad_checksum(kind: str, got: str, expected: str, cname: str) -> ApiError:
    return damaged(f"{kind}({got} != {expected})", cname, status=500)


def damaged(reason: str, cname: str, *, status: int = 410) -> ApiError:
    """An object whose content is known not to be what was stored: what the reference removes, so that it says 404 (protocol/20 16)."""
    return ApiError(status, f"BAD DATA CHECKSUM: {reason} (context: {cname})", "ErrBadCksum")


def unsupported(action: str, what: str) -> ApiError:
    return ApiError(501, f"cannot {action} {what} - operation not supported", "ErrUnsupp")


def not_implemented(action: str, what: str) -> ApiError:
    return ApiError(501, f"cannot {action} {what} - not implemented yet", "ErrNotImpl")


def invalid_action(action: str, detail: str = "") -> ApiError:
    return ApiError(400, f'invalid action "{action}"{detail}')


def not_remote(action: str, cname: str) -> ApiError:
    """`action` is only for remote buckets (protocol/10 6, 23)."""
    return ApiError(400, f"{action}: expecting remote bucket (have {cname})", "ErrNotRemoteBck")


def out_of_space(detail: str) -> ApiError:
    return ApiError(507, f"out of space: {detail}", "ErrCapExceeded")


def url_too_short(path: str, expected: int, got: int) -> ApiError:
    """`path` is the decoded path without leading slashes (protocol/00 2.3)."""
    return ApiError(400, f"URL '{path}' is too short: expected {expected} items, got {got}")


def invalid_request_uri(method: str, uri: str, remote_addr: str) -> ApiError:
    """No such resource: 400, not 404 (protocol/00 2.3)."""
    return ApiError(400, f"invalid request URI: '{method} {uri}' from {remote_addr}")


def unmarshal_failed(node: str, what: str, go_type: str, detail: str) -> ApiError:
    """A message or its value could not be decoded (protocol/00 3)."""
    return ApiError(400, f"{node}: failed to unmarshal {what} ({go_type}), err: {detail}")


# -- what a client makes of it (protocol/00 8.5) --

ErrorKind = Literal[
    "bucket-not-found",
    "remote-bucket-not-found",
    "object-not-found",
    "bucket-exists",
    "etl-not-found",
    "etl-exists",
    "get-conflict",
    "other",
]

ETL_ERROR = "ETL error: "
"""What stands before the answer of a transformer that failed (protocol/50 6.4)."""

ETL_LOG = "\nlog of ETL "
"""What stands, with the ETL's name, before the end of its log."""

BUCKET_REFERENCE = r"(ais|aws|azure|gcp|oci|gs|s3)://([A-Za-z0-9@#._-]{1,132})(/|[^A-Za-z0-9@#._-]|\Z)"


def classify(status: int, method: str, text: str) -> ErrorKind:
    """Say what an error answer means, from its whole text, as the official SDK does; `method` is that of the last hop."""
    if status not in (404, 409):
        return "other"
    found = re.search(BUCKET_REFERENCE, text)
    names_object = found is not None and found[3] == "/"
    if status == 409:
        if method == "GET":
            return "get-conflict"
        if "etl job" in text:
            return "etl-exists"
        return "bucket-exists" if found and not names_object else "other"
    if "etl job" in text:
        return "etl-not-found"
    if found is None:
        return "other"
    if names_object:
        return "object-not-found"
    return "remote-bucket-not-found" if found[1] != "ais" or "@" in found[2] else "bucket-not-found"
