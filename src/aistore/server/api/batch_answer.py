"""The answer to a batch: an archive that is streamed, or one that is complete, behind what is known of its entries (protocol/40 A5, A6)."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.http1.incoming import BrokenRequest
from aistore.http1.message import Reply
from aistore.server.api.batch_reading import BatchReader, Found
from aistore.server.archive.formats import Format
from aistore.server.archive.streaming import new_packer, new_stream
from aistore.server.store.content import in_thread
from aistore.server.store.errors import StoreFull
from aistore.server.store.work import unnamed_file
from aistore.wire.batch import MISSING, BatchMetadata, BatchRecord, name_in_archive
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Coroutine

    from aistore.http1.server import Request
    from aistore.server.api.batch_reading import Wanted
    from aistore.server.archive.streaming import ArchiveStream
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.wire.batch import BatchEntry

__all__ = ["BatchAnswer", "Order"]

logger = logging.getLogger(__name__)

_FLUSH: Final = 256 * 1024
_FEW: Final = 4  # batches at a time; among more, each does less in its turn
_FLUSH_OF_MANY: Final = 64 * 1024
_IN_MEMORY: Final = 1 << 20  # of an answer that is made whole before it is sent
_READ: Final = 1 << 20
_TYPES: Final = {
    Format.TAR: "application/x-tar",
    Format.TGZ: "application/gzip",
    Format.LZ4: "application/x-lz4",
    Format.ZIP: "application/zip",
}


@dataclass
class Order:
    """What was asked for; `entries` as they came, `wanted` as they are looked up."""

    entries: list[BatchEntry]
    wanted: list[Wanted]
    form: Format
    continue_on_error: bool
    only_name: bool
    soft_errors: int
    """Missing entries after which the rest is given up."""


class _BrokenOff(ConnectionAbortedError):
    """A streamed answer cannot be what was asked for: the connection ends, so that nobody takes it for whole."""


class BatchAnswer:
    """Makes the answer to one batch; `streamed` or `buffered` is called once."""

    def __init__(self, node: Node, order: Order) -> None:
        self._node = node
        self._order = order
        self._reader = BatchReader(node, order.wanted)
        self._records: list[BatchRecord] = []
        self._soft_errors = 0
        self._streaming = False
        self._read = self._done = self._done_bytes = 0
        self._first: Found | ApiError | None = None
        self.job: Job | None = None
        self.job_id = ""
        self.ended = asyncio.Event()
        """Set when the answer is out, or given up."""
        node.batches += 1
        node.batch_entries += len(order.wanted)

    async def streamed(self) -> Reply:
        """The archive as it is made. Raises `ApiError` if the first entry cannot be had and that is to be an error."""
        self._streaming = True
        try:
            self._first = await self._take(0)
        except BaseException:
            self.close()
            raise
        headers = (("Content-Type", _TYPES[self._order.form]),)
        return Reply(200, headers, _Body(self, self._pieces()))

    async def buffered(self, request: Request) -> Reply:
        """Everything, after all of it was read. Raises `ApiError`, `StoreFull`, `BrokenRequest` once nobody waits for it."""
        spool = _Spool(self._node, request)
        try:
            async for piece in self._pieces():
                await spool.write(piece)
        except BaseException:
            spool.close()
            raise
        finally:
            self.close()
        boundary = secrets.token_hex(30)
        metadata = msgspec.json.encode(BatchMetadata(self.job_id, self._records))
        before = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n'.encode()
            + metadata
            + f"\n\r\n--{boundary}\r\n"
            f'Content-Disposition: form-data; name="archive"; filename="get-batch[{self.job_id}]"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n".encode()
        )
        after = f"\r\n--{boundary}--\r\n".encode()
        headers = [("Content-Type", f"multipart/mixed; boundary={boundary}")]
        if spool.fd < 0:
            return Reply(200, headers, b"".join((before, *spool.pieces, after)))
        headers.append(("Content-Length", str(len(before) + spool.size + len(after))))
        return Reply(200, headers, _Body(spool, spool.between(before, after)))

    def close(self) -> None:
        """Give up what was read ahead; more than once does no harm."""
        if not self.ended.is_set():
            self.ended.set()
            self._node.batches -= 1
            self._node.batch_entries -= len(self._order.wanted)
            self._reader.close()
            if isinstance(self._first, Found):
                self._first.close()
            self._count()

    # -- entries --

    async def _take(self, index: int) -> Found | ApiError:
        """The next entry, or why it is missing where that is no error. Raises `ApiError`."""
        order = self._order
        if self._soft_errors > order.soft_errors:
            what = f"exceeded soft-errors limit: {self._soft_errors} (max: {order.soft_errors})"
            raise ApiError(400, f"x-get-batch[{self.job_id}]: {what}")
        self._check_aborted()
        try:
            return await self._reader.take()
        except ApiError as error:
            if not (order.continue_on_error and error.status == 404 and error.tcode != "ErrBckNotFound"):
                logger.info("batch: entry %d (%r): %s", index, order.wanted[index].name, error.message)
                raise
            self._soft_errors += 1
            return error

    def _check_aborted(self) -> None:
        if self.job is not None and self.job.aborted:
            raise ApiError(409, f"x-get-batch[{self.job_id}] was aborted")

    async def _pieces(self) -> AsyncGenerator[list[bytes], None]:
        packer = new_packer(self._order.form)
        try:
            async for piece in self._archive():
                yield piece if packer is None else [await in_thread(packer.pack, b"".join(piece))]
                # Pieces that a socket takes at once must not keep the loop from others, nor all batches together.
                await self._node.turns.next()
            if packer is not None:
                yield [packer.finish()]
        except ApiError as error:
            if self._streaming:
                raise _BrokenOff(error.message) from error
            raise
        finally:
            self.close()

    async def _archive(self) -> AsyncGenerator[list[bytes], None]:
        """The archive before compression, in parts of pieces worth sending; what is there does not wait for what is not."""
        order, stream, reader = self._order, new_stream(self._order.form), self._reader
        out: list[bytes] = []
        held = 0
        index = 0
        while index < len(order.wanted):
            flush = _FLUSH if self._node.batches <= _FEW else _FLUSH_OF_MANY
            if out and (held >= flush or index == 1):
                yield out
                out = []
                held = 0
                self._check_aborted()
            if count := self._add_run(stream, index, flush - held, out):
                held = sum(map(len, out))
                index += count
                continue
            entry, wanted = order.entries[index], order.wanted[index]
            found, self._first = self._first, None
            if found is None and not self._soft_errors:
                found = reader.take_now()
            if out and found is None and not reader.is_ready:
                yield out
                out = []
                held = 0
                self._check_aborted()
            if found is None:
                try:
                    found = await self._take(index)
                except Exception:
                    if out:
                        yield out  # what came before is good
                    raise
            index += 1
            bucket_name = wanted.bucket.id.name
            name = name_in_archive(bucket_name, entry.objname, entry.archpath or "", only_name=order.only_name)
            if isinstance(found, ApiError):
                self._note(entry, wanted, 0, found.message)
                out += (stream.begin(MISSING + name, 0, 0), stream.end())
                held += 512
                continue
            mtime = found.mtime if not (wanted.path or wanted.length) else 0
            if found.data is not None:
                if len(found.data) != found.size:
                    raise OSError(f"{name!r}: {len(found.data)} bytes were read of {found.size}")
                out += stream.whole(name, found.data, mtime)
                held += found.size + 512
            else:
                out.append(stream.begin(name, found.size, mtime))
                async with _Closing(found):
                    async for piece in reader.content(found):
                        out.append(stream.data(piece))
                        yield out
                        out = []
                held = 0
                out.append(stream.end())
            self._note(entry, wanted, found.size, "")
        out.append(stream.finish())
        yield out

    def _add_run(self, stream: ArchiveStream, index: int, room: int, out: list[bytes]) -> int:
        """Append the entries from `index` on that are whole small objects in memory, some `room` bytes of them; how many they are."""
        if self._first is not None or self._soft_errors:
            return 0
        order = self._order
        run = self._reader.take_run(room)
        for at, (content, mtime) in enumerate(run, index):
            entry, wanted = order.entries[at], order.wanted[at]
            name = name_in_archive(wanted.bucket.id.name, entry.objname, "", only_name=order.only_name)
            out += stream.whole(name, content, mtime)
            self._note(entry, wanted, len(content), "")
        return len(run)

    def _note(self, entry: BatchEntry, wanted: Wanted, size: int, error: str) -> None:
        if not error:
            self._read += 1
            if size:
                self._done += 1
                self._done_bytes += size
        elif self.job is not None:
            self.job.failed(error)
        if self._streaming:
            return
        identity = wanted.bucket.id
        self._records.append(
            BatchRecord(
                entry.objname,
                entry.archpath or "",
                identity.name,
                identity.provider,
                error,
                entry.opaque or "",
                size,
            )
        )

    def _count(self) -> None:
        self._node.stats.read(self._done_bytes, self._read)
        if self.job is not None:
            self.job.done(self._done, self._done_bytes)


class _Closing:
    def __init__(self, found: Found) -> None:
        self._found = found

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        self._found.close()


class _Body:
    """Pieces of an answer; what they come from is closed also if nobody asks for the first."""

    def __init__(self, source: BatchAnswer | _Spool, pieces: AsyncGenerator[list[bytes], None]) -> None:
        self._source = source
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[list[bytes]]:
        return self._pieces

    def __anext__(self) -> Coroutine[object, object, list[bytes]]:
        return self._pieces.__anext__()

    async def aclose(self) -> None:
        """Give up the rest."""
        try:
            await self._pieces.aclose()
        finally:
            self._source.close()


class _Spool:
    """An archive in memory, or in a file without a name once it is large."""

    def __init__(self, node: Node, request: Request) -> None:
        self._node = node
        self._request = request
        self.pieces: list[bytes] = []
        self.size = 0
        self.fd = -1
        self._on_disk = 0

    async def write(self, parts: list[bytes]) -> None:
        """Append. Raises `StoreFull`, `BrokenRequest`."""
        self.size += sum(map(len, parts))
        self.pieces += parts
        if self.fd >= 0 or self.size > _IN_MEMORY:
            if self._request.is_abandoned:
                raise BrokenRequest("the client closed the connection before its batch was made")
            node, size = self._node, sum(map(len, self.pieces))
            node.store.check_room(size)
            # A short request asks for any number of bytes, and who may only read leaves others half of the disk.
            if node.spooled + size > node.store.disk()[1]:
                raise StoreFull(
                    "batches that are made whole before they are sent take half of the disk: ask for a stream (strm)"
                )
            self._on_disk += size
            node.spooled += size
            await in_thread(self._spill)

    def _spill(self) -> None:
        if self.fd < 0:
            self.fd = unnamed_file(self._node.store.work.root)
        view = memoryview(b"".join(self.pieces))
        self.pieces.clear()
        while view:
            view = view[os.write(self.fd, view) :]

    async def between(self, before: bytes, after: bytes) -> AsyncGenerator[list[bytes], None]:
        """The file with something in front of it and behind."""
        yield [before]
        at = 0
        while at < self.size:
            piece = await in_thread(os.pread, self.fd, min(_READ, self.size - at), at)
            if not piece:
                raise OSError("the file of a batch is shorter than what was written")
            at += len(piece)
            yield [piece]
        yield [after]

    def close(self) -> None:
        """Let go of the file."""
        with suppress(OSError):
            if self.fd >= 0:
                os.close(self.fd)
        self.fd = -1
        self._node.spooled -= self._on_disk
        self._on_disk = 0
