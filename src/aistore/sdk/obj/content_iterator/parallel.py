"""Content of an object over several connections at once."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from aistore.calls import integrity
from aistore.sdk.obj.content_iterator.base import BaseContentIterProvider, Edition
from aistore.sdk.obj.content_iterator.buffer import ParallelBuffer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.sdk.obj.object_client import ObjectClient
    from aistore.transport.response import Response

__all__ = ["ParallelContentIterProvider"]

_DEFAULT_CHUNK = 8 * 1024 * 1024
_PROPS = "checksum,version,chunked"


class ParallelContentIterProvider(BaseContentIterProvider):
    """Reads ranges of an object in `num_workers` threads, each over a connection of its own.

    Making one asks for the size of the object, and how it is stored: chunks are read as they lie, unless `chunk_size` says otherwise.
    Raises ValueError for an empty object. An object that is overwritten meanwhile is never mixed: that raises `IncompleteBody`.
    """

    __slots__ = ("_checksum", "_edition", "_num_workers", "_size")

    def __init__(self, client: ObjectClient, chunk_size: int | None, num_workers: int) -> None:
        attributes = client.head(_PROPS)
        if attributes.size <= 0:
            raise ValueError("Cannot use `num_workers` with an empty object")
        stored = attributes.chunks.max_chunk_size if attributes.chunks else 0
        super().__init__(client, chunk_size or stored or _DEFAULT_CHUNK)
        self._num_workers = num_workers
        self._size = attributes.size
        self._edition = Edition(attributes.obj_version or None, attributes.size)
        self._checksum = (attributes.checksum_type, attributes.checksum_value)

    @property
    def num_workers(self) -> int:
        """Number of threads."""
        return self._num_workers

    def read_all(self) -> ParallelBuffer:
        """The whole content; its checksum is verified. The caller closes the buffer."""
        buffer = ParallelBuffer(self._size)
        try:
            with ThreadPoolExecutor(self._num_workers, "aistore-read") as pool:
                parts = [pool.submit(self._read, first, buffer.buf[first:last]) for first, last in self._ranges(0)]
                try:
                    answers = [part.result() for part in parts]
                except BaseException:
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise
                finally:
                    parts.clear()
            hasher = self._hasher()
            if hasher is not None:
                hasher.update(buffer.buf)
                self._verify(hasher, answers[-1])
        except BaseException:
            buffer.close()
            raise
        return buffer

    def create_iter(self, offset: int = 0) -> Iterator[bytes]:
        """The content from byte `offset` on, in order; at most twice as many chunks as workers are in memory."""
        hasher = None if offset else self._hasher()
        ranges = self._ranges(offset)
        pool = ThreadPoolExecutor(self._num_workers, "aistore-read")
        waiting: deque[Future[tuple[bytearray, Response]]] = deque()
        answer: Response | None = None
        try:
            while True:
                while len(waiting) < 2 * self._num_workers and (span := next(ranges, None)) is not None:
                    waiting.append(pool.submit(self._fetch, *span))
                if not waiting:
                    break
                chunk, answer = waiting.popleft().result()
                if hasher is not None:
                    hasher.update(chunk)
                yield bytes(chunk)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        if hasher is not None and answer is not None:
            self._verify(hasher, answer)

    def open(self, offset: int = 0, end: int | None = None) -> _ChunkStream:  # noqa: ARG002  the interface's
        """The content from byte `offset` on; an `end` is ignored, nothing is read ahead of need."""
        return _ChunkStream(self.create_iter(offset), offset, self._size, self._edition)

    def _ranges(self, offset: int) -> Iterator[tuple[int, int]]:
        for first in range(offset, self._size, self._chunk_size):
            yield first, min(first + self._chunk_size, self._size)

    def _fetch(self, first: int, last: int) -> tuple[bytearray, Response]:
        chunk = bytearray(last - first)
        return chunk, self._read(first, memoryview(chunk))

    def _read(self, first: int, view: memoryview) -> Response:
        answer = self._client.read_range(first, view)
        fields = answer.head.headers
        total = fields.get("content-range", "").rpartition("/")[2]
        found = Edition(fields.get("ais-version"), int(total) if total.isdigit() else None)
        if found.differs_from(self._edition):
            from aistore.transport.errors import IncompleteBody

            what = (
                f"the object was overwritten while it was read (version {self._edition.version}, then {found.version})"
            )
            raise IncompleteBody(f"{what}: read it again", "GET", answer.url)
        return answer

    def _hasher(self) -> integrity.Hasher | None:
        return integrity.running_hasher(self._checksum[0])

    def _verify(self, hasher: integrity.Hasher, answer: Response) -> None:
        if hasher.hexdigest() != self._checksum[1]:
            raise integrity.bad_checksum(answer, hasher.hexdigest(), "what was read")


class _ChunkStream:
    """Chunks as a stream."""

    __slots__ = ("_chunks", "_rest", "checksum", "edition", "end", "start")

    def __init__(self, chunks: Iterator[bytes], start: int, end: int, edition: Edition) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self.start = start
        self.end: int | None = end
        self.edition = edition
        # Verified by the iterator.
        self.checksum = ("", "")

    def readinto(self, view: memoryview) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def read(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            if not self._rest:
                self._rest = memoryview(next(self._chunks, b""))
                if not self._rest:
                    break
            piece = self._rest[: size - len(found)]
            found += piece
            self._rest = self._rest[len(piece) :]
        return bytes(found)

    def close(self) -> None:
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()
