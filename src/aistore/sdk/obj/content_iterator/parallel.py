"""Content of an object over several connections at once."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from aistore.calls.spans import parts_of
from aistore.sdk.obj.content_iterator.base import BaseContentIterProvider
from aistore.sdk.obj.content_iterator.buffer import ParallelBuffer

if TYPE_CHECKING:
    from collections.abc import Generator

    from aistore.calls.integrity import Hasher
    from aistore.calls.steps import Answer, Steps
    from aistore.calls.streams import ContentStream
    from aistore.sdk.obj.object_client import ObjectClient

__all__ = ["ParallelContentIterProvider"]


class ParallelContentIterProvider(BaseContentIterProvider):
    """Reads ranges of an object in `num_workers` threads, each over a connection of its own.

    Making one asks for the size of the object, and how it is stored: chunks are read as they lie, unless `chunk_size` says otherwise.
    Raises ValueError for an empty object. An object that is overwritten meanwhile is never mixed: that raises `IncompleteBody`.
    """

    __slots__ = ("_num_workers", "_parts")

    def __init__(self, client: ObjectClient, chunk_size: int | None, num_workers: int) -> None:
        self._parts = client.client.run(parts_of(client, chunk_size))
        super().__init__(client, self._parts.chunk_size)
        self._num_workers = num_workers

    @property
    def num_workers(self) -> int:
        """Number of threads."""
        return self._num_workers

    def read_all(self) -> ParallelBuffer:
        """The whole content; its checksum is verified. The caller closes the buffer."""
        parts, run = self._parts, self._client.client.run
        buffer = ParallelBuffer(parts.size)
        try:
            with ThreadPoolExecutor(self._num_workers, "aistore-read") as pool:
                futures = [
                    pool.submit(run, parts.read(first, buffer.buf[first:last])) for first, last in parts.spans(0)
                ]
                try:
                    answers = [future.result() for future in futures]
                except BaseException:
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise
                finally:
                    futures.clear()
            hasher = parts.hasher()
            if hasher is not None:
                hasher.update(buffer.buf)
                parts.verify(hasher, answers[-1])
        except BaseException:
            buffer.close()
            raise
        return buffer

    def create_iter(self, offset: int = 0) -> Generator[bytes, None, None]:
        """The content from byte `offset` on, in order; at most twice as many chunks as workers are in memory.

        Iterating over all of it to its end verifies its checksum.
        """
        return self._chunks(offset, None if offset else self._parts.hasher())

    def _chunks(self, offset: int, hasher: Hasher | None) -> Generator[bytes, None, None]:
        parts, run = self._parts, self._client.client.run
        spans = parts.spans(offset)
        pool = ThreadPoolExecutor(self._num_workers, "aistore-read")
        waiting: deque[Future[tuple[bytearray, Answer]]] = deque()
        answer: Answer | None = None
        try:
            while True:
                while len(waiting) < 2 * self._num_workers and (span := next(spans, None)) is not None:
                    waiting.append(pool.submit(run, parts.fetch(*span)))
                if not waiting:
                    break
                chunk, answer = waiting.popleft().result()
                if hasher is not None:
                    hasher.update(chunk)
                yield bytes(chunk)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        if hasher is not None and answer is not None:
            parts.verify(hasher, answer)

    def open(self, offset: int, end: int | None) -> Steps[ContentStream]:  # noqa: ARG002  the interface's
        """The content from byte `offset` on; an `end` is ignored, nothing is read ahead of need."""
        yield from ()
        chunks = self._chunks(offset, None)  # whoever reads the stream hashes it
        return self._parts.stream(lambda: next(chunks, b""), chunks.close, offset)
