"""Calls on one object (protocol/20)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls.query import encode_query, extend
from aistore.transport.request import Request
from aistore.wire import headers, params

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aistore.calls.bucket_ref import BucketRef
    from aistore.calls.steps import Answer, Steps
    from aistore.http1.payload import Body

__all__ = [
    "ALL_PROPS",
    "append",
    "blob_download",
    "copy",
    "custom_headers",
    "delete",
    "head",
    "head_request",
    "patch",
    "promote",
    "put",
]

ALL_PROPS = "checksum,atime,version,copies,ec,custom,location,chunked,last-modified,etag"
"""Everything that a selective HEAD can tell (protocol/20 5.3); servers before 4.2 answer with all that they know."""

_APPEND_HANDLE = headers.APPEND_HANDLE.lower()
_ALL_PROPS_QUERY = encode_query({params.PROPS: ALL_PROPS})


def head_request(path: str, query: str, props: str = "") -> Request:
    """The request for attributes of the object at `path`: all of them unless `props` names some."""
    wanted = encode_query({params.PROPS: props}) if props else _ALL_PROPS_QUERY
    return Request("HEAD", path, f"{query}&{wanted}")


def head(path: str, query: str, props: str = "") -> Steps[Answer]:
    """Attributes of the object, in headers."""
    return (yield head_request(path, query, props))


def delete(path: str, query: str) -> Steps[Answer]:
    """Delete the object."""
    return (yield Request("DELETE", path, query))


def blob_download(
    ref: BucketRef, name: str, chunk_size: int | None, num_workers: int | None, latest: bool
) -> Steps[str]:
    """Bring a large remote object into the cluster, in ranges side by side; returns the id of the job, empty if there is nothing to do."""
    from aistore.wire import actions
    from aistore.wire.messages import encode_action

    value: dict[str, object] = {"latest-ver": latest}
    if chunk_size:
        value["chunk-size"] = chunk_size
    if num_workers:
        value["num-workers"] = num_workers
    body = encode_action(actions.BLOB_DOWNLOAD, name, value)
    answer = yield Request("POST", ref.objects.rstrip("/"), ref.query, body=body)
    return answer.content.decode()


def put(path: str, query: str, content: Body, custom_metadata: Mapping[str, str] | None = None) -> Request:
    """The request that stores `content`, with custom metadata or without."""
    lines = custom_headers(custom_metadata) if custom_metadata else ()
    return Request("PUT", path, query, lines, content)


def custom_headers(custom_metadata: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Header lines of custom metadata. Raises ValueError for what does not fit into one: control characters, an empty key, `=` in a key."""
    lines = []
    for key, value in custom_metadata.items():
        line = f"{key}={value}"
        if not key or "=" in key or any(ord(char) < 32 or ord(char) == 127 for char in line):
            raise ValueError(
                f"custom metadata {key!r}: {value!r} cannot be sent with the content: "
                "keys must not be empty or contain '=', and neither may contain control characters"
            )
        lines.append((headers.CUSTOM_MD, line))
    return tuple(lines)


def append(path: str, query: str, content: Body, handle: str, flush: bool) -> Steps[str]:
    """Append to the object, or with `flush` finish an append; returns the handle of the next call, empty after a flush."""
    operation = {params.APPEND_TYPE: "flush" if flush else "append", params.APPEND_HANDLE: handle}
    answer = yield Request("PUT", path, extend(query, **operation), body=content)
    return answer.headers.get(_APPEND_HANDLE, "")


def patch(path: str, query: str, custom_metadata: Mapping[str, str], replace_existing: bool) -> Steps[Answer]:
    """Change the object's custom metadata: add and overwrite pairs, or replace all of them."""
    from aistore.wire.messages import encode_action

    if replace_existing:
        query = extend(query, **{params.SET_NEW_CUSTOM: "true"})
    return (yield Request("PATCH", path, query, body=encode_action("", value=dict(custom_metadata))))


def copy(path: str, query: str, to: str, parameters: Mapping[str, object], latest: bool, sync: bool) -> Steps[Answer]:
    """Copy the object to the unique name `to`; `parameters` name a transformation on the way."""
    more = {params.OBJECT_TO: to, params.LATEST_VER: _flag(latest), params.SYNCHRONIZE: _flag(sync), **parameters}
    return (yield Request("PUT", path, extend(query, **more)))


def _flag(value: bool) -> str:
    return "true" if value else "false"


def promote(
    ref: BucketRef,
    name: str,
    path: str,
    target_id: str,
    recursive: bool,
    overwrite: bool,
    delete_source: bool,
    unshared: bool,
) -> Steps[str]:
    """Make objects of files that the server reaches; returns the id of the job that does, empty if it is done."""
    from aistore.wire import actions
    from aistore.wire.messages import encode_action

    value = {
        "tid": target_id, "src": path, "obj": name, "rcr": recursive, "ovw": overwrite, "dls": delete_source, "notshr": unshared,
    }  # fmt: skip
    answer = yield Request("POST", ref.objects.rstrip("/"), ref.query, body=encode_action(actions.PROMOTE, path, value))
    return answer.content.decode()
