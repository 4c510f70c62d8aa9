"""Jobs on remote buckets: prefetch, evict, delete, blob download (protocol/10 23, protocol/20 13, protocol/30 13)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.http1.message import Reply
from aistore.server.api.messages import job_reply
from aistore.server.api.multiobj import Selected, select
from aistore.server.api.remote.reading import is_current
from aistore.server.api.remote.selecting import cached_names, selected_names, workers_of
from aistore.server.api.remote.writing import delete_there, evict_one
from aistore.server.backends.base import where
from aistore.server.backends.download import Blob, same_content
from aistore.server.backends.errors import RemoteError
from aistore.server.jobs.parallel import in_parallel
from aistore.server.store.errors import StoreFull
from aistore.wire import access, actions
from aistore.wire.errors import ApiError, not_remote, out_of_space
from aistore.wire.messages import ListRange, decode_value
from aistore.wire.names import check_object_name
from aistore.wire.values import parse_duration

if TYPE_CHECKING:
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket, ObjectRow
    from aistore.wire.messages import ActionMessage

__all__ = ["blob_download", "delete_objects", "evict_objects", "prefetch", "prefetch_all"]

_PROGRESS: Final = 0.25  # seconds between two looks at how far a download is
_BLOB_THRESHOLD_MIN: Final = 1 << 20


class Prefetch(ListRange, forbid_unknown_fields=True, kw_only=True):
    """Value of `prefetch-listrange`."""

    latest: bool = msgspec.field(default=False, name="latest-ver")
    blob_threshold: int = msgspec.field(default=0, name="blob-threshold")
    blob_chunk_size: int = msgspec.field(default=0, name="blob-chunk-size")
    blob_workers: int = msgspec.field(default=0, name="blob-num-workers")


class BlobMessage(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Value of `blob-download`."""

    latest: bool = msgspec.field(default=False, name="latest-ver")
    chunk_size: int = msgspec.field(default=0, name="chunk-size")
    workers: int = msgspec.field(default=0, name="num-workers")
    full_size: int = msgspec.field(default=0, name="full-size")
    chunk_read_timeout: str = msgspec.field(default="", name="chunk-read-timeout")


# -- prefetch ------------------------------------------------------------------------------------------------------


async def prefetch(node: Node, bucket: Bucket, value: object) -> Reply:
    """Start a job that brings the selected objects into the cache; the answer is its id."""
    if node.remote_of(bucket) is None:
        raise not_remote(actions.PREFETCH_OBJECTS, bucket.id.cname)
    selected = select(node, value, Prefetch, actions.PREFETCH_OBJECTS)
    if selected.message.blob_workers < -1:
        raise ApiError(400, f"invalid blob-num-workers {selected.message.blob_workers} (expected -1 or more)")
    job = node.control.jobs.start(
        actions.PREFETCH_OBJECTS,
        lambda job: _prefetch(job, node, bucket, selected),
        bucket=bucket.id,
        control=selected.control,
        names=selected.names,
    )
    return await job_reply(job)


async def prefetch_all(job: Job, node: Node, bucket: Bucket) -> None:
    """Bring the whole bucket into the cache."""
    await _prefetch(job, node, bucket, select(node, None, Prefetch, actions.PREFETCH_OBJECTS))


async def _prefetch(job: Job, node: Node, bucket: Bucket, selected: Selected[Prefetch]) -> None:
    message = selected.message

    async def one(name: str) -> None:
        try:
            row = await _fetch(node, bucket, name, message)
            if row is not None:
                job.done(1, row.size)
        except RemoteError as error:
            if error.kind == "object" and not selected.names:
                return
            job.failed(error.message)
            if error.kind != "object" and not message.coer:
                raise
        except StoreFull as error:
            raise out_of_space(str(error)) from error

    await in_parallel(selected_names(node, bucket, selected), workers_of(message.num_workers), one)


async def _fetch(node: Node, bucket: Bucket, name: str, message: Prefetch) -> ObjectRow | None:
    """Fetch an object unless it is cached; its row, or None if there was nothing to do."""
    row = node.store.lookup(bucket, name)
    if row is not None and (not message.latest or await is_current(node, bucket, name, row)):
        return None
    blob = None
    if message.blob_threshold > 0:
        found = await node.backends.of(bucket).head(where(bucket), name)
        if found.size >= max(message.blob_threshold, _BLOB_THRESHOLD_MIN):
            blob = Blob(message.blob_chunk_size, message.blob_workers)
    if not same_content(node.store.lookup(bucket, name), row):
        return None  # it came a moment ago
    download = node.backends.download(bucket, name, row, blob)
    if blob is not None:
        _start_blob(node, bucket, name, row, blob)
    return await asyncio.shield(download.done)


# -- evict, delete -------------------------------------------------------------------------------------------------


async def evict_objects(node: Node, bucket: Bucket, value: object) -> Reply:
    """Start a job that drops the selected objects from the cache; the answer is its id."""
    if node.remote_of(bucket) is None:
        raise not_remote(actions.EVICT_BUCKET, bucket.id.cname)
    selected = select(node, value, ListRange, actions.EVICT_OBJECTS)

    async def one(job: Job, name: str) -> None:
        try:
            size = await evict_one(node, bucket, name)
        except ApiError as error:
            job.failed(error.message)
            return
        if size is not None:
            job.done(1, size)
        elif selected.names:
            job.failed(f"{node.name}: {bucket.id.object_cname(name)} does not exist")

    async def work(job: Job) -> None:
        async for name in cached_names(node, bucket, selected):
            await one(job, name)

    job = node.control.jobs.start(
        actions.EVICT_OBJECTS, work, bucket=bucket.id, control=selected.control, names=selected.names
    )
    return await job_reply(job)


async def delete_objects(node: Node, bucket: Bucket, value: object) -> Reply:
    """Start a job that deletes the selected objects in the backend and in the cache; the answer is its id."""
    node.check_access(bucket, access.DELETE_OBJECT, "DELETE-OBJECT")
    selected = select(node, value, ListRange, actions.DELETE_OBJECTS)

    async def work(job: Job) -> None:
        async def one(name: str) -> None:
            try:
                async with node.backends.changing(bucket, name):
                    await delete_there(node, bucket, name)
                    gone = await node.store.delete(bucket, [name])
            except RemoteError as error:
                if error.kind != "object" or selected.names:
                    job.failed(error.message)
            else:
                job.done(1, sum(size for _, size in gone))

        await in_parallel(selected_names(node, bucket, selected), workers_of(selected.message.num_workers), one)

    job = node.control.jobs.start(
        actions.DELETE_OBJECTS, work, bucket=bucket.id, control=selected.control, names=selected.names
    )
    return await job_reply(job)


# -- blob download -------------------------------------------------------------------------------------------------


async def blob_download(node: Node, bucket: Bucket, message: ActionMessage) -> Reply:
    """Start a job that fetches one object in ranges side by side; the answer is its id, or nothing if the object is cached."""
    if node.remote_of(bucket) is None:
        raise not_remote(message.action, bucket.id.cname)
    value = decode_value(message.value, BlobMessage, "set-custom", node.name)
    try:
        parse_duration(value.chunk_read_timeout or "1m")
    except ValueError as error:
        raise ApiError(400, f"blob-download: invalid chunk-read-timeout: {error}") from None
    name = check_object_name(message.name)
    row = node.store.lookup(bucket, name)
    if row is not None and (not value.latest or await is_current(node, bucket, name, row)):
        return Reply(200)
    found = await node.backends.of(bucket).head(where(bucket), name)
    cname = bucket.id.object_cname(name)
    if value.full_size and value.full_size != found.size:
        raise ApiError(400, f"blob-download: {cname} has {found.size} bytes, not {value.full_size}")
    if node.backends.under_way(bucket, name) is not None:
        raise ApiError(400, f"blob-download of {cname} is already running - not starting", "ErrXactUsePrev")
    return await job_reply(_start_blob(node, bucket, name, row, Blob(value.chunk_size, value.workers)))


def _start_blob(node: Node, bucket: Bucket, name: str, before: ObjectRow | None, blob: Blob) -> Job:
    async def work(job: Job) -> None:
        download = node.backends.download(bucket, name, before, blob)
        told = 0
        try:
            while not (await asyncio.wait((download.done,), timeout=_PROGRESS))[0]:
                job.done(0, download.received - told)
                told = download.received
            row = download.done.result()
        except BaseException as error:
            job.done(0, -told)  # nothing of it stays
            if isinstance(error, asyncio.CancelledError):
                download.cancel()
                await download.ended()
            raise
        job.done(*((1, row.size - told) if row is not None else (0, -told)))

    return node.control.jobs.start(actions.BLOB_DOWNLOAD, work, bucket=bucket.id, control=name)
