"""GET and HEAD of objects whose content lives elsewhere: the cache answers what it has, the backend the rest (protocol/20 4.5, 4.6, 5)."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, Final

from aistore.http1.message import Reply
from aistore.server.api import reading
from aistore.server.api.registering import answered
from aistore.server.backends import errors
from aistore.server.backends.base import SOURCE, where
from aistore.server.backends.download import Blob, same_content
from aistore.server.backends.errors import RemoteError
from aistore.server.store.errors import ContentDamaged
from aistore.server.store.evicting import evict
from aistore.wire import headers as header
from aistore.wire import params as param
from aistore.wire.custom import format_lines
from aistore.wire.errors import ApiError, object_not_found
from aistore.wire.ranges import parse_range
from aistore.wire.values import parse_bool, parse_size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aistore.http1.message import BytesLike
    from aistore.http1.server import Answer, Request, Result
    from aistore.server.api.reading import Dress
    from aistore.server.backends.base import Backend, RemoteObject
    from aistore.server.backends.download import Download
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket, ObjectRow
    from aistore.wire.names import BucketId

__all__ = [
    "cached",
    "get",
    "head",
    "head_there",
    "is_current",
]

logger = logging.getLogger(__name__)

_BLOB_CHUNK = header.BLOB_CHUNK.lower()
_BLOB_DOWNLOAD = header.BLOB_DOWNLOAD.lower()
_BLOB_WORKERS = header.BLOB_WORKERS.lower()

# Content up to this size is sent when it is cached; larger content while it comes.
_AT_ONCE: Final = 1 << 20
_NO_COLD_GET: Final = 1 << 11  # bit of the property `features` (protocol/10 9)
_PRESENT_ONLY: Final = frozenset({"2", "3", "4"})
_NO_PROPS: Final = frozenset({"1", "3"})
_BLOB_WORKERS_MAX: Final = 128
# How often a read begins anew because the object was written or evicted while it was on its way.
_ROUNDS: Final = 8
# RFC 7234 5.5.2: the answer is from the cache, because its backend could not be asked.
_STALE: Final = ("Warning", '111 aistore "Revalidation Failed"')


# -- GET -----------------------------------------------------------------------------------------------------------


def get(node: Node, request: Request, bucket: Bucket, name: str, dress: Dress | None = None) -> Result:
    """The object's content, from the cache if it is there; `dress` as `reading.get` takes it."""
    row = node.store.lookup(bucket, name)
    if row is not None and not _wants_latest(node, request, bucket):
        try:
            answer = reading.get(node, request, bucket, name, dress)
        except ContentDamaged:
            if SOURCE not in row.custom:
                raise
        except ApiError:
            row = node.store.lookup(bucket, name)
            if row is not None:
                raise
            # Another process has evicted it at this moment.
        else:
            node.stats.cache_hits += 1
            if isinstance(answer, (bytes, Reply)):
                return answer
            return _unless_damaged(node, request, bucket, row, answer, dress)
    return _get(node, request, bucket, name, row, dress)


async def _unless_damaged(
    node: Node, request: Request, bucket: Bucket, row: ObjectRow, result: Result, dress: Dress | None
) -> Answer:
    """The answer from the cache, or from the backend if what is cached turns out to be damaged."""
    try:
        return await answered(result)
    except ContentDamaged:
        if SOURCE not in row.custom:
            raise
    return await _get(node, request, bucket, row.name, row, dress)


async def _from_cache(node: Node, request: Request, bucket: Bucket, name: str, dress: Dress | None) -> Answer | None:
    """The answer from the cache; None if the object is not there (any more), or is damaged and can be fetched again."""
    row = node.store.lookup(bucket, name)
    if row is None:
        return None
    try:
        return await answered(reading.get(node, request, bucket, name, dress))
    except ContentDamaged:
        if SOURCE not in row.custom:
            raise
        return None
    except ApiError:
        if node.store.lookup(bucket, name) is not None:
            raise
        return None


def _wants_latest(node: Node, request: Request, bucket: Bucket) -> bool:
    versioning = node.props(bucket).versioning
    return (
        versioning.validate_warm_get
        or versioning.synchronize
        or (param.LATEST_VER in request.query and parse_bool(request.params.get(param.LATEST_VER, "")))
    )


async def _get(
    node: Node, request: Request, bucket: Bucket, name: str, row: ObjectRow | None, dress: Dress | None
) -> Answer:
    if row is not None and await dropped_as_damaged(node, bucket, row):
        row = None
    if row is not None and _wants_latest(node, request, bucket):
        try:
            current = await is_current(node, bucket, name, row)
        except RemoteError as error:
            if error.kind not in ("unreachable", "throttled"):
                raise
            logger.warning("%s: served as it is cached: %s", bucket.id.object_cname(name), error.message)
            answer = await _from_cache(node, request, bucket, name, dress)
            if answer is None:
                raise
            node.stats.cache_hits += 1
            return _with_header(answer, _STALE)
        if current and (answer := await _from_cache(node, request, bucket, name, dress)) is not None:
            node.stats.cache_hits += 1
            return answer
    node.stats.cache_misses += 1
    blob = parse_blob(request)
    for attempt in range(_ROUNDS):
        answer = await _get_cold(node, request, bucket, name, blob, row, dress)
        answer = answer or await _from_cache(node, request, bucket, name, dress)
        if answer is not None:
            return answer
        row = None  # evicted
        logger.info(
            "%s was written or evicted while it was read: attempt %d", bucket.id.object_cname(name), attempt + 2
        )
    raise ApiError(409, f'object "{bucket.id.object_cname(name)}" is currently busy, please try again', "ErrBusy")


async def dropped_as_damaged(node: Node, bucket: Bucket, row: ObjectRow) -> bool:
    """Drop an object from the cache if its content is known to be damaged, and its backend has it; whether that was so."""
    if SOURCE not in row.custom:
        return False
    try:
        current = node.store.open_current(bucket, row)
    except ContentDamaged as error:
        logger.warning("%s is fetched again: %s", bucket.id.object_cname(row.name), error)
        async with node.backends.writing(bucket, row.name):
            await evict(node.store, bucket, [row.name], SOURCE)
        return True
    if current is not None and current[1] >= 0:
        os.close(current[1])
    return False


async def is_current(node: Node, bucket: Bucket, name: str, row: ObjectRow) -> bool:
    """Whether a cached object is the version that its backend has. Raises `RemoteError`, `object` if it is gone there."""
    remote = where(bucket)
    try:
        found = await node.backends.of(bucket).head(remote, name)
    except RemoteError as error:
        if error.kind == "object" and SOURCE in row.custom and node.props(bucket).versioning.synchronize:
            async with node.backends.writing(bucket, name):
                await node.store.delete(bucket, [name])
        raise
    return found.is_cached_as(row)


async def _get_cold(
    node: Node,
    request: Request,
    bucket: Bucket,
    name: str,
    blob: Blob | None,
    old: ObjectRow | None,
    dress: Dress | None,
) -> Answer | None:
    """Read from the backend what is not cached, or only as `old`; None if the object has to be looked up again."""
    if not same_content(node.store.lookup(bucket, name), old):
        return None  # it came a moment ago
    if node.props(bucket).features & _NO_COLD_GET:
        raise ApiError(
            404, f"{node.name}: {bucket.id.object_cname(name)} does not exist (cold GET disabled)", "ErrNotFound"
        )
    params = request.params
    part = params.get(param.ARCHPATH) or param.ARCHMODE in params or params.get(param.ETL_NAME)
    wants_range = "range" in request.headers and not part
    under_way = node.backends.under_way(bucket, name)
    if wants_range and blob is None and under_way is None and not node.backends.caches_ranges(where(bucket)):
        return await _pass_range(node, request, bucket, name, dress)
    download = node.backends.download(bucket, name, old, blob)
    found = await _shielded(download)
    if found is None:  # another process has fetched it
        return None
    if not part and found.size > _AT_ONCE and not node.props(bucket).checksum.validate_cold_get:
        reply = _follow(node, request, bucket, download, found, dress)
        if reply is not None:
            return reply
    await _until_cached(download)
    return None


def _follow(
    node: Node, request: Request, bucket: Bucket, download: Download, found: RemoteObject, dress: Dress | None
) -> Reply | None:
    """The answer from content that is still coming."""
    offset, length, status = 0, found.size, 200
    headers: list[tuple[str, str]] = [("Content-Type", header.OCTETS), *_headers(found, dress)]
    if "range" in request.headers:
        offset, length = parse_range(request.headers["range"], found.size, bucket.id.object_cname(found.name))
        status = 206
        headers += _range_headers(offset, length, found.size)
    key = bucket.bid, found.name
    node.reading[key] = node.reading.get(key, 0) + 1
    part = download.follow(offset, length, lambda: node.read_over(key))
    if part is None:
        node.read_over(key)
        return None
    headers.append((header.ATIME, str(time.time_ns())))
    node.stats.read(length)
    return Reply(status, headers, part)


async def _pass_range(node: Node, request: Request, bucket: Bucket, name: str, dress: Dress | None) -> Reply:
    """A range that only passes by: nothing is cached."""
    remote, backend = where(bucket), node.backends.of(bucket)
    found = await backend.head(remote, name)
    offset, length = parse_range(request.headers["range"], found.size, bucket.id.object_cname(name))
    headers = [
        ("Content-Type", header.OCTETS),
        *_headers(found, dress),
        *_range_headers(offset, length, found.size),
    ]
    node.stats.read(length)
    pieces = _pieces(backend, remote, found, offset, length)
    if length > _AT_ONCE:
        return Reply(206, headers, pieces)
    return Reply(206, headers, b"".join([bytes(piece) async for piece in pieces]))


async def _pieces(
    backend: Backend, remote: BucketId, found: RemoteObject, offset: int, length: int
) -> AsyncIterator[BytesLike]:
    reader = await backend.open(remote, found.name, start=offset, length=length, same=found)
    try:
        while length:
            piece = await reader.read()
            if not piece or len(piece) > length:
                why = f"a range ends {length} bytes early" if not piece else "a range is longer than was asked for"
                raise errors.broken(remote.object_cname(found.name), backend.endpoint, why)
            length -= len(piece)
            yield piece
    finally:
        reader.close()


async def head_there(node: Node, bucket: Bucket, name: str) -> RemoteObject | None:
    """What the backend has of an object; None if it has none. Raises `RemoteError`."""
    try:
        return await node.backends.of(bucket).head(where(bucket), name)
    except RemoteError as error:
        if error.kind != "object":
            raise
        return None


async def cached(node: Node, bucket: Bucket, name: str, *, latest: bool = False) -> ObjectRow:
    """The row of an object, fetched into the cache if it is not there, or with `latest` if its backend has another version.

    For native buckets too. Raises `ApiError`.
    """
    row = node.store.lookup(bucket, name)
    if latest and row is not None and bucket.remote is not None and not await is_current(node, bucket, name, row):
        await _until_cached(node.backends.download(bucket, name, row))
    for _ in range(_ROUNDS):
        row = node.store.lookup(bucket, name)
        if row is not None and not (bucket.remote is not None and await dropped_as_damaged(node, bucket, row)):
            return row
        if node.remote_of(bucket) is None:
            raise object_not_found(node.name, bucket.id.object_cname(name))
        row = await _until_cached(node.backends.download(bucket, name, None))
        if row is not None:
            return row
    raise ApiError(409, f'object "{bucket.id.object_cname(name)}" is currently busy, please try again', "ErrBusy")


async def _shielded(download: Download) -> RemoteObject | None:
    """A reader that goes away leaves the download to the others."""
    return await asyncio.shield(download.opened)


async def _until_cached(download: Download) -> ObjectRow | None:
    return await asyncio.shield(download.done)


# -- HEAD ----------------------------------------------------------------------------------------------------------


def head(node: Node, request: Request, bucket: Bucket, name: str) -> Result:
    """The object's attributes, from the cache if it is there."""
    params = request.params
    row = node.store.lookup(bucket, name)
    if row is not None and not parse_bool(params.get(param.LATEST_VER, "")):
        return reading.head(node, request, bucket, name)
    presence = params.get("presence", "")
    if row is None and presence in _PRESENT_ONLY:
        raise object_not_found(node.name, bucket.id.object_cname(name))
    return _head(node, request, bucket, name, row)


async def _head(node: Node, request: Request, bucket: Bucket, name: str, row: ObjectRow | None) -> bytes | Reply:
    cname = bucket.id.object_cname(name)
    try:
        found = await node.backends.of(bucket).head(where(bucket), name)
    except RemoteError as error:
        if row is not None and error.kind == "object":
            raise ApiError(410, f"{cname} does not exist in its backend any more", "ErrNotFound") from None
        raise
    if row is not None:
        if not found.is_cached_as(row):
            what = f"metadata mismatch: {cname} is cached as another version than its backend has"
            raise ApiError(409, what, "ErrRemoteMetadataMismatch")
        return reading.head(node, request, bucket, name)
    node.stats.headed()
    params = request.params
    wanted = reading.wanted_props(params.get("props", ""), present=False)
    if params.get("presence") in _NO_PROPS:
        return Reply(200)
    headers = [("Content-Length", str(found.size))]
    if wanted is not None:
        return Reply(200, headers + _head_v2(found, wanted))
    headers += _headers(found)
    headers += [
        (header.BUCKET_NAME, bucket.id.name),
        (header.BUCKET_PROVIDER, bucket.id.provider),
        (header.NAME, name),
        (header.MIRROR_COPIES, "0"),
        (header.MIRROR_PATHS, "[]"),
        (header.PRESENT, "false"),
    ]
    return Reply(200, headers + reading.namespace_headers(bucket.id))


def _head_v2(found: RemoteObject, wanted: frozenset[str]) -> list[tuple[str, str]]:
    headers = [(header.PRESENT, "false")]
    if "checksum" in wanted:
        headers += _checksum_headers(found)
    if "version" in wanted and found.version:
        headers.append((header.VERSION, found.version))
    if "custom" in wanted:
        headers += [(header.CUSTOM_MD, line) for line in format_lines(found.custom)]
    if "etag" in wanted and "ETag" in found.custom:
        headers.append(("ETag", f'"{found.custom["ETag"]}"'))
    return headers


def _headers(found: RemoteObject, dress: Dress | None = None) -> list[tuple[str, str]]:
    if dress is not None:
        return dress.of_remote(found)
    headers = _checksum_headers(found)
    if found.version:
        headers.append((header.VERSION, found.version))
    headers += [(header.CUSTOM_MD, line) for line in format_lines(found.custom)]
    if "ETag" in found.custom:
        headers.append(("ETag", found.custom["ETag"]))
    return headers


def _checksum_headers(found: RemoteObject) -> list[tuple[str, str]]:
    # An entity tag of S3 looks like an MD5 and often is one, but not of encrypted content.
    if not found.checksum[1] or found.custom.get(SOURCE) != "ais":
        return []
    return [(header.CHECKSUM_TYPE, found.checksum[0]), (header.CHECKSUM_VALUE, found.checksum[1])]


def _range_headers(offset: int, length: int, size: int) -> list[tuple[str, str]]:
    return [("Accept-Ranges", "bytes"), ("Content-Range", f"bytes {offset}-{offset + length - 1}/{size}")]


# -- what requests say ---------------------------------------------------------------------------------------------


def parse_blob(request: Request) -> Blob | None:
    """The blob download that a GET asks for by its headers (protocol/20 4.6), or None. Raises `ApiError` 400."""
    headers = request.headers
    if not parse_bool(headers.get(_BLOB_DOWNLOAD, "")):
        return None
    chunk = workers = 0
    text = headers.get(_BLOB_CHUNK, "")
    try:
        chunk = parse_size(text, decimal=True) if text else 0
        workers = int(headers.get(_BLOB_WORKERS, "") or 0)
    except ValueError as error:
        raise ApiError(
            400, f"blob-downloader: failed to parse {text or headers.get(_BLOB_WORKERS)!r}: {error}"
        ) from None
    if not -1 <= workers <= _BLOB_WORKERS_MAX:
        raise ApiError(
            400, f"blob-downloader: invalid number of workers {workers}: expecting (-1..{_BLOB_WORKERS_MAX}) range"
        )
    return Blob(chunk, workers)


def _with_header(answer: Answer, line: tuple[str, str]) -> Answer:
    if isinstance(answer, bytes):
        return answer.replace(b"\r\n", f"\r\n{line[0]}: {line[1]}\r\n".encode(), 1)
    headers: Sequence[tuple[str, str]] = [*answer.headers, line]
    answer.headers = headers
    return answer
