"""What a transformer made, on its way into the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aistore.server.etl.exchange import BadAnswer, TookTooLong
from aistore.server.store.content import finished, in_thread
from aistore.server.store.room import make_room
from aistore.server.store.schema import INLINE_MAX
from aistore.wire.checksum import digest, new_hasher

if TYPE_CHECKING:
    from aistore.server.etl.exchange import Answer
    from aistore.server.etl.running import Running
    from aistore.server.node import Node
    from aistore.server.store.content import Upload
    from aistore.server.store.rows import Bucket
    from aistore.wire.checksum import Hasher
    from aistore.wire.names import BucketId

__all__ = ["drain_answer", "store_answer"]

_SMALL: Final = 64 << 10
"""Content that is written as fast as a thread is asked for."""


async def store_answer(node: Node, running: Running, answer: Answer, target: Bucket, name: str, *, at: int = 0) -> int:
    """Make an answer's body a new version of an object, whole or not at all; its bytes. Raises `ApiError`, `StoreFull`.

    `at` is the object's time (Unix nanoseconds), by which a job finds what it made (`Job.time_of_copies`).
    """
    remote = node.remote_of(target)
    if remote is not None:
        return await _store_there(node, running, answer, target, remote, name)
    store = node.store
    props = node.props(target)
    kind = props.checksum.type
    content: bytes | Upload
    if answer.whole and len(answer.data) <= INLINE_MAX:
        content, checksum = answer.data, digest(kind, answer.data)
        await make_room(store, len(content), in_catalog=True)
    else:
        content, checksum = await _receive(node, running, answer, kind)
    size = len(content) if isinstance(content, bytes) else content.size
    await store.put(target, name, content, kind, checksum, versioned=props.versioning.enabled, fresh=True, atime=at)
    return size


async def _store_there(
    node: Node, running: Running, answer: Answer, target: Bucket, remote: BucketId, name: str
) -> int:
    """Store a body in the backend of a remote bucket; the cache gets nothing."""
    backend = node.backends.of(target)
    content: bytes | Upload = answer.data
    if not answer.whole:
        content, _ = await _receive(node, running, answer, "none")
    try:
        async with node.backends.changing(target, name):
            if isinstance(content, bytes):
                await backend.put(remote, name, content, {})
            else:
                with content.path.open("rb") as file:
                    await backend.put(remote, name, file, {})
            await node.store.delete(target, [name])
    finally:
        if not isinstance(content, bytes):
            content.abandon()
    return len(content) if isinstance(content, bytes) else content.size


async def _receive(node: Node, running: Running, answer: Answer, kind: str) -> tuple[Upload, str]:
    """Write a body into a content file; a piece is hashed and written in a thread while the next one arrives."""
    store = node.store
    hasher = new_hasher(kind)
    if answer.whole and len(answer.data) <= _SMALL:
        return await _write_small(node, answer.data, hasher)
    upload = await store.content.create(answer.length or 0)
    writing: asyncio.Future[None] | None = None
    loop = asyncio.get_running_loop()
    try:
        try:
            await make_room(store, answer.length or len(answer.data))
            async for piece in answer.pieces():
                if answer.length is None:
                    await make_room(store, len(piece))
                    upload.reserve(len(piece))
                if writing is not None:
                    await finished(writing)
                writing = loop.run_in_executor(None, _take, upload, hasher, piece)
        finally:
            answer.close()
            if writing is not None:
                await finished(writing)
        await in_thread(upload.finish)
    except BaseException as error:
        upload.abandon()
        if isinstance(error, (BadAnswer, TookTooLong)):
            raise await running.broken(error) from error
        raise
    return upload, hasher.hexdigest() if hasher is not None else ""


async def _write_small(node: Node, data: bytes, hasher: Hasher | None) -> tuple[Upload, str]:
    """A content file of bytes that are here."""
    store = node.store
    await make_room(store, len(data))
    upload = await store.content.create(len(data))
    try:
        if store.durability == "relaxed":
            _take_and_finish(upload, hasher, data)
        else:
            await store.content.in_short_thread(_take_and_finish, upload, hasher, data)
    except BaseException:
        upload.abandon()
        raise
    return upload, hasher.hexdigest() if hasher is not None else ""


def _take_and_finish(upload: Upload, hasher: Hasher | None, data: bytes) -> None:
    _take(upload, hasher, data)
    upload.finish()


def _take(upload: Upload, hasher: Hasher | None, piece: bytes) -> None:
    if hasher is not None:
        hasher.update(piece)
    upload.write(piece)


async def drain_answer(running: Running, answer: Answer) -> int:
    """Read a body to its end, for nothing; its bytes. Raises `TransformFailed`."""
    size = 0
    try:
        async for piece in answer.pieces():
            size += len(piece)
    except (BadAnswer, TookTooLong) as error:
        raise await running.broken(error) from error
    return size
