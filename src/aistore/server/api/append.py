"""APPEND to an object (protocol/20 7).

A session is a work file that any process of the data folder can go on with: `target|work file|checksum type|state`, where the state is
the place where the next bytes belong, so that a request that is sent twice is appended once, and the CRC32 of those before.

A session begins with what its object holds, which who may append to that need not be allowed to read: so the CRC32 is covered, and a handle is
sealed for its object. With another one's, or with a state that a client made up, content could be had elsewhere or be guessed byte by byte.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import os
import re
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

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
from aistore.wire.errors import ApiError, damaged

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
_is_state: Final = re.compile(rb"([0-9]{1,18})\.([0-9]{1,10})\.([0-9a-f]{32})").fullmatch


class _Session(NamedTuple):
    """What a handle says."""

    work: str
    """The work file."""
    size: int
    crc: int
    """CRC32 of its bytes: nothing else tells what they were until they are an object's."""


class _Sums(PieceSums):
    """Sums of pieces, and the CRC32 of all."""

    __slots__ = ("crc",)

    def __init__(self) -> None:
        super().__init__()
        self.crc = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        super().update(data)
        self.crc = zlib.crc32(data, self.crc)


async def append(node: Node, request: Request, bucket: Bucket, name: str) -> Reply:
    """Append to a session, begin one, or flush it into the object."""
    params = request.params
    kind = params[param.APPEND_TYPE]
    handle = params.get(param.APPEND_HANDLE, "")
    if kind not in ("append", "flush"):
        raise ApiError(
            400, f'invalid operation "{kind}" (expecting either "append" or "flush") - check "append_type" query'
        )
    session = _session_of(node, bucket, name, handle) if handle else None
    try:
        if kind == "flush":
            return await _flush(node, request, bucket, name, session)
        begun = session or await _begin(node, bucket, name)
        work = begun.work
        try:
            with node.store.work.open(work, begun.size) as fd:
                appended = await _receive(node, request, fd, begun)
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
    return Reply(200, ((headers.APPEND_HANDLE, _make_handle(node, bucket, name, appended)),))


def url_of_session(node: Node, handle: str) -> str:
    """Where the target that a session's handle names answers (protocol/00 9.1). Raises `ApiError` 400."""
    _parse_handle(node, handle)
    return node.smap.targets[handle.partition("|")[0]]


def _make_handle(node: Node, bucket: Bucket, name: str, session: _Session) -> str:
    cover, seal = _sealed(node, bucket, name, session)
    state = base64.urlsafe_b64encode(f"{session.size}.{session.crc ^ cover}.{seal}".encode()).decode()
    return f"{node.target_id}|{session.work}|{node.props(bucket).checksum.type}|{state}"


def _session_of(node: Node, bucket: Bucket, name: str, handle: str) -> _Session:
    """The session of a handle, which has to be one of this object. Raises `ApiError` 400."""
    session, given = _parse_handle(node, handle)
    cover, _ = _sealed(node, bucket, name, session)
    session = session._replace(crc=session.crc ^ cover)
    if not hmac.compare_digest(given, _sealed(node, bucket, name, session)[1].encode()):
        raise ApiError(400, f'invalid APPEND handle: "{handle}" is no session of {bucket.id.object_cname(name)}')
    return session


def _sealed(node: Node, bucket: Bucket, name: str, session: _Session) -> tuple[int, str]:
    """What covers the CRC32 of a session in its handle, and the seal of that."""
    work, size, crc = session
    about = hmac.digest(node.handle_key, f"{bucket.bid}|{work}|{size}|{name}".encode(), "sha256")
    seal = hmac.digest(node.handle_key, about + crc.to_bytes(8, "big"), "sha256")
    return int.from_bytes(about[:4], "big"), seal.hex()[:32]


def _parse_handle(node: Node, handle: str) -> tuple[_Session, bytes]:
    """The session of a handle, its CRC32 still covered, and the seal. Raises `ApiError` 400."""
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
    numbers = _is_state(digits)
    if numbers is None or not _is_work(work):
        raise ApiError(400, f'invalid APPEND handle: "{handle}"')
    return _Session(work, int(numbers[1]), int(numbers[2])), numbers[3]


async def _begin(node: Node, bucket: Bucket, name: str) -> _Session:
    """Start a session with the object's present content."""
    store = node.store
    row = store.lookup(bucket, name)
    current = await open_verified(store, bucket, row) if row is not None else None
    if current is None:
        return _Session(await store.content.in_short_thread(store.work.start, b"", -1, _Sums()), 0, 0)
    row, fd = current
    try:
        await make_room(store, row.size)
        sums = _Sums()
        work = await in_thread(store.work.start, row.data, fd, sums)
        if sums.size != row.size:
            store.work.remove(work)
            raise ContentMissing(f"it has {sums.size} bytes, not {row.size}", row.bid, row.name)
        return _Session(work, sums.size, sums.crc)
    finally:
        if fd >= 0:
            os.close(fd)


async def _receive(node: Node, request: Request, fd: int, session: _Session) -> _Session:
    """Append the request's body to the work file; how far it is then."""
    if request.content is not None:
        await make_room(node.store, len(request.content), held=session.size)
        return await node.store.content.in_short_thread(_append, fd, session, request.content)
    assert request.body is not None
    async for piece in request.body.chunks(_PIECE):
        await make_room(node.store, len(piece), held=session.size)
        session = await in_thread(_append, fd, session, piece)
    return session


def _append(fd: int, session: _Session, data: bytes | memoryview) -> _Session:
    put_at(fd, session.size, data)
    return _Session(session.work, session.size + len(data), zlib.crc32(data, session.crc))


async def _flush(node: Node, request: Request, bucket: Bucket, name: str, session: _Session | None) -> Reply:
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
    work, size, crc = session
    if not store.work.exists(work):
        return OK  # flushed before: the reference does nothing either (protocol/20 7.2)
    with store.work.open(work, size) as fd:
        sums = _Sums()
        value = await in_thread(hash_file, kind, fd, 0, size, sums)
        if sums.crc != crc:  # the machine has lost power before all of it was on the disk, say
            raise damaged("what was appended is not there any more: it has another CRC32", bucket.id.object_cname(name))
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
