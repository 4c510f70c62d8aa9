"""GET and HEAD of an object (protocol/20 4, 5)."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import contextmanager
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

from aistore.http1.message import FilePart, Reply, printable
from aistore.server.api.archive_reading import archive_query, read_from_archive
from aistore.server.store.content import hash_file, in_thread
from aistore.server.store.errors import ContentDamaged
from aistore.server.store.verifying import is_summed
from aistore.wire import headers as header
from aistore.wire import params as param
from aistore.wire.checksum import digest
from aistore.wire.custom import format_lines
from aistore.wire.errors import ApiError, damaged, object_not_found, unsupported
from aistore.wire.ranges import parse_range
from aistore.wire.values import SECOND, base36, parse_bool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aistore.http1.server import Request, Result
    from aistore.server.backends.base import RemoteObject
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket, ObjectRow
    from aistore.server.store.verifying import Verifier
    from aistore.wire.names import BucketId

__all__ = [
    "Dress",
    "entity_tag",
    "get",
    "head",
    "namespace_headers",
    "object_headers",
    "part_of_file",
    "send_checked",
    "wanted_props",
]

_BLOB_DOWNLOAD: Final = header.BLOB_DOWNLOAD.lower()
_PARTIAL: Final = (
    b"HTTP/1.1 206 Partial Content\r\nContent-Type: application/octet-stream\r\n%b%d\r\n"
    b"Accept-Ranges: bytes\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n%b"
)
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: "
_HEAD_PROPS: Final = frozenset(
    [
        "name",
        "size",
        "version",
        "checksum",
        "atime",
        "copies",
        "ec",
        "custom",
        "location",
        "chunked",
        "last-modified",
        "etag",
    ]
)


class Dress(Protocol):
    """What another protocol says of an object in the headers of its content; it may refuse by raising `ApiError`."""

    def of_row(self, row: ObjectRow) -> list[tuple[str, str]]:
        """Headers for an object of the store."""
        ...

    def of_remote(self, found: RemoteObject) -> list[tuple[str, str]]:
        """Headers for an object that is not cached."""
        ...


def get(node: Node, request: Request, bucket: Bucket, name: str, dress: Dress | None = None) -> Result:
    """The object's content, or a range of it; with `dress` the headers are those of another protocol."""
    headers = request.headers
    if request.query not in ("", "provider=ais"):
        if request.params.get(param.ETL_NAME):
            raise unsupported("use", "ETL in a build without ETL support")
        if "arch" in request.query and (members := archive_query(request, name)) is not None:
            return read_from_archive(node, request, bucket, name, members)
    if _BLOB_DOWNLOAD in headers and bucket.remote is None and parse_bool(headers[_BLOB_DOWNLOAD]):
        raise ApiError(400, f"blob-downloader is not supported for local buckets: {bucket.id.cname}")
    store = node.store
    row = store.lookup(bucket, name)
    fd = -1
    if row is not None and row.data is None:
        row, fd = store.open_current(bucket, row) or (None, -1)
    if row is None:
        raise object_not_found(node.name, bucket.id.object_cname(name))
    if row.data is None:
        try:
            return _get_from_file(node, request, bucket, row, fd, dress)
        except BaseException:
            os.close(fd)
            raise
    if "range" in headers:
        return _get_range(node, request, bucket, row, dress)
    if node.props(bucket).checksum.validate_warm_get:
        with _validating(bucket, row):
            node.store.verifier.check(row, row.data, cold=True)
    return _whole(node, row, row.data, dress)


def _whole(node: Node, row: ObjectRow, data: bytes, dress: Dress | None) -> bytes | Reply:
    if dress is not None:
        headers = [("Content-Type", header.OCTETS), *dress.of_row(row)]
        node.stats.read(row.size)
        node.store.atimes.note(row, time.time_ns())
        return Reply(200, headers, data)
    start = row.head or _encode_head(row)
    node.stats.read(row.size)
    return b"%s%d\r\n\r\n%s" % (start, node.store.atimes.note(row, time.time_ns()), data)


def _encode_head(row: ObjectRow) -> bytes:
    lines = [f"{key}: {printable(value)}\r\n" for key, value in object_headers(row)]
    told = f"{row.size}\r\n{''.join(lines)}{header.ATIME}: "
    row.head = _OK + told.encode("utf-8", "surrogateescape")
    return row.head


def _told(row: ObjectRow) -> bytes:
    """What is told of an object behind its size, and before the time of the last access."""
    start = row.head or _encode_head(row)
    return start[start.index(b"\n", len(_OK)) + 1 :]


def object_headers(row: ObjectRow) -> list[tuple[str, str]]:
    """Checksum, version and custom metadata of an object, as GET, PUT and HEAD v1 send them (protocol/20 3)."""
    headers = []
    if row.checksum:
        headers += [(header.CHECKSUM_TYPE, row.checksum_type), (header.CHECKSUM_VALUE, row.checksum)]
    if row.version:
        headers.append((header.VERSION, row.version))
    headers += [(header.CUSTOM_MD, line) for line in format_lines(row.custom)]
    if "ETag" in row.custom:
        headers.append(("ETag", row.custom["ETag"]))
    return headers


def _get_from_file(
    node: Node, request: Request, bucket: Bucket, row: ObjectRow, fd: int, dress: Dress | None
) -> Result:
    """The answer from the content file `fd`, which is closed when it was sent, or by the caller if this raises."""
    props, verifier = node.props(bucket).checksum, node.store.verifier
    offset, length, status = 0, row.size, 200
    if "range" in request.headers:
        offset, length = parse_range(request.headers["range"], row.size, bucket.id.object_cname(row.name))
        status = 206
    is_whole = length == row.size
    validate = is_whole and props.validate_warm_get and row.checksum != ""
    hash_range = status == 206 and props.enable_read_range and row.checksum != "" and length < row.size
    data = verifier.read_now(row, fd, offset, length) if not validate and not hash_range else None
    if data is not None:
        os.close(fd)
        return _whole(node, row, data, dress) if status == 200 else _part(node, row, offset, data, dress)
    headers = _content_headers(node, row, dress)
    if status == 206:
        headers += _range_headers(row, offset, length)
    node.stats.read(length)
    part = part_of_file(node, row, fd, offset, length, validated=validate)
    reply = Reply(status, headers, part)
    if validate:
        return _send_validated(reply, verifier, bucket, row, part)
    if hash_range:
        return _send_range_hashed(reply, verifier, row, part)
    if (length < row.size or not is_summed(row)) and not verifier.knows(row, fd, offset, length):
        return send_checked(reply, part)
    return reply


def _content_headers(node: Node, row: ObjectRow, dress: Dress | None) -> list[tuple[str, str]]:
    headers = [("Content-Type", header.OCTETS), *(object_headers(row) if dress is None else dress.of_row(row))]
    accessed = node.store.atimes.note(row, time.time_ns())
    if dress is None:
        headers.append((header.ATIME, str(accessed)))
    return headers


def part_of_file(node: Node, row: ObjectRow, fd: int, offset: int, length: int, *, validated: bool = False) -> FilePart:
    """A body from a content file, which is not given whole unless it is what was stored.

    The object counts as being read until it is closed (check-lock, protocol/20 14). `validated`: somebody else compares it.
    """
    key, verifier = (row.bid, row.name), node.store.verifier

    def over() -> None:
        node.read_over(key)

    node.reading[key] = node.reading.get(key, 0) + 1
    if validated:
        return FilePart(fd, offset, length, over)
    if length == row.size and is_summed(row) and verifier.wants(row, fd):
        return _Checked(asyncio.ensure_future(verifier.check_file(row, fd)), fd, offset, length, over)
    return _InPieces(verifier, row, fd, offset, length, over)


class _InPieces(FilePart):
    """A part of content, or all of it, compared piece by piece before it is sent, as far as that is due: nothing of a damaged piece leaves."""

    __slots__ = ("_good", "_row", "_verifier")

    grows = True

    def __init__(
        self, verifier: Verifier, row: ObjectRow, fd: int, offset: int, length: int, released: Callable[[], None]
    ) -> None:
        super().__init__(fd, offset, length, released)
        self._verifier = verifier
        self._row = row
        self._good = offset

    async def ready(self, offset: int) -> int:
        """Up to where it can be sent. Raises `ContentDamaged`, `OSError`."""
        if offset >= self._good:
            self._good = await self._verifier.check_part(self._row, self.fd, offset, self.offset + self.length - offset)
        return self._good


async def send_checked(reply: Reply, part: FilePart) -> Reply:
    """The reply, once its first bytes are known to be good: what is wrong with them can still be told. Raises `ContentDamaged`."""
    try:
        if part.length:
            await part.ready(part.offset)
    except BaseException:
        part.close()
        raise
    return reply


class _Checked(FilePart):
    """Content that is compared with its checksum while it is sent: the last byte waits for what comes of that.

    So a client that compares nothing itself does not get damaged content as a complete answer, and others do not wait.
    """

    __slots__ = ("_checking",)

    grows = True

    def __init__(
        self, checking: asyncio.Future[None], fd: int, offset: int, length: int, released: Callable[[], None]
    ) -> None:
        super().__init__(fd, offset, length, released)
        self._checking = checking
        checking.add_done_callback(_seen)

    async def ready(self, offset: int) -> int:
        """Up to where it can be sent. Raises `ContentDamaged`."""
        last = self.offset + self.length - 1
        if offset < last:
            return last
        await asyncio.shield(self._checking)
        return last + 1


def _seen(checking: asyncio.Future[None]) -> None:
    """Who reads may be gone; damage is noted all the same."""
    if not checking.cancelled():
        checking.exception()


async def _send_range_hashed(reply: Reply, verifier: Verifier, row: ObjectRow, part: FilePart) -> Reply:
    """Send the checksum of the range instead of the object's (bucket property `checksum.enable_read_range`)."""
    try:
        await verifier.check_pieces(row, part.fd, part.offset, part.length)
        value = await in_thread(hash_file, row.checksum_type, part.fd, part.offset, part.length)
    except BaseException:
        part.close()
        raise
    reply.headers = _with_slice_checksum(reply.headers, value)
    return reply


@contextmanager
def _validating(bucket: Bucket, row: ObjectRow) -> Iterator[None]:
    """Refuse damage that is found because somebody wanted it to be looked for as the reference does (protocol/20 16)."""
    try:
        yield
    except ContentDamaged as error:
        raise damaged(str(error), bucket.id.object_cname(row.name), status=500) from error


async def _send_validated(reply: Reply, verifier: Verifier, bucket: Bucket, row: ObjectRow, part: FilePart) -> Reply:
    """Check the content against its checksum before it is sent (bucket property `checksum.validate_warm_get`)."""
    try:
        with _validating(bucket, row):
            await verifier.check_file(row, part.fd, exact=True)
    except BaseException:
        part.close()
        raise
    return reply


def _get_range(node: Node, request: Request, bucket: Bucket, row: ObjectRow, dress: Dress | None) -> bytes | Reply:
    """A range of content that lives in the catalog."""
    assert row.data is not None
    offset, length = parse_range(request.headers["range"], row.size, bucket.id.object_cname(row.name))
    data = row.data[offset : offset + length]
    if not (node.props(bucket).checksum.enable_read_range and length < row.size and row.checksum):
        return _part(node, row, offset, data, dress)
    headers = _content_headers(node, row, dress) + _range_headers(row, offset, length)
    node.stats.read(length)
    return Reply(206, _with_slice_checksum(headers, digest(row.checksum_type, data)), data)


def _part(node: Node, row: ObjectRow, offset: int, data: bytes, dress: Dress | None) -> bytes | Reply:
    """A range that is at hand."""
    size = len(data)
    node.stats.read(size)
    if dress is not None:
        return Reply(206, _content_headers(node, row, dress) + _range_headers(row, offset, size), data)
    accessed = node.store.atimes.note(row, time.time_ns())
    return _PARTIAL % (_told(row), accessed, offset, offset + size - 1, row.size, size, data)


def _range_headers(row: ObjectRow, offset: int, length: int) -> list[tuple[str, str]]:
    return [("Accept-Ranges", "bytes"), ("Content-Range", f"bytes {offset}-{offset + length - 1}/{row.size}")]


def _with_slice_checksum(headers: Sequence[tuple[str, str]], value: str) -> list[tuple[str, str]]:
    return [(key, value if key == header.CHECKSUM_VALUE else old) for key, old in headers]


def head(node: Node, request: Request, bucket: Bucket, name: str) -> bytes | Reply:
    """The object's attributes: all of them (v1), or those that `props` asks for (v2)."""
    params = request.params
    row = node.store.lookup(bucket, name)
    cname = bucket.id.object_cname(name)
    presence = params.get("presence")
    if row is None:
        raise object_not_found(node.name, cname)
    if presence == "5":
        raise ApiError(400, f"{cname} is present (vs requested 'flt-outside'(5))")
    node.stats.headed()
    wanted = wanted_props(params.get("props", ""), present=True)
    if presence in ("1", "3"):
        return Reply(200)
    if wanted is not None:
        return Reply(200, _head_v2(node, row, wanted))
    return _head_v1(node, bucket, row)


@lru_cache(maxsize=64)
def wanted_props(text: str, *, present: bool) -> frozenset[str] | None:
    """The properties that a HEAD asks for (v2), None if it asks for all (v1). Raises `ApiError` 400 for one that there is not."""
    if not text:
        return None
    names = [item.strip() for item in text.split(",") if item.strip()]
    unknown = next((item for item in names if item not in _HEAD_PROPS), None)
    if unknown is not None:
        headers = {header.PRESENT: "true" if present else "false"}
        raise ApiError(400, f'invalid property "{unknown}" in props list', headers=headers)
    return frozenset(names)


def namespace_headers(identity: BucketId) -> list[tuple[str, str]]:
    """The namespace of a bucket that is not in the global one."""
    headers = []
    if identity.uuid:
        headers.append((header.BUCKET_NAMESPACE_UUID, identity.uuid))
    if identity.namespace:
        headers.append((header.BUCKET_NAMESPACE_NAME, identity.namespace))
    return headers


def _head_v1(node: Node, bucket: Bucket, row: ObjectRow) -> bytes:
    rest = _place(bucket.id, node.location, node.mountpath) % printable(row.name)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b%d\r\n%b\r\n" % (
        row.size, _told(row), node.store.atimes.of(row), rest.encode("utf-8", "surrogateescape"),
    )  # fmt: skip


@lru_cache(maxsize=256)
def _place(identity: BucketId, location: str, mountpath: str) -> str:
    """Lines that tell where an object lies, with a place for its name."""
    headers = [
        (header.BUCKET_NAME, identity.name),
        (header.BUCKET_PROVIDER, identity.provider),
        (header.LOCATION, location),
        (header.MIRROR_COPIES, "1"),
        (header.MIRROR_PATHS, f"[{mountpath}]"),
        (header.PRESENT, "true"),
        *namespace_headers(identity),
    ]
    told = "".join(f"{key}: {printable(value)}\r\n" for key, value in headers)
    return f"{told.replace('%', '%%')}{header.NAME}: %s\r\n"


def _head_v2(node: Node, row: ObjectRow, wanted: frozenset[str]) -> list[tuple[str, str]]:
    headers = [("Content-Length", str(row.size)), (header.PRESENT, "true")]
    if "checksum" in wanted and row.checksum:
        headers += [(header.CHECKSUM_TYPE, row.checksum_type), (header.CHECKSUM_VALUE, row.checksum)]
    if "atime" in wanted:
        headers.append((header.ATIME, str(node.store.atimes.of(row))))
    if "version" in wanted and row.version:
        headers.append((header.VERSION, row.version))
    if "custom" in wanted:
        headers += [(header.CUSTOM_MD, line) for line in format_lines(row.custom)]
    if "chunked" in wanted:
        count, largest = node.store.uploads.chunks(row)
        if count:
            headers += [(header.CHUNKS_COUNT, str(count)), (header.CHUNKS_MAX_CHUNK_SIZE, str(largest))]
    if "location" in wanted:
        headers.append((header.LOCATION, node.location))
    if "copies" in wanted:
        headers += [(header.MIRROR_COPIES, "1"), (header.MIRROR_PATHS, node.mountpath)]
    if "last-modified" in wanted:
        headers.append(("Last-Modified", row.custom.get("Last-Modified") or http_date(row.mtime // SECOND)))
    if "etag" in wanted:
        etag = entity_tag(row)
        if etag:
            headers.append(("ETag", f'"{etag}"'))
    return headers


@lru_cache(maxsize=1024)
def http_date(seconds: int) -> str:
    """A time (seconds since 1970) as headers have it. Objects that were stored together share it."""
    return formatdate(seconds, usegmt=True)


def entity_tag(row: ObjectRow) -> str:
    """The object's entity tag without quotes, empty if it has none (protocol/20 3.4)."""
    if "ETag" in row.custom:
        return row.custom["ETag"]
    if row.checksum_type == "md5":
        return row.checksum
    return f"v1-{row.checksum}-{base36(row.mtime)}" if row.checksum else ""
