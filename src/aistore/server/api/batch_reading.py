"""The entries of a batch, read ahead in parallel and given out in the order in which they were asked for (protocol/40 A5-A8).

What is small is in memory when its turn comes, at most `_AHEAD` entries of `_SMALL` bytes; what is larger is read when it goes out.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.server.api.remote.reading import cached
from aistore.server.archive.archives import Content
from aistore.server.archive.errors import BadArchive
from aistore.server.archive.formats import detect
from aistore.server.archive.names import clean
from aistore.server.archive.reading import content_of, in_one_piece
from aistore.server.archive.source import FileSource
from aistore.server.store.content import NearbyFiles, in_thread
from aistore.server.store.errors import ContentDamaged, StoreError
from aistore.server.store.schema import LAYOUT_INLINE
from aistore.server.store.verifying import is_summed
from aistore.wire.errors import ApiError, object_not_found

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aistore.server.archive.formats import Format
    from aistore.server.archive.index import Index, Member
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket, ObjectRow

__all__ = ["BatchReader", "Found", "Wanted"]

_SMALL: Final = 64 * 1024
_PIECE: Final = 1 << 20
_AHEAD: Final = 64
_ENTRY_COST: Final = 512  # bytes of content that take as long as what each entry costs beside them
_AHEAD_OF_ALL: Final = 512  # entries that all batches of a process together read ahead, at least 4 each
_SHARDS: Final = 8  # archives that one batch keeps open
_SECOND: Final = 1_000_000_000


class Wanted(NamedTuple):
    """One entry, checked: names are as the store has them."""

    bucket: Bucket
    name: str
    path: str
    start: int
    length: int
    """0 for the whole, -1 for all from `start` on."""


class Found:
    """Content of an entry: small content as `data`, else a part of the file `fd`, or `pieces`, which block, out of an archive."""

    __slots__ = ("data", "fd", "mtime", "offset", "pieces", "row", "shard", "size")

    def __init__(self, size: int, mtime: int, data: bytes | None = None, fd: int = -1, offset: int = 0) -> None:
        self.size = size
        self.mtime = mtime
        """Unix seconds."""
        self.data = data
        self.fd = fd
        self.offset = offset
        self.pieces: Iterator[bytes] | None = None
        self.shard: Content | None = None
        self.row: ObjectRow | None = None
        """The version that is read, where it is an object or a part of one."""

    def close(self) -> None:
        """Let go of the file; more than once does no harm."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)
        if self.shard is not None:
            self.shard.close()


class _Shard(NamedTuple):
    content: Content
    form: Format
    members: Index


class _Opening:
    """An archive that is being opened, or is open."""

    __slots__ = ("task", "users")

    def __init__(self, task: asyncio.Task[_Shard]) -> None:
        self.task = task
        self.users = 0
        """Entries that wait for it: it stays open for them."""


class BatchReader:
    """Reads the entries of one batch. `take` gives the next one; close it."""

    def __init__(self, node: Node, wanted: list[Wanted]) -> None:
        self._node = node
        self._wanted = wanted
        self._next = 0
        self._slots: deque[Found | Exception | asyncio.Task[Found]] = deque()
        self._shards: dict[tuple[int, str], _Opening] = {}
        self._now = time.time_ns()
        self._bucket: Bucket | None = None
        self._nearby = NearbyFiles(node.store.content)
        self._careful = False  # whether more than opening is to be done for objects of that bucket

    @property
    def is_ready(self) -> bool:
        """Whether the next entry can be taken without waiting."""
        self._look_ahead()
        return not isinstance(self._slots[0], asyncio.Task) or self._slots[0].done()

    def take_run(self, room: int) -> list[tuple[bytes, int]]:
        """The next entries, as far as they are whole small objects whose content is in memory, as nearly all are: content and time of each.

        Some `room` bytes of them. Empty if the next one takes more, or is missing: `take_now` and `take` tell.
        """
        taken: list[tuple[bytes, int]] = []
        if self._slots or self._careful:
            return taken
        store, bucket, now = self._node.store, self._bucket, self._now
        for wanted in itertools.islice(self._wanted, self._next, None):
            if wanted.bucket is not bucket or wanted.path or wanted.length:
                break
            row = store.lookup(bucket, wanted.name)
            if row is None or row.size > _SMALL:
                break
            data, stamp = row.data, 0
            if row.layout != LAYOUT_INLINE:
                if (found := self._nearby.read(row.content, row.size)) is None:
                    store.verifier.forget(row)
                    break
                data, stamp = found
            if data is None or not self._is_good(row, data, stamp):
                break
            taken.append((data, store.atimes.note(row, now) // _SECOND))
            room -= row.size + _ENTRY_COST
            if room <= 0:
                break
        self._next += len(taken)
        return taken

    def _is_good(self, row: ObjectRow, data: bytes, stamp: int) -> bool:
        """Whether content is what was stored; what is not is told when its turn comes."""
        verifier = self._node.store.verifier
        try:
            verifier.refuse(row)
            verifier.check(row, data, stamp)
        except ContentDamaged:
            return False
        return True

    def take_now(self) -> Found | None:
        """The next entry if it is in memory; None if `take` has to tell."""
        slots = self._slots
        if not slots:  # nothing waits, so nothing is read ahead
            slot = self._begin(self._wanted[self._next])
            self._next += 1
            if isinstance(slot, Found) and slot.data is not None:
                return slot
            slots.append(slot)
        self._look_ahead()
        slot = slots[0]
        if isinstance(slot, Found) and slot.data is not None:
            slots.popleft()
            return slot
        return None

    async def take(self) -> Found:
        """The next entry, to be closed. Raises `ApiError`: status 404 for an object or member that is missing; then the next can be taken."""
        self._look_ahead()
        slot = self._slots.popleft()
        if isinstance(slot, asyncio.Task):
            return await slot
        if isinstance(slot, Exception):
            raise slot
        return slot

    async def content(self, found: Found) -> AsyncIterator[bytes]:
        """The pieces of content that is not in memory. Raises `ApiError` or `OSError` where it is damaged."""
        if found.pieces is not None:
            left = found.size
            while left:
                try:
                    piece = await self._node.control.archives.run(next, found.pieces, b"")
                except BadArchive as error:
                    raise ApiError(400, f"failed to read a member: {error}") from error
                if not piece or len(piece) > left:
                    raise ApiError(400, "failed to read a member: it has not the size that the archive states")
                left -= len(piece)
                yield piece
            return
        source = FileSource(found.fd, found.offset + found.size)
        row, verifier = found.row, self._node.store.verifier
        assert row is not None
        checking: asyncio.Future[None] | None = None
        if found.size == row.size and is_summed(row) and verifier.wants(row, found.fd):
            checking = asyncio.ensure_future(verifier.check_file(row, found.fd))
        try:
            at = found.offset
            while at < source.size:
                if checking is None:
                    await verifier.check_pieces(row, found.fd, at, min(_PIECE, source.size - at))
                piece = await in_thread(source.read_at, at, min(_PIECE, source.size - at))
                at += len(piece)
                if at == source.size and checking is not None:
                    await asyncio.shield(checking)
                yield piece
        finally:
            if checking is not None:
                await asyncio.gather(checking, return_exceptions=True)

    def close(self) -> None:
        """Give up what was read ahead."""
        for slot in self._slots:
            if isinstance(slot, asyncio.Task):
                _discard(slot)
            elif isinstance(slot, Found):
                slot.close()
        self._slots.clear()
        self._nearby.close()
        self._next = len(self._wanted)
        for opening in self._shards.values():
            _close_shard(opening.task)
        self._shards.clear()

    # -- reading ahead --

    def _look_ahead(self) -> None:
        most = min(_AHEAD, max(4, _AHEAD_OF_ALL // max(1, self._node.batches)))
        # One by one while what comes next is here: reading 64 before the first goes out would hold it up.
        while self._next < len(self._wanted) and (not self._slots or (self._waits and len(self._slots) < most)):
            self._slots.append(self._begin(self._wanted[self._next]))
            self._next += 1

    @property
    def _waits(self) -> bool:
        slot = self._slots[0]
        return isinstance(slot, asyncio.Task) or (isinstance(slot, Found) and slot.data is None)

    def _begin(self, wanted: Wanted) -> Found | Exception | asyncio.Task[Found]:
        node, bucket = self._node, wanted.bucket
        row = node.store.lookup(bucket, wanted.name)
        if row is None and bucket.remote is None:
            return object_not_found(node.name, bucket.id.object_cname(wanted.name))
        if bucket is not self._bucket:
            self._bucket = bucket
            self._careful = node.props(bucket).checksum.validate_warm_get or self._wants_latest(bucket)
        if row is None or wanted.path or self._careful:
            return asyncio.ensure_future(self._read(wanted))
        try:
            found = self._of_object(wanted, row)
        except (ApiError, StoreError, OSError) as error:
            return error  # for when its turn comes: those before it are good
        return found if found.data is not None or found.size > _SMALL else asyncio.ensure_future(self._filled(found))

    def _wants_latest(self, bucket: Bucket) -> bool:
        """Whether the backend is asked for its version of what is cached, as by a GET."""
        versioning = self._node.props(bucket).versioning
        return bucket.remote is not None and (versioning.validate_warm_get or versioning.synchronize)

    def _of_object(self, wanted: Wanted, row: ObjectRow) -> Found:
        """An object whose row is known; small content is read if that needs no waiting."""
        node, bucket, verifier, fd = self._node, wanted.bucket, self._node.store.verifier, -1
        if row.data is None:
            current = node.store.open_current(bucket, row)
            if current is None:
                raise object_not_found(node.name, bucket.id.object_cname(wanted.name))
            row, fd = current
        try:
            offset, size = part_of(wanted, row.size)
        except ApiError:
            if fd >= 0:
                os.close(fd)
            raise
        found = Found(size, node.store.atimes.note(row, self._now) // _SECOND, fd=fd, offset=offset)
        found.row = row
        if row.data is not None:
            found.data = row.data if size == row.size else row.data[offset : offset + size]
        elif size > _SMALL:
            # Before the system is asked to read it, which makes it look as if it had been in memory.
            verifier.knows(row, fd, offset, size)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(fd, offset, min(size, _PIECE), os.POSIX_FADV_WILLNEED)
        else:
            try:
                found.data = verifier.read_now(row, fd, offset, size)
            except BaseException:
                found.close()
                raise
            if found.data is not None:
                found.close()
        return found

    async def _read(self, wanted: Wanted) -> Found:
        """An entry that takes more than opening a file."""
        if wanted.path:
            return await self._of_member(wanted)
        row = await cached(self._node, wanted.bucket, wanted.name, latest=self._wants_latest(wanted.bucket))
        found = self._of_object(wanted, row)
        try:
            if self._node.props(wanted.bucket).checksum.validate_warm_get and not wanted.length:
                await self._verify(found)
        except BaseException:
            found.close()
            raise
        return found if found.data is not None or found.size > _SMALL else await self._filled(found)

    async def _filled(self, found: Found) -> Found:
        """Small content, read from the disk. Raises `ContentDamaged`, `OSError`."""
        row, verifier = found.row, self._node.store.verifier
        assert row is not None
        try:
            if found.size < row.size:
                await verifier.check_pieces(row, found.fd, found.offset, found.size)
            source = FileSource(found.fd, found.offset + found.size)
            found.data = await in_thread(source.read_at, found.offset, found.size)
            if found.size == row.size:
                verifier.check(row, found.data, os.fstat(found.fd).st_mtime_ns, cold=True)
        finally:
            found.close()
        return found

    async def _verify(self, found: Found) -> None:
        """Compare whole content with its checksum (bucket property `checksum.validate_warm_get`)."""
        row = found.row  # not the one that was looked up: another version may have come in between
        if row is not None and found.data is not None:
            self._node.store.verifier.check(row, found.data, cold=True)
        elif row is not None:
            await self._node.store.verifier.check_file(row, found.fd, exact=True)

    # -- members of archives --

    async def _of_member(self, wanted: Wanted) -> Found:
        opening = self._shard(wanted)
        opening.users += 1
        try:
            return await self._from_shard(wanted, await asyncio.shield(opening.task))
        finally:
            opening.users -= 1
            self._limit_shards()

    async def _from_shard(self, wanted: Wanted, shard: _Shard) -> Found:
        node, cname = self._node, wanted.bucket.id.object_cname(wanted.name)
        member = shard.members.find(clean(wanted.path))
        if member is None:
            if shard.members.damage:
                raise ApiError(400, f"failed to open {cname}: {shard.members.damage}")
            raise ApiError(404, f"{node.name}: {wanted.path} in {cname} does not exist", "ErrNotFound")
        offset, size = part_of(wanted, member.size)
        content = shard.content.again()
        try:
            return await self._from_member(shard, content, member, offset, size)
        except BadArchive as error:
            content.close()
            raise ApiError(400, f"failed to read {wanted.path} in {cname}: {error}") from error
        except BaseException:
            content.close()
            raise

    async def _from_member(self, shard: _Shard, content: Content, member: Member, offset: int, size: int) -> Found:
        run = self._node.control.archives.run
        at = await run(in_one_piece, content.source, shard.form, member)
        found = Found(size, 0)
        if at >= 0:
            if content.fd < 0 or size <= _SMALL:
                found.data = await run(content.source.read_at, at + offset, size)
                content.close()
            else:
                found.fd, found.offset = content.give_fd(), at + offset
                found.row = content.row
            return found
        pieces = _part(await run(content_of, content.source, shard.form, member), offset, size)
        if size <= _SMALL:
            found.data = await run(b"".join, pieces)
            content.close()
            if len(found.data) != size:
                raise BadArchive("unexpected EOF")
        else:
            found.pieces, found.shard = pieces, content
        return found

    def _shard(self, wanted: Wanted) -> _Opening:
        """The archive, opened once for all its entries that are near to each other."""
        key = wanted.bucket.bid, wanted.name
        opening = self._shards.pop(key, None)
        if opening is None:
            opening = _Opening(asyncio.ensure_future(self._open_shard(wanted)))
        self._shards[key] = opening
        return opening

    def _limit_shards(self) -> None:
        if len(self._shards) > _SHARDS:
            unused = [key for key, opening in self._shards.items() if not opening.users]
            for key in unused[: len(self._shards) - _SHARDS]:
                _close_shard(self._shards.pop(key).task)

    async def _open_shard(self, wanted: Wanted) -> _Shard:
        node, bucket, name = self._node, wanted.bucket, wanted.name
        content = None
        while content is None:
            row = await cached(node, bucket, name, latest=self._wants_latest(bucket))
            content = Content.open(node.store, bucket, name)
        try:
            node.store.atimes.note(row, self._now)
            form = await node.control.archives.run(detect, name, "", content.source)
            return _Shard(content, form, await node.control.archives.index(content, form))
        except BaseException:
            content.close()
            raise


def part_of(wanted: Wanted, size: int) -> tuple[int, int]:
    """Offset and length of what is wanted of so many bytes. Raises `ApiError` 400 for a range outside of them (protocol/40 A8)."""
    start, length = wanted.start, wanted.length
    if not length:
        return 0, size
    end = size if length < 0 else start + length
    if start >= size or end > size:
        raise ApiError(
            400, f"size={size}: not satisfiable range [start={start},length={length}]", "ErrRangeNotSatisfiable"
        )
    return start, end - start


def _part(pieces: Iterator[bytes], offset: int, size: int) -> Iterator[bytes]:
    for piece in pieces:
        if not size:
            return
        if offset >= len(piece):
            offset -= len(piece)
            continue
        chosen = piece[offset : offset + size]
        offset = 0
        size -= len(chosen)
        yield chosen


def _discard(task: asyncio.Task[Found]) -> None:
    """Let a task end that nobody waits for any more, and close what it may have opened."""

    def ended(task: asyncio.Task[Found]) -> None:
        if not task.cancelled() and task.exception() is None:
            task.result().close()

    task.cancel()
    task.add_done_callback(ended)


def _close_shard(opening: asyncio.Task[_Shard]) -> None:
    def ended(task: asyncio.Task[_Shard]) -> None:
        if not task.cancelled() and task.exception() is None:
            task.result().content.close()

    opening.add_done_callback(ended)
