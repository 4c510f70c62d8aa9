"""Which call needs which rights (protocol/60 17): the one table, and which of its rows a request belongs to.

A request that belongs to no row needs what administrators have. Where several rows could be meant, all their rights are needed.
`docs/access.md` is made of the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.server.api.archive_job import ArchiveMessage
from aistore.server.api.batch import buckets_of
from aistore.server.api.copying import destination_of
from aistore.server.api.key_map import bucket_of_map
from aistore.server.api.messages import bucket_identity, reads_message
from aistore.server.api.s3.buckets import identity_of
from aistore.server.api.s3.endpoint import names_of
from aistore.server.api.s3.headers import COPY_SOURCE, copy_source
from aistore.server.api.sort import order_of
from aistore.server.backends.registry import UnknownBucket
from aistore.wire import access, actions
from aistore.wire import params as param
from aistore.wire.errors import ApiError
from aistore.wire.messages import CopyObjects, decode_value, parse_action
from aistore.wire.names import SYSTEM_BUCKETS, parse_uname
from aistore.wire.values import parse_bool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aistore.http1.server import Request
    from aistore.server.node import Node
    from aistore.wire.messages import ActionMessage
    from aistore.wire.names import BucketId

__all__ = [
    "OPEN",
    "PLAIN",
    "TABLE",
    "Need",
    "Row",
    "Wanted",
    "bits_of_object",
    "is_open",
    "rows_of",
    "wanted_of",
    "with_system",
]

# What rights are about.
CLUSTER: Final = "the cluster"
BUCKET: Final = "the bucket"
DESTINATION: Final = "the destination; CREATE-BUCKET on the cluster if it does not exist"
EACH: Final = "each bucket"
INPUT: Final = "the input"
KEY_MAP: Final = "the bucket of the key map, if that is here"
TOKEN: Final = "any valid token"  # noqa: S105  no secret


class Need(NamedTuple):
    """Rights, and on what."""

    bits: int
    of: str = BUCKET


class Row(NamedTuple):
    """A call: method, path, and what else tells it apart (an action, or a parameter)."""

    method: str
    path: str
    when: str = ""


class Wanted(NamedTuple):
    """Rights that a request needs: on a bucket, or on the cluster."""

    bits: int
    bucket: BucketId | None


_LIST = "/v1/buckets"
_BUCKET = "/v1/buckets/BUCKET"
_OBJECT = "/v1/objects/BUCKET/OBJECT"
_MOSS = "/v1/ml/moss"
_S3 = "/s3"
_S3_BUCKET = "/s3/BUCKET"
_S3_OBJECT = "/s3/BUCKET/KEY"
_CLUSTER = "/v1/cluster"
_DAEMON = "/v1/daemon"
_REVERSE = "/v1/reverse/daemon"
_ETL = "/v1/etl"
_SORT = "/v1/sort"
_TOKENS = "/v1/tokens"
_ACCESS_KEYS = "/v1/access-keys"
_SOURCE_AND_DESTINATION: Final = (Need(access.WRITE), Need(access.PUT, DESTINATION))
_ADMIN: Final = (Need(access.ADMIN, CLUSTER),)
_SHOW: Final = (Need(access.SHOW_CLUSTER, CLUSTER),)

SYSTEM: Final = f"{param.SYSTEM} (system buckets too)"
ACCESS: Final = f"{actions.SET_PROPS}: access"
BACKEND: Final = f"{actions.SET_PROPS} or {actions.CREATE_BUCKET}: backend_bck, extra"
SYNCHRONIZE: Final = f"{actions.COPY_BUCKET}, {actions.TRANSFORM_BUCKET}, {actions.COPY_OBJECTS} or {actions.TRANSFORM_OBJECTS}: synchronize"
COPY: Final = f"{param.OBJECT_TO} (copy)"
APPEND: Final = param.APPEND_TYPE
PART: Final = param.UPLOAD_ID
ARCHIVE: Final = param.ARCHPATH

TABLE: Final[dict[Row, tuple[Need, ...]]] = {
    # Objects
    Row("GET", _OBJECT): (Need(access.GET),),
    Row("HEAD", _OBJECT): (Need(access.HEAD_OBJECT),),
    Row("PUT", _OBJECT): (Need(access.PUT),),
    Row("PUT", _OBJECT, PART): (Need(access.PUT),),
    Row("PUT", _OBJECT, ARCHIVE): (Need(access.PUT),),
    Row("PUT", _OBJECT, APPEND): (Need(access.APPEND),),
    Row("PUT", _OBJECT, COPY): (Need(access.GET), Need(access.PUT, DESTINATION)),
    Row("DELETE", _OBJECT): (Need(access.DELETE_OBJECT),),
    Row("PATCH", _OBJECT): (Need(access.UPDATE_OBJECT),),
    Row("POST", _OBJECT, actions.PROMOTE): (Need(access.PROMOTE),),
    Row("POST", _OBJECT, actions.RENAME_OBJECT): (Need(access.MOVE_OBJECT),),
    Row("POST", _OBJECT, actions.BLOB_DOWNLOAD): (Need(access.WRITE),),
    Row("POST", _OBJECT, actions.MULTIPART_UPLOAD): (Need(access.WRITE),),
    Row("POST", _OBJECT, actions.MULTIPART_COMPLETE): (Need(access.WRITE),),
    Row("POST", _OBJECT, actions.MULTIPART_ABORT): (Need(access.WRITE),),
    Row("POST", _OBJECT, actions.CHECK_LOCK): (Need(access.READ),),
    Row("GET", _MOSS): (Need(access.GET, EACH),),
    # Buckets
    Row("GET", _LIST, actions.LIST): (Need(access.LIST_BUCKETS, CLUSTER),),
    Row("GET", _LIST, SYSTEM): _ADMIN,
    Row("GET", _LIST, actions.SUMMARY): (Need(access.LIST_BUCKETS, CLUSTER),),
    Row("GET", _LIST, actions.SHOW_INVENTORY): (Need(access.LIST_BUCKETS, CLUSTER),),
    Row("HEAD", _BUCKET): (Need(access.HEAD_BUCKET),),
    Row("GET", _BUCKET, actions.LIST): (Need(access.LIST_OBJECTS),),
    Row("GET", _BUCKET, actions.SUMMARY): (Need(access.HEAD_BUCKET),),
    Row("GET", _BUCKET, actions.SHOW_INVENTORY): (Need(access.HEAD_BUCKET),),
    Row("POST", _BUCKET, actions.CREATE_BUCKET): (Need(access.CREATE_BUCKET, CLUSTER),),
    Row("POST", _BUCKET, actions.MOVE_BUCKET): (Need(access.MOVE_BUCKET),),
    Row("POST", _BUCKET, actions.COPY_BUCKET): _SOURCE_AND_DESTINATION,
    Row("POST", _BUCKET, actions.TRANSFORM_BUCKET): _SOURCE_AND_DESTINATION,
    Row("POST", _BUCKET, actions.COPY_OBJECTS): _SOURCE_AND_DESTINATION,
    Row("POST", _BUCKET, actions.TRANSFORM_OBJECTS): _SOURCE_AND_DESTINATION,
    Row("POST", _BUCKET, SYNCHRONIZE): (Need(access.DELETE_OBJECT, DESTINATION),),
    Row("POST", _BUCKET, actions.PREFETCH_OBJECTS): (Need(access.WRITE),),
    Row("POST", _BUCKET, actions.MAKE_COPIES): (Need(access.WRITE),),
    Row("POST", _BUCKET, actions.EC_ENCODE): (Need(access.WRITE),),
    Row("POST", _BUCKET, actions.RECHUNK): (Need(access.WRITE),),
    Row("POST", _BUCKET, actions.CREATE_INVENTORY): _ADMIN,
    Row("POST", _BUCKET, actions.INDEX_SHARD): _ADMIN,
    Row("PUT", _BUCKET, actions.ARCHIVE): _SOURCE_AND_DESTINATION,
    Row("PATCH", _BUCKET, actions.SET_PROPS): (Need(access.PATCH),),
    Row("PATCH", _BUCKET, ACCESS): (Need(access.PATCH | access.SET_BUCKET_ACL),),
    Row("PATCH", _BUCKET, actions.RESET_PROPS): (Need(access.PATCH | access.SET_BUCKET_ACL),),
    Row("PATCH, POST", _BUCKET, BACKEND): _ADMIN,
    Row("DELETE", _BUCKET, actions.DESTROY_BUCKET): (Need(access.DESTROY_BUCKET),),
    Row("DELETE", _BUCKET, actions.EVICT_BUCKET): (Need(access.DESTROY_BUCKET),),
    Row("DELETE", _BUCKET, actions.DELETE_OBJECTS): (Need(access.DELETE_OBJECT),),
    Row("DELETE", _BUCKET, actions.EVICT_OBJECTS): (Need(access.DELETE_OBJECT),),
    Row("DELETE", _BUCKET, actions.DESTROY_INVENTORY): _ADMIN,
    # The cluster, its nodes and its jobs
    Row("GET", _CLUSTER): _SHOW,
    Row("PUT", _CLUSTER): _ADMIN,
    Row("GET", _DAEMON): _SHOW,
    Row("PUT", _DAEMON): _ADMIN,
    Row("GET", _REVERSE): _SHOW,
    Row("PUT", _REVERSE): _ADMIN,
    Row("GET", _ETL): _ADMIN,
    Row("PUT", _ETL): _ADMIN,
    Row("POST", _ETL): _ADMIN,
    Row("DELETE", _ETL): _ADMIN,
    Row("GET", _SORT): _ADMIN,
    Row("POST", _SORT): (
        *_ADMIN,
        Need(access.GET | access.LIST_OBJECTS, INPUT),
        Need(access.PUT, DESTINATION),
        Need(access.GET, KEY_MAP),
    ),
    Row("DELETE", _SORT): _ADMIN,
    Row("POST", _TOKENS): (Need(0, TOKEN),),
    Row("DELETE", _TOKENS): _ADMIN,
    Row("PUT", _ACCESS_KEYS): _ADMIN,
    # The S3 endpoint
    Row("GET", _S3): (Need(access.LIST_BUCKETS, CLUSTER),),
    Row("PUT", _S3_BUCKET): (Need(access.CREATE_BUCKET, CLUSTER),),
    Row("PUT", _S3_BUCKET, "versioning"): (Need(access.PATCH),),
    Row("DELETE", _S3_BUCKET): (Need(access.DESTROY_BUCKET),),
    Row("HEAD", _S3_BUCKET): (Need(access.HEAD_BUCKET),),
    Row("GET", _S3_BUCKET): (Need(access.LIST_OBJECTS),),
    Row("GET", _S3_BUCKET, "location, versioning"): (Need(access.HEAD_BUCKET),),
    Row("GET", _S3_BUCKET, "uploads"): (Need(access.GET),),
    Row("POST", _S3_BUCKET, "delete"): (Need(access.DELETE_OBJECT),),
    Row("GET", _S3_OBJECT): (Need(access.GET),),
    Row("HEAD", _S3_OBJECT): (Need(access.HEAD_OBJECT),),
    Row("PUT", _S3_OBJECT): (Need(access.PUT),),
    Row("PUT", _S3_OBJECT, COPY_SOURCE): (Need(access.PUT), Need(access.GET, "the bucket of the source")),
    Row("POST", _S3_OBJECT, "uploads, uploadId"): (Need(access.PUT),),
    Row("DELETE", _S3_OBJECT): (Need(access.DELETE_OBJECT),),
}

UNKNOWN: Final = _ADMIN

PLAIN: Final = {row.method: needs[0].bits for row, needs in TABLE.items() if row.path == _OBJECT and not row.when}
"""The rights of calls on objects that their method alone tells."""

OPEN: Final = {
    "/v1/health": "whether the server is up",
    "/metrics": "counters",
    "/favicon.ico": "nothing",
    "/v1/etl/_object": "what transformers ask for; they show the secret of their ETL",
}
"""Paths that need no token, and what they give."""

_ETL_OBJECTS: Final = "/v1/etl/_object/"


def is_open(request: Request) -> bool:
    """Whether a request needs no token."""
    path = request.path
    return path in OPEN or path.startswith(_ETL_OBJECTS) or (path == "*" and request.method == "OPTIONS")


def rows_of(request: Request, message: ActionMessage | None) -> list[Row]:
    """The rows that a request belongs to; those that the table does not have are the unknown ones."""
    path, method = request.path, request.method
    if path.startswith("/v1/objects/"):
        return _of_object(request, message)
    if path == "/s3" or path.startswith("/s3/"):
        return _of_s3(request)
    if path == _LIST or path.startswith(f"{_LIST}/"):
        return _of_bucket(request, message)
    for resource in (_CLUSTER, _DAEMON, _REVERSE, _ETL, _SORT, _MOSS):
        if path == resource or path.startswith(f"{resource}/"):
            return [Row(method, resource)]
    return [Row(method, path)]


def _of_object(request: Request, message: ActionMessage | None) -> list[Row]:
    method = request.method
    if method == "POST":
        return [Row(method, _OBJECT, message.action if message is not None else "")]
    if method != "PUT" or not request.query:
        return [Row(method, _OBJECT)]
    params = request.params
    found = [
        Row(method, _OBJECT, when)
        for when, name in (
            (COPY, param.OBJECT_TO),
            (PART, param.UPLOAD_ID),
            (ARCHIVE, param.ARCHPATH),
            (APPEND, APPEND),
        )
        if params.get(name)
    ]
    return found or [Row(method, _OBJECT)]


def _of_bucket(request: Request, message: ActionMessage | None) -> list[Row]:
    method = request.method
    name = _name_in(request)
    if method == "HEAD":
        return [Row(method, _BUCKET)]
    action = message.action if message is not None else ""
    value = message.value if message is not None else None
    # A name behind `/v1/buckets` alone is no bucket to list objects of: it chooses among buckets (protocol/10 3).
    if not name or (method == "GET" and action == actions.LIST and value is None):
        rows = [Row(method, _LIST, action)]
        if action == actions.LIST and parse_bool(request.params.get(param.SYSTEM, "")):
            rows.append(Row(method, _LIST, SYSTEM))
        return rows
    rows = [Row(method, _BUCKET, action)]
    if action in (actions.SET_PROPS, actions.CREATE_BUCKET):
        changed = {key.partition(".")[0] for key in _keys(value)}
        if "access" in changed and action == actions.SET_PROPS:
            rows.append(Row(method, _BUCKET, ACCESS))
        if changed & {"backend_bck", "extra", "provider"}:
            rows.append(Row("PATCH, POST", _BUCKET, BACKEND))
    if (
        action in _DESTINATIONS
        and isinstance(value, dict)
        and any(value[key] for key in value if str(key).lower() == "synchronize")
    ):
        rows.append(Row(method, _BUCKET, SYNCHRONIZE))  # what has no original is deleted there
    return rows


def _keys(value: object) -> Iterator[str]:
    """All names in a document, which are read without regard to case."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key).lower()
            yield from _keys(inner)


def _of_s3(request: Request) -> list[Row]:
    method, params = request.method, request.params
    bucket, key = _s3_names(request)
    if not bucket:
        return [Row(method, _S3)]
    if key:
        if method == "PUT" and COPY_SOURCE in request.headers:
            return [Row(method, _S3_OBJECT, COPY_SOURCE)]
        return [Row(method, _S3_OBJECT, "uploads, uploadId" if method == "POST" else "")]
    if method == "GET":
        rows = [
            Row(method, _S3_BUCKET, when)
            for when, names in (("uploads", ("uploads",)), ("location, versioning", ("location", "versioning")))
            if any(name in params for name in names)
        ]
        return rows or [Row(method, _S3_BUCKET)]
    if method == "PUT" and "versioning" in params:
        return [Row(method, _S3_BUCKET, "versioning")]
    return [Row(method, _S3_BUCKET, "delete" if method == "POST" else "")]


def _s3_names(request: Request) -> tuple[str, str]:
    return names_of(request.path[1:].partition("/")[2])


# -- what the rows of a request need --


def bits_of_object(request: Request) -> int:
    """The rights that a call on an object needs on its bucket alone: one without a message, and without a destination."""
    if not request.query or request.method != "PUT":
        return PLAIN.get(request.method, UNKNOWN[0].bits)
    bits = 0
    for row in _of_object(request, None):
        for need in TABLE.get(row, UNKNOWN):
            bits |= need.bits
    return bits


def wanted_of(node: Node, request: Request) -> list[Wanted]:
    """The rights that a request needs; its message, if it has one, has been read. Raises `ApiError` 400, 404."""
    message = _message_of(node, request)
    found: list[Wanted] = []
    for row in rows_of(request, message):
        for need in TABLE.get(row, UNKNOWN):
            found += _resolve(node, request, row, need, message)
    if _named(request, message) in SYSTEM_BUCKETS:  # one that is not there yet, too
        found.append(Wanted(access.ADMIN, None))
    return found


def _named(request: Request, message: ActionMessage | None) -> str:
    """The bucket that a call makes or is about, by its name alone."""
    if request.path.startswith(f"{_S3}/"):
        return _s3_names(request)[0]
    if not request.path.startswith(f"{_LIST}/"):
        return ""
    if message is not None and message.action == actions.MOVE_BUCKET:
        return destination_of(request).name
    return _name_in(request)


def _message_of(node: Node, request: Request) -> ActionMessage | None:
    if not request.path.startswith(("/v1/objects/", _LIST)) or not reads_message(request.method, request.path):
        return None
    body = request.content or b""
    if request.method == "GET":
        from aistore.server.api.buckets import message_of_get

        return message_of_get(node, request, body, _name_in(request))
    return parse_action(body, request.method, node.gateway_name)


def _resolve(node: Node, request: Request, row: Row, need: Need, message: ActionMessage | None) -> list[Wanted]:
    if need.of in (CLUSTER, TOKEN):
        return [Wanted(need.bits, None)]
    if need.of == EACH:
        return [Wanted(need.bits, one) for one in _batch_buckets(request)]
    if row.path == _SORT:
        return _of_sort(node, request, need)
    if need.of == DESTINATION:
        return [_destination(node, _destination_of(node, request, message), need.bits)]
    if need.of == BUCKET:
        return [Wanted(need.bits, _bucket_of(node, request, row))]
    return [Wanted(need.bits, identity_of(node, copy_source(request)[0]))]


def _bucket_of(node: Node, request: Request, row: Row) -> BucketId:
    if row.path in (_S3_BUCKET, _S3_OBJECT):
        return identity_of(node, _s3_names(request)[0])
    return bucket_identity(_name_in(request), request)


def _name_in(request: Request) -> str:
    """The bucket that a native path names."""
    return request.path.removeprefix("/v1/").partition("/")[2].removeprefix("/").partition("/")[0]


def _batch_buckets(request: Request) -> list[BucketId]:
    return buckets_of(request, request.content or b"")


def _of_sort(node: Node, request: Request, need: Need) -> list[Wanted]:
    order = order_of(node, request.content or b"")
    if need.of == DESTINATION:
        return [_destination(node, order.target, need.bits)]
    if need.of == INPUT:
        return [Wanted(need.bits, order.source)]
    bucket = bucket_of_map(node, order, request.headers.get("host", "")) if order.key_map else None
    return [] if bucket is None else [Wanted(need.bits, bucket)]


def _destination_of(node: Node, request: Request, message: ActionMessage | None) -> BucketId:
    return _DESTINATIONS.get(message.action if message is not None else "", _of_object_to)(node, request, message)


def _destination(node: Node, identity: BucketId, bits: int) -> Wanted:
    identity = node.backends.resolve(identity)
    try:
        node.find(identity)
    except UnknownBucket:  # it is registered by being written to
        return Wanted(bits, identity)
    except ApiError as error:
        if error.status != 404:
            raise
        return Wanted(with_system(Wanted(access.CREATE_BUCKET, identity)).bits, None)
    return Wanted(bits, identity)


def _of_object_to(node: Node, request: Request, message: ActionMessage | None) -> BucketId:  # noqa: ARG001  as the others
    return parse_uname(request.params[param.OBJECT_TO])[0]


def _of_query(node: Node, request: Request, message: ActionMessage | None) -> BucketId:  # noqa: ARG001  as the others
    return destination_of(request)


def _of_value(node: Node, request: Request, message: ActionMessage | None) -> BucketId:  # noqa: ARG001  as the others
    assert message is not None
    kind: type[CopyObjects | ArchiveMessage] = ArchiveMessage if message.action == actions.ARCHIVE else CopyObjects
    found = decode_value(message.value, kind, message.action, node.gateway_name).tobck
    if found is None:
        raise ApiError(400, "bucket name is missing")
    return found.bucket_id()


_DESTINATIONS: Final[dict[str, Callable[..., BucketId]]] = {
    actions.COPY_BUCKET: _of_query,
    actions.TRANSFORM_BUCKET: _of_query,
    actions.COPY_OBJECTS: _of_value,
    actions.TRANSFORM_OBJECTS: _of_value,
    actions.ARCHIVE: _of_value,
}


def with_system(wanted: Wanted) -> Wanted:
    """System buckets need what administrators have, besides (protocol/60 15.4)."""
    if wanted.bucket is not None and wanted.bucket.name in SYSTEM_BUCKETS:
        return Wanted(wanted.bits | access.ADMIN, wanted.bucket)
    return wanted
