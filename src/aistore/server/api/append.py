"""APPEND to an object (protocol/20 7).

A session is a work file that any process of the data folder can go on with: `target|work file|checksum type|state`, where the state is
the place where the next bytes belong, so that a request that is sent twice is appended once.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
from typing import TYPE_CHECKING, Final

from aistore.http1.message import Reply
from aistore.server.api.messages import OK
from aistore.server.store.content import hash_file, in_thread
from aistore.server.store.errors import ContentMissing
from aistore.server.store.pieces import PieceSums
from aistore.server.store.room import make_room
from aistore.server.store.schema import INLINE_MAX
from aistore.server.store.sync import sync_file
from aistore.server.store.verifying import open_verified
from aistore.server.store.work import WorkBusy, WorkGone, put_at
from aistore.wire import headers
from aistore.wire import params as param
from aistore.wire.checksum import check_value
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from aistore.http1.server import Request
    from aistore.server.node import Node
    from aistore.server.store.content import Upload
    from aistore.server.store.rows import Bucket

__all__ = ["append", "url_of_session"]

logger = logging.getLogger(__name__)

_CHECKSUM_TYPE: Final = headers.CHECKSUM_TYPE.lower()
_CHECKSUM_VALUE: Final = headers.CHECKSUM_VALUE.lower()
_PIECE: Final = 1 << 20
_is_work: Final = re.compile(r"append-[A-Za-z]{10}").fullmatch


async def append(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    """Append to a session, begin one, or flush it into the object."""
    params = request.params
    kind = params[param.APPEND_TYPE]
    handle = params.get(param.APPEND_HANDLE, "")
    if kind not in ("append", "flush"):
        raise ApiError(
            400, f'invalid operation "{kind}" (expecting either "append" or "flush") - check "append_type" query'
        )
    session = _parse_handle(node, handle) if handle else None
    try:
        if kind == "flush":
            return await _flush(node, request, bucket, name, session)
        work, size = session or await _begin(node, bucket, name)
        try:
            with node.store.work.open(work, size) as fd:
                size = await _receive(node, request, fd, size)
                if node.store.durability == "strict":
                    await node.store.content.in_short_thread(sync_file, fd)
        except BaseException:
            if session is None:  # nobody knows of it
                node.store.work.remove(work)
            raise
    except WorkGone:
        raise ApiError(404, f"{bucket.id.object_cname(name)}: append session {handle} does not exist") from None
    except WorkBusy:
        raise ApiError(409, f"{bucket.id.object_cname(name)}: append session {handle} is busy") from None
    node.stats.appended()
    return Reply(200, ((headers.APPEND_HANDLE, _make_handle(node, work, size, node.props(bucket).checksum.type)),))


def url_of_session(node: Node, handle: str) -> str:
    """Where the target that a session's handle names answers (protocol/00 9.1). Raises `ApiError` 400."""
    _parse_handle(node, handle)
    return node.smap.targets[handle.partition("|")[0]]


def _make_handle(node: Node, work: str, size: int, kind: str) -> str:
    state = base64.urlsafe_b64encode(str(size).encode()).decode()
    return f"{node.target_id}|{work}|{kind}|{state}"


def _parse_handle(node: Node, handle: str) -> tuple[str, int]:
    """Work file and length of a session. Raises `ApiError` 400."""
    items = handle.split("|")
    if len(items) != 4:
        raise ApiError(400, f'invalid APPEND handle: "{handle}"')
    target, work, _, state = items
    if not node.smap.has_target(target):
        raise ApiError(
            400,
            f"{node.name}: APPEND failure: node {target} not present in Smap v{node.smap.version}",
            "errNodeNotFound",
        )
    try:
        digits = base64.urlsafe_b64decode(state)
    except (ValueError, binascii.Error):
        digits = b""
    if not (digits.isdigit() and len(digits) < 19 and _is_work(work)):
        raise ApiError(400, f'invalid APPEND handle: "{handle}"')
    return work, int(digits)


async def _begin(node: Node, bucket: Bucket, name: str) -> tuple[str, int]:
    """Start a session with the object's present content."""
    store = node.store
    row = store.lookup(bucket, name)
    current = await open_verified(store, bucket, row) if row is not None else None
    if current is None:
        return await store.content.in_short_thread(store.work.start, b"", -1)
    row, fd = current
    try:
        await make_room(store, row.size)
        work, size = await in_thread(store.work.start, row.data, fd)
        if size != row.size:
            store.work.remove(work)
            raise ContentMissing(f"it has {size} bytes, not {row.size}", row.bid, row.name)
        return work, size
    finally:
        if fd >= 0:
            os.close(fd)


async def _receive(node: Node, request: Request, fd: int, size: int) -> int:
    """Append the request's body to the work file; its new size."""
    if request.content is not None:
        await make_room(node.store, len(request.content), held=size)
        await node.store.content.in_short_thread(put_at, fd, size, request.content)
        return size + len(request.content)
    assert request.body is not None
    async for piece in request.body.chunks(_PIECE):
        await make_room(node.store, len(piece), held=size)
        await in_thread(put_at, fd, size, piece)
        size += len(piece)
    return size


async def _flush(node: Node, request: Request, bucket: Bucket, name: str, session: tuple[str, int] | None) -> Reply:
    if session is None:
        raise ApiError(
            400,
            "failed to finalize append-file operation: empty source in the {partialCksum:<nil> nodeID: workFQN:} handle",
        )
    given = request.headers.get(_CHECKSUM_TYPE, "").lower(), request.headers.get(_CHECKSUM_VALUE, "")
    if all(given):
        check_value(*given)
    if request.body is not None:  # it does not count (protocol/20 7.2)
        async for _ in request.body.chunks():
            pass
    store, props = node.store, node.props(bucket)
    kind = props.checksum.type
    work, size = session
    if not store.work.exists(work):
        return OK  # flushed before: the reference does nothing either (protocol/20 7.2)
    with store.work.open(work, size) as fd:
        sums = PieceSums()
        value = await in_thread(hash_file, kind, fd, 0, size, sums)
        if all(given) and given != (kind, value):
            raise ApiError(500, f"BAD DATA CHECKSUM: {kind}({value} != {given[1]})", "ErrBadCksum")
        await make_room(store, 0, held=size)
        content: bytes | Upload
        if size <= INLINE_MAX:
            content = os.pread(fd, size, 0)
        else:
            content = await store.content.create(size)
            try:
                await in_thread(store.work.give_to, content, work, size)
                content.sums = sums
            except BaseException:
                content.abandon()
                raise
        await store.put(bucket, name, content, kind, value, versioned=props.versioning.enabled)
        try:
            store.work.remove(work)
        except OSError:  # the object is stored, which is what the client asked for
            logger.exception("%s, which is flushed, is left over in %s", work, store.work.root)
    node.stats.written(size)
    return OK
