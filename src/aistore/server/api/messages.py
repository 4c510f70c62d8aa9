"""What the control calls share: reading a message, and answers in JSON and as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from aistore.http1.message import Reply
from aistore.wire import params as param
from aistore.wire.errors import ApiError, url_too_short
from aistore.wire.headers import JSON_UTF8, TEXT
from aistore.wire.messages import ActionMessage, parse_action
from aistore.wire.names import parse_bucket
from aistore.wire.props import encode_wire

if TYPE_CHECKING:
    from aistore.http1.server import Request
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.wire.names import BucketId

__all__ = [
    "ALL_METHODS",
    "OK",
    "bucket_name",
    "job_reply",
    "json_reply",
    "method_refused",
    "read_action",
    "read_message",
    "reads_message",
    "text_reply",
]

ALL_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
OK: Final = Reply(200)

_MESSAGE_MAX: Final = 32 << 20  # a list of a million names fits


def reads_message(method: str, path: str) -> bool:
    """Whether the body of a call says what it does, and to which buckets: of one that is sent on, it counts as much as the path."""
    if path.startswith("/v1/objects/"):
        return method == "POST"
    if path == "/v1/buckets" or path.startswith("/v1/buckets/"):
        return method != "HEAD"
    if path.startswith("/v1/ml/") or (path == "/v1/tokens" and method == "DELETE"):
        return True
    return method == "POST" and path.rstrip("/") == "/v1/sort"


async def read_message(request: Request) -> bytes:
    """The request's body; `ValueError` (413) beyond 32 MiB."""
    return request.content if request.content is not None else await request.read(_MESSAGE_MAX)


async def read_action(node: Node, request: Request) -> ActionMessage:
    """The action message of a call that needs one. Raises ApiError 400."""
    return parse_action(await read_message(request), request.method, node.gateway_name)


def json_reply(request: Request, document: object, content_type: str = JSON_UTF8) -> Reply:
    """A JSON answer with its final newline, indented for browsers (protocol/00 4.1). `document` may be encoded already."""
    body = document if isinstance(document, bytes) else encode_wire(document)
    headers = [("Content-Type", content_type)]
    if request.headers.get("user-agent", "").startswith("Mozilla/5.0"):
        body = msgspec.json.format(body, indent=4)
        headers.append(("Strict-Transport-Security", "max-age=31536000; includeSubDomains"))
    return Reply(200, headers, body + b"\n")


def text_reply(text: str) -> Reply:
    """A plain answer such as a job id: no quotes, no newline."""
    return Reply(200, [("Content-Type", TEXT)], text.encode())


async def job_reply(job: Job) -> Reply:
    """The id of a job, once that is noted: whoever learned of a job can ask for it after a crash."""
    await job.noted()
    return text_reply(job.id)


def method_refused(request: Request, allow: str) -> Reply:
    """405 for a method that a resource does not have, 200 for OPTIONS (protocol/00 2.4): the one error that is not JSON."""
    if request.method == "OPTIONS":
        return Reply(200, [("Allow", allow)])
    known = allow if request.method in ALL_METHODS else ""
    headers = [("Allow", known), ("Content-Type", TEXT), ("X-Content-Type-Options", "nosniff")]
    if request.method == "HEAD":
        return Reply(405, [*headers, ("Content-Length", "19")])
    return Reply(405, headers, b"Method Not Allowed\n")


def bucket_name(request: Request, tail: str) -> str:
    """The bucket that a path names behind `/v1/buckets`; raises ApiError 400 if it names none."""
    name = tail.removeprefix("/")
    if not name:
        raise url_too_short(request.path.lstrip("/"), 3, 2)
    return name


def bucket_identity(name: str, request: Request) -> BucketId:
    """The bucket that path and query name, validated; raises ApiError 400. The reference does not decode the provider (protocol/00 5.1)."""
    params = request.params
    return parse_bucket(name, params.raw.get(param.PROVIDER, ""), params.get(param.NAMESPACE, ""))


def refuse_bad_query(request: Request) -> None:
    """Raise ApiError 400 for a query with a bad escape."""
    bad = request.params.bad
    if bad is not None:
        escape = bad[bad.index("%") :][:3]
        raise ApiError(400, f"dpq: '{bad}', err: invalid URL escape \"{escape}\"")
