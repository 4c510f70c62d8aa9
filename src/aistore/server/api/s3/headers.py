"""What S3 says of an object in headers: entity tag, time, user metadata, and the conditions that refer to them (protocol/00 21, RFC 9110 13)."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from aistore.server.api.reading import entity_tag, http_date
from aistore.server.api.s3.errors import invalid
from aistore.server.api.writing import utf8
from aistore.server.backends.base import own_pairs, system_pairs
from aistore.wire import custom as custom_metadata
from aistore.wire.errors import ApiError
from aistore.wire.values import base36

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aistore.http1.server import Request
    from aistore.server.backends.base import RemoteObject
    from aistore.server.store.rows import ObjectRow

__all__ = [
    "COPY_SOURCE",
    "S3Dress",
    "check_conditions",
    "copy_source",
    "iso_time",
    "modified",
    "object_headers",
    "tag_of",
    "user_metadata",
]

COPY_SOURCE: Final = "x-amz-copy-source"
_META: Final = "x-amz-meta-"
_token: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII).fullmatch


def tag_of(row: ObjectRow) -> str:
    """An object's entity tag without quotes; every version has another one, also where there are no checksums."""
    return entity_tag(row) or f"v1--{base36(row.mtime)}"


def modified(custom: Mapping[str, str], mtime: int) -> float:
    """When an object was written, Unix seconds: in its backend if that tells, else `mtime` (nanoseconds)."""
    for key, parse in (("LastModified", _parse_iso), ("Last-Modified", _parse_http)):
        if key in custom and (found := parse(custom[key])) is not None:
            return found
    return mtime / 1e9


def _parse_iso(text: str) -> float | None:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return None


def _parse_http(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def iso_time(seconds: float) -> str:
    """A time as XML has it."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03}Z"


# -- metadata ------------------------------------------------------------------------------------------------------


def user_metadata(request: Request) -> dict[str, str]:
    """The pairs of `x-amz-meta-*`, as custom metadata: what native clients call `key` is `x-amz-meta-key` here. Raises `ApiError` 400."""
    pairs = {
        name[len(_META) :]: utf8(value) for name, value in request.headers.items() if name.startswith(_META) and value
    }
    # Keys that say where an object came from mean something to the server: those of users keep the prefix.
    pairs = {**own_pairs(pairs), **{_META + key: value for key, value in system_pairs(pairs).items()}}
    try:
        custom_metadata.check(pairs)
    except ApiError as error:
        raise ApiError(400, error.message, "MetadataTooLarge" if "exceeds" in error.message else "") from None
    return pairs


def _metadata_headers(custom: Mapping[str, str]) -> list[tuple[str, str]]:
    headers = [
        (key if key.startswith(_META) else _META + key.lower(), value)
        for key, value in own_pairs(custom).items()
        if _token(key)  # a native client may have used any other character
    ]
    missing = len(own_pairs(custom)) - len(headers)
    return [*headers, ("x-amz-missing-meta", str(missing))] if missing else headers


def object_headers(tag: str, seconds: float, custom: Mapping[str, str]) -> list[tuple[str, str]]:
    """Headers of an answer about an object."""
    headers = [("ETag", f'"{tag}"')] if tag else []
    headers.append(("Last-Modified", http_date(int(seconds))))
    return headers + _metadata_headers(custom) if custom else headers


class S3Dress:
    """How answers with content look to clients of S3, after the conditions of the request were checked."""

    __slots__ = ("_request",)

    def __init__(self, request: Request) -> None:
        self._request = request

    def of_row(self, row: ObjectRow) -> list[tuple[str, str]]:
        """Headers for an object of the store. Raises `ApiError` 304, 412."""
        return self._headers(tag_of(row), modified(row.custom, row.mtime), row.custom)

    def of_remote(self, found: RemoteObject) -> list[tuple[str, str]]:
        """Headers for an object that is not cached. Raises `ApiError` 304, 412."""
        return self._headers(found.custom.get("ETag", ""), modified(found.custom, time.time_ns()), found.custom)

    def _headers(self, tag: str, seconds: float, custom: Mapping[str, str]) -> list[tuple[str, str]]:
        check_conditions(self._request, tag, seconds)
        return object_headers(tag, seconds, custom)


# -- conditions ----------------------------------------------------------------------------------------------------


def check_conditions(request: Request, tag: str, seconds: float, prefix: str = "") -> None:
    """Raise `ApiError` 304 or 412 unless the conditions of a request hold for this version; `prefix` is that of their headers."""
    headers = request.headers
    if_match, if_none_match = headers.get(f"{prefix}if-match"), headers.get(f"{prefix}if-none-match")
    if if_match is not None:
        if not _names(if_match, tag):
            raise _failed(f"{prefix}if-match")
    elif (since := _time_of(request, f"{prefix}if-unmodified-since")) is not None and int(seconds) > since:
        raise _failed(f"{prefix}if-unmodified-since")
    if if_none_match is not None:
        unchanged = _names(if_none_match, tag)
    else:
        since = _time_of(request, f"{prefix}if-modified-since")
        unchanged = since is not None and int(seconds) <= since
    if not unchanged:
        return
    if prefix or request.method not in ("GET", "HEAD"):
        raise _failed(f"{prefix}if-none-match" if if_none_match is not None else f"{prefix}if-modified-since")
    raise ApiError(304, "not modified", headers=dict(object_headers(tag, seconds, {})))


def _names(value: str, tag: str) -> bool:
    """Whether a list of entity tags names this one."""
    return value.strip() == "*" or any(one.strip().removeprefix("W/").strip('"') == tag for one in value.split(","))


def _time_of(request: Request, name: str) -> float | None:
    value = request.headers.get(name)
    return _parse_http(value) if value is not None else None


def _failed(name: str) -> ApiError:
    return ApiError(412, f"the condition {name} does not hold", "PreconditionFailed")


def copy_source(request: Request) -> tuple[str, str]:
    """Names of bucket and object that a copy is made of. Raises `ApiError` 400."""
    text = request.headers[COPY_SOURCE]
    path, _, version = text.partition("?versionId=")
    try:
        bucket, slash, name = unquote(path, errors="strict").removeprefix("/").partition("/")
    except UnicodeDecodeError:
        raise invalid(f"{COPY_SOURCE}: {text[:256]!r} is not UTF-8") from None
    if not slash or not bucket or not name:
        raise invalid(f"{COPY_SOURCE}: {text[:256]!r} is not /bucket/key")
    if version not in ("", "null"):
        raise invalid(f"{COPY_SOURCE}: versions of objects are not kept")
    return bucket, name
