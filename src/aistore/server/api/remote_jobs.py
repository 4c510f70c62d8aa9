"""Jobs on remote buckets: prefetch, evict, delete, blob download (protocol/10 23, protocol/20 13, protocol/30 13)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.http1.message import Reply
from aistore.server.api import remote
from aistore.server.api.messages import job_reply
from aistore.server.api.multiobj import Selected, select
from aistore.server.backends.download import Blob, same_content
from aistore.server.backends.errors import RemoteError
from aistore.server.store.errors import StoreFull
from aistore.server.store.scan import Bounds
from aistore.wire import access, actions
from aistore.wire.errors import ApiError, not_remote, out_of_space
from aistore.wire.messages import ListRange, decode_value
from aistore.wire.names import check_object_name
from aistore.wire.values import parse_duration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aistore.server.backends.base import RemoteObject
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket, ObjectRow
    from aistore.wire.messages import ActionMessage

__all__ = [
    "blob_download",
    "cached_names",
    "delete_objects",
    "evict_objects",
    "in_parallel",
    "objects_there",
    "prefetch",
    "prefetch_all",
    "selected_names",
    "workers_of",
]

_WORKERS: Final = 8
_WORKERS_MAX: Final = 64
_SCAN: Final = 1000
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
    if row is not None and (not message.latest or await remote.is_current(node, bucket, name, row)):
        return None
    blob = None
    if message.blob_threshold > 0:
        found = await node.backends.of(bucket).head(remote.where(bucket), name)
        if found.size >= max(message.blob_threshold, _BLOB_THRESHOLD_MIN):
            blob = Blob(message.blob_chunk_size, message.blob_workers)
    if not same_content(node.store.lookup(bucket, name), row):
        return None  # it came a moment ago
    download = node.backends.download(bucket, name, blob)
    if blob is not None:
        _start_blob(node, bucket, name, blob)
    return await asyncio.shield(download.done)


# -- evict, delete -------------------------------------------------------------------------------------------------


async def evict_objects(node: Node, bucket: Bucket, value: object) -> Reply:
    """Start a job that drops the selected objects from the cache; the answer is its id."""
    if node.remote_of(bucket) is None:
        raise not_remote(actions.EVICT_BUCKET, bucket.id.cname)
    selected = select(node, value, ListRange, actions.EVICT_OBJECTS)

    async def one(job: Job, name: str) -> None:
        try:
            size = await remote.evict_one(node, bucket, name)
        except ApiError as error:
            job.failed(error.message)
            return
        if size is not None:
            job.done(1, size)
        elif selected.names:
            job.failed(f"{node.name}: {bucket.id.object_cname(name)} does not exist")

    async def work(job: Job) -> None:
        names = cached_names(node, bucket, selected) if selected.template.prefix is not None else _given(selected)
        async for name in names:
            await one(job, name)

    job = node.control.jobs.start(actions.EVICT_OBJECTS, work, bucket=bucket.id, control=selected.control)
    return await job_reply(job)


async def delete_objects(node: Node, bucket: Bucket, value: object) -> Reply:
    """Start a job that deletes the selected objects in the backend and in the cache; the answer is its id."""
    node.check_access(bucket, access.DELETE_OBJECT, "DELETE-OBJECT")
    selected = select(node, value, ListRange, actions.DELETE_OBJECTS)

    async def work(job: Job) -> None:
        async def one(name: str) -> None:
            try:
                async with node.backends.changing(bucket, name):
                    await remote.delete_there(node, bucket, name)
                    gone = await node.store.delete(bucket, [name])
            except RemoteError as error:
                if error.kind != "object" or selected.names:
                    job.failed(error.message)
            else:
                job.done(1, sum(size for _, size in gone))

        await in_parallel(selected_names(node, bucket, selected), workers_of(selected.message.num_workers), one)

    job = node.control.jobs.start(actions.DELETE_OBJECTS, work, bucket=bucket.id, control=selected.control)
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
    if row is not None and (not value.latest or await remote.is_current(node, bucket, name, row)):
        return Reply(200)
    found = await node.backends.of(bucket).head(remote.where(bucket), name)
    cname = bucket.id.object_cname(name)
    if value.full_size and value.full_size != found.size:
        raise ApiError(400, f"blob-download: {cname} has {found.size} bytes, not {value.full_size}")
    if node.backends.under_way(bucket, name) is not None:
        raise ApiError(400, f"blob-download of {cname} is already running - not starting", "ErrXactUsePrev")
    return await job_reply(_start_blob(node, bucket, name, Blob(value.chunk_size, value.workers)))


def _start_blob(node: Node, bucket: Bucket, name: str, blob: Blob) -> Job:
    async def work(job: Job) -> None:
        download = node.backends.download(bucket, name, blob)
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


# -- which objects -------------------------------------------------------------------------------------------------


def workers_of(number: int) -> int:
    """How many objects a job works on at a time, of the number that its request tells (protocol/10 14)."""
    return 1 if number < 0 else min(number or _WORKERS, _WORKERS_MAX)


async def in_parallel(names: AsyncIterator[str], workers: int, one: Callable[[str], Awaitable[None]]) -> None:
    """Do `one` for every name, several at a time; what it raises ends all."""
    turn = asyncio.Lock()

    async def work() -> None:
        while True:
            async with turn:
                try:
                    name = await names.__anext__()
                except StopAsyncIteration:
                    return
            await one(name)

    tasks = [asyncio.ensure_future(work()) for _ in range(workers)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _given(selected: Selected[ListRange]) -> AsyncIterator[str]:
    """Names that the message tells, by list or by range."""
    for name in selected.names or map(check_object_name, selected.template.names()):
        yield name


async def selected_names(
    node: Node, bucket: Bucket, selected: Selected[Prefetch] | Selected[ListRange]
) -> AsyncIterator[str]:
    """Selected names; those of a prefix as the backend lists them."""
    prefix = selected.template.prefix
    if selected.names or prefix is None:
        for name in selected.names or map(check_object_name, selected.template.names()):
            yield name
        return
    async for found in objects_there(node, bucket, prefix, recursive=not selected.message.non_recurs):
        yield found.name


async def objects_there(node: Node, bucket: Bucket, prefix: str, *, recursive: bool) -> AsyncIterator[RemoteObject]:
    """Objects with a prefix as the backend lists them."""
    backend, token = node.backends.of(bucket), ""
    while True:
        page = await backend.list(remote.where(bucket), prefix, token, backend.page_size, recursive=recursive)
        for found in page.objects:
            if not found.directory:
                yield found
        token = page.token
        if not token:
            return


async def cached_names(node: Node, bucket: Bucket, selected: Selected[ListRange]) -> AsyncIterator[str]:
    """Names with the selected prefix that are in the cache."""
    if selected.names:
        for name in selected.names:
            yield name
        return
    prefix = selected.template.prefix or ""
    scanner, bounds = node.control.scanner, Bounds(prefix, prefix)
    while True:
        rows = await scanner.run(lambda: scanner.rows(bucket.bid, bounds, "", _SCAN))  # noqa: B023 (awaited before it changes)
        if not rows:
            return
        for (name,) in rows:
            if not selected.message.non_recurs or "/" not in name[len(prefix) :]:
                yield name
        bounds = Bounds(prefix, rows[-1][0], inclusive=False)
