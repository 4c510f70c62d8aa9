"""Downloads into the cache: one for all who want the same object, followed by its readers while it runs."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.http1.message import FilePart
from aistore.server.backends import errors
from aistore.server.backends.base import SOURCE
from aistore.server.backends.errors import RemoteError
from aistore.server.store.content import finished, in_thread
from aistore.server.store.errors import ContentChanged, StoreError
from aistore.server.store.room import make_room
from aistore.server.store.schema import INLINE_MAX
from aistore.wire.checksum import digest, new_hasher
from aistore.wire.errors import ApiError, bad_checksum

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.server.backends.base import Backend, RemoteObject, RemoteReader
    from aistore.server.node import Node
    from aistore.server.store.content import Upload
    from aistore.server.store.rows import Bucket, ObjectRow
    from aistore.wire.checksum import Hasher
    from aistore.wire.names import BucketId

__all__ = ["Blob", "Download", "Growing", "same_content"]

logger = logging.getLogger(__name__)

_ATTEMPTS: Final = 4
"""How often in a row a download that breaks off is resumed without a byte of progress."""
_PAUSE: Final = 0.2  # seconds before the second attempt; doubled for each one after it

CHUNK: Final = 4 << 20
CHUNK_MIN: Final = 32 << 10
CHUNK_MAX: Final = 16 << 20
_WORKERS: Final = 4
_WORKERS_MAX: Final = 32


class Blob(NamedTuple):
    """How a blob download reads: ranges of `chunk` bytes, `workers` at a time (0: chosen by size, -1: one)."""

    chunk: int = CHUNK
    workers: int = 0

    def clamped(self) -> int:
        """Bytes of a chunk (protocol/20 4.6)."""
        return min(max(self.chunk or CHUNK, CHUNK_MIN), CHUNK_MAX)

    def workers_for(self, size: int) -> int:
        """Ranges that are read at a time."""
        chunks = max(1, -(-size // self.clamped()))
        if self.workers < 0:
            return 1
        return min(self.workers or _WORKERS, chunks, _WORKERS_MAX)


class Download:
    """One object on its way into the cache.

    `opened` is done when its attributes are known, `done` when it is stored; the latter gives its row, or None if the object was
    written or evicted meanwhile, so that what came was not kept. Both give None if another process had it downloaded before this one
    came to it. Both have the error if there was one. Nobody has to wait for either.
    """

    def __init__(
        self,
        node: Node,
        bucket: Bucket,
        remote: BucketId,
        name: str,
        before: ObjectRow | None,
        blob: Blob | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._node = node
        self._bucket = bucket
        self._remote = remote
        self._name = name
        self._blob = blob
        self._backend: Backend = node.backends.of(bucket)
        self._before = before
        self._upload: Upload | None = None
        self._received = 0
        self._more = loop.create_future()
        self.dropped = False
        """Set when the object is written or evicted: what comes is then for the readers only."""
        self.opened: asyncio.Future[RemoteObject | None] = loop.create_future()
        self.done: asyncio.Future[ObjectRow | None] = loop.create_future()
        for future in (self.opened, self.done):
            future.add_done_callback(_seen)
        self._task = asyncio.ensure_future(self._run())

    @property
    def cname(self) -> str:
        """Printable name of the object."""
        return self._bucket.id.object_cname(self._name)

    @property
    def received(self) -> int:
        """Bytes of the object that are there."""
        return self._received

    def cancel(self) -> None:
        """Give up; those who wait are told."""
        self._task.cancel()

    async def ended(self) -> None:
        """Wait for the task's end, whatever came of it."""
        await asyncio.gather(self._task, return_exceptions=True)

    # -- following ---------------------------------------------------------------------------------------------

    def follow(self, offset: int, length: int, released: Callable[[], None]) -> Growing | None:
        """A part of the content as the body of an answer, sent while it comes; None if it does not come into a file."""
        if self._upload is None:
            return None
        fd = os.open(self._upload.path, os.O_RDONLY | os.O_CLOEXEC)
        return Growing(self, fd, offset, length, released)

    async def available(self, offset: int) -> int:
        """Wait until bytes behind `offset` are there; up to where. Raises what ended the download."""
        found = await asyncio.shield(self.opened)
        assert found is not None  # there is nothing to follow then
        size = found.size
        while True:
            if self.done.done():
                self.done.result()
                return size
            # The last byte waits for the commit: whoever has read an object to its end finds it cached, and what does not match its
            # checksum is never a complete answer.
            there = min(self._received, size - 1)
            if there > offset:
                return there
            await asyncio.shield(self._more)

    def _advance(self, received: int) -> None:
        self._received = received
        self._wake()

    def _wake(self) -> None:
        more, self._more = self._more, asyncio.get_running_loop().create_future()
        more.set_result(None)

    # -- the work ----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            row = await self._fetch_once()
        except asyncio.CancelledError:
            self._fail(RemoteError("failed", 503, f"the download of {self.cname} was given up"))
            raise
        except (ApiError, StoreError, OSError) as error:
            self._fail(error)
        except Exception as error:  # a defect must not leave readers waiting
            logger.exception("the download of %s failed", self.cname)
            self._fail(ApiError(500, f"{self.cname}: {type(error).__name__}: {error} (see the server's log)"))
        else:
            self.done.set_result(row)
        finally:
            if self._upload is not None and (self.done.exception() or self.done.result() is None):
                self._upload.abandon()
            self._wake()

    def _fail(self, error: Exception) -> None:
        for future in (self.opened, self.done):
            if not future.done():
                future.set_exception(error)

    async def _fetch_once(self) -> ObjectRow | None:
        """Fetch it, unless another process of the data folder does so at this moment."""
        node = self._node
        async with node.backends.claimed(self._bucket, self._name):
            if node.shared and not same_content(node.store.lookup(self._bucket, self._name), self._before):
                self.opened.set_result(None)
                return None
            return await self._fetch()

    async def _fetch(self) -> ObjectRow | None:
        store = self._node.store
        reader: RemoteReader | None = None
        if self._blob is None:
            reader = await self._backend.open(self._remote, self._name)
            found = reader.object
        else:
            found = await self._backend.head(self._remote, self._name)
        try:
            await make_room(store, found.size)
            kinds = self._kinds(found)
            content: bytes | Upload
            if found.size <= INLINE_MAX:
                self.opened.set_result(found)
                content = await self._read_small(found, reader)
                sums = {kind: digest(kind, content) for kind in kinds}
            else:
                self._upload = content = await store.content.create(found.size)
                self.opened.set_result(found)
                if reader is not None:
                    sums = await self._read_large(found, reader, content, kinds)
                else:
                    await self._read_ranges(found, content)
                    content.size = found.size
                    sums = {kind: await in_thread(content.checksum, kind) for kind in kinds}
                content.size = found.size
        finally:
            if reader is not None:
                reader.close()
        self._compare(found, sums)
        if isinstance(content, bytes):
            return await self._keep(found, content, kinds[0], sums[kinds[0]])
        await in_thread(content.finish)
        return await self._keep(found, content, kinds[0], sums[kinds[0]])

    def _kinds(self, found: RemoteObject) -> list[str]:
        """The bucket's type of checksum, and the backend's if that is to be compared."""
        props = self._node.props(self._bucket).checksum
        kinds = [props.type]
        theirs = found.checksum[0]
        if theirs and theirs not in kinds and props.validate_cold_get:
            kinds.append(theirs)
        return kinds

    def _compare(self, found: RemoteObject, sums: dict[str, str]) -> None:
        kind, expected = found.checksum
        # A cluster's checksum is one; a cloud's entity tag only where the bucket says so.
        certain = found.custom.get(SOURCE) == "ais" or self._node.props(self._bucket).checksum.validate_cold_get
        if expected and certain and sums.get(kind, expected) != expected:
            raise bad_checksum(kind, sums[kind], expected, self.cname)

    async def _keep(self, found: RemoteObject, content: bytes | Upload, kind: str, checksum: str) -> ObjectRow | None:
        if self.dropped:
            return None
        before = self._before

        def unchanged(old: ObjectRow | None) -> None:
            if not same_content(old, before):
                raise ContentChanged(self._name)

        try:
            row = await self._node.store.put(
                self._bucket, self._name, content, kind, checksum, custom=dict(found.custom), versioned=bool(found.version),
                fresh=True, counted_from=found.version, check=unchanged,
            )  # fmt: skip
        except ContentChanged:
            return None
        self._node.stats.fetched(found.size)
        return row

    # -- reading -----------------------------------------------------------------------------------------------

    async def _read_small(self, found: RemoteObject, reader: RemoteReader | None) -> bytes:
        parts: list[bytes] = []

        async def take(piece: bytes | bytearray | memoryview) -> None:
            parts.append(bytes(piece))

        await self._read(found, reader, 0, found.size, take)
        return b"".join(parts)

    async def _read_large(
        self, found: RemoteObject, reader: RemoteReader, upload: Upload, kinds: list[str]
    ) -> dict[str, str]:
        """Read piece by piece; one is hashed and written in a thread while the next one comes."""
        loop = asyncio.get_running_loop()
        hashers = {kind: hasher for kind in kinds if (hasher := new_hasher(kind)) is not None}
        writing: asyncio.Future[None] | None = None

        async def settle() -> None:
            nonlocal writing
            if writing is not None:
                work, writing = writing, None
                await finished(work)
                self._advance(upload.size)

        async def take(piece: bytes | bytearray | memoryview) -> None:
            nonlocal writing
            await settle()
            writing = loop.run_in_executor(None, _take, upload, hashers, piece)

        try:
            await self._read(found, reader, 0, found.size, take)
        finally:
            await settle()
        return {kind: hashers[kind].hexdigest() if kind in hashers else "" for kind in kinds}

    async def _read_ranges(self, found: RemoteObject, upload: Upload) -> None:
        """Read ranges side by side into their places."""
        assert self._blob is not None
        chunk = self._blob.clamped()
        starts = list(range(0, found.size, chunk))
        todo = iter(starts)
        finished_chunks: set[int] = set()

        async def work() -> None:
            for start in todo:
                at = start

                async def take(piece: bytes | bytearray | memoryview) -> None:
                    nonlocal at
                    await in_thread(upload.write_at, at, piece)
                    at += len(piece)

                await self._read(found, None, start, min(chunk, found.size - start), take)
                finished_chunks.add(start)
                there = self._received
                while there in finished_chunks:
                    there = min(there + chunk, found.size)
                self._advance(there)

        workers = [asyncio.ensure_future(work()) for _ in range(self._blob.workers_for(found.size))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _read(
        self,
        found: RemoteObject,
        reader: RemoteReader | None,
        start: int,
        length: int,
        take: Callable[[bytes | bytearray | memoryview], object],
    ) -> None:
        """Read a range to its end, beginning anew where it breaks off. `reader`, if given, is at its start."""
        at, end, failures = start, start + length, 0
        opened = reader is None
        try:
            while at < end:
                try:
                    if reader is None:
                        whole = at == 0 and end == found.size
                        reader = await self._backend.open(
                            self._remote, self._name, start=at, length=None if whole else end - at, same=found
                        )
                        opened = True
                    piece = await reader.read()
                    if len(piece) > end - at:
                        raise errors.broken(self.cname, self._backend.endpoint, "more came than was announced")
                    if not piece:
                        raise errors.broken(
                            self.cname, self._backend.endpoint, f"the content ends {end - at} bytes early"
                        )
                except RemoteError as error:
                    failures += 1
                    if not error.passes or failures >= _ATTEMPTS:
                        raise
                    logger.warning("%s at byte %d: %s; going on from there", self.cname, at, error.message)
                    if reader is not None and opened:
                        reader.close()
                    reader = None
                    await asyncio.sleep(_PAUSE * 2 ** (failures - 1))
                    continue
                failures = 0
                result = take(piece)
                if asyncio.iscoroutine(result):
                    await result
                at += len(piece)
        finally:
            if reader is not None and opened:
                reader.close()


class Growing(FilePart):
    """A part of content that is still coming."""

    __slots__ = ("_download",)

    grows = True

    def __init__(self, download: Download, fd: int, offset: int, length: int, released: Callable[[], None]) -> None:
        super().__init__(fd, offset, length, released)
        self._download = download

    async def ready(self, offset: int) -> int:
        """Wait until bytes at `offset` can be sent; up to where."""
        return await self._download.available(offset)


def same_content(row: ObjectRow | None, other: ObjectRow | None) -> bool:
    """Whether two rows of an object have the same content, or there is none."""
    if row is None or other is None:
        return row is other
    return (row.layout, row.content) == (other.layout, other.content)


def _take(upload: Upload, hashers: dict[str, Hasher], data: bytes | bytearray | memoryview) -> None:
    for hasher in hashers.values():
        hasher.update(data)
    upload.write(data)


def _seen(future: asyncio.Future[RemoteObject | None] | asyncio.Future[ObjectRow | None]) -> None:
    """An error that nobody waits for is no mistake: the next reader gets its own."""
    if not future.cancelled():
        with suppress(BaseException):
            future.exception()
