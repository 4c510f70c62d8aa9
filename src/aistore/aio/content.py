"""Content of objects: one stream, or many ranges at once."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

from aistore.aio.threads import in_thread
from aistore.calls.integrity import LONG, BodyCheck, check_body
from aistore.calls.selection import Selection, fetch
from aistore.calls.spans import parts_of
from aistore.calls.streams import open_stream
from aistore.sdk.obj.content_iterator.buffer import ParallelBuffer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from aistore.aio.requests import AsyncRequestClient
    from aistore.calls.integrity import Hasher
    from aistore.calls.spans import Parts
    from aistore.calls.steps import Answer, Steps
    from aistore.calls.streams import ContentStream
    from aistore.transport.aio import AsyncResponse

__all__ = ["AsyncObjectClient", "Content", "ParallelContent"]

_CHUNK = 32 * 1024


class AsyncObjectClient(Selection):
    """What is read, and the client that requests it."""

    __slots__ = ()

    client: AsyncRequestClient

    async def fetch(self, stream: bool = False, offset: int = 0) -> AsyncResponse:
        """The answer to a GET from byte `offset` of the selection on."""
        if not self.uname:
            return await self.client.fetch(self.request(stream, offset))
        return cast("AsyncResponse", await self.client.run(fetch(self, stream, offset)))


class Content:
    """The content over one connection at a time."""

    __slots__ = ("_chunk_size", "client")

    def __init__(self, client: AsyncObjectClient, chunk_size: int | None) -> None:
        self.client = client
        self._chunk_size = chunk_size or _CHUNK

    async def iterate(self) -> AsyncGenerator[bytes, None]:
        """The content in chunks, the last of which may be shorter; the checksum of a whole object is verified at its end."""
        answer = await self.client.fetch(stream=True)
        check = BodyCheck(answer)
        try:
            while chunk := await answer.read(self._chunk_size):
                check.update(chunk)
                yield chunk
        finally:
            answer.close()
        check.finish()

    async def read_all(self) -> bytes:
        """The whole content; its checksum is verified."""
        answer = await self.client.fetch()
        content = answer.content
        if len(content) > LONG:
            await in_thread(check_body, answer, content)
        else:
            check_body(answer, content)
        return content

    def open(self, offset: int, end: int | None) -> Steps[ContentStream]:
        """The content from byte `offset` on, up to and including byte `end`."""
        return open_stream(self.client, offset, end)


class ParallelContent:
    """The content over `num_workers` connections at once, each with ranges of its own.

    Each read asks first for the size of the object, and how it is stored: chunks are read as they lie, unless `chunk_size` says otherwise.
    Raises ValueError for an empty object. An object that is overwritten meanwhile is never mixed: that raises `IncompleteBody`.
    """

    __slots__ = ("_chunk_size", "_num_workers", "client")

    def __init__(self, client: AsyncObjectClient, chunk_size: int | None, num_workers: int) -> None:
        self.client = client
        self._chunk_size = chunk_size
        self._num_workers = num_workers

    async def iterate(self) -> AsyncGenerator[bytes, None]:
        """The content in order; at most as many chunks as workers are in memory. Its checksum is verified at the end."""
        parts = await self.client.client.run(self._parts())
        chunks = _Ahead(self.client.client, parts, 0, self._num_workers, parts.hasher())
        try:
            while chunk := await chunks.next():
                yield chunk
        finally:
            chunks.close()

    async def read_all(self) -> ParallelBuffer:
        """The whole content; its checksum is verified. The caller closes the buffer."""
        run = self.client.client.run
        parts = await run(self._parts())
        buffer = ParallelBuffer(parts.size)
        spans = parts.spans(0)
        answers: list[Answer] = []

        async def work() -> None:
            for first, last in spans:
                answers.append(await run(parts.read(first, buffer.buf[first:last])))

        try:
            await _together([asyncio.ensure_future(work()) for _ in range(self._num_workers)])
            hasher = parts.hasher()
            if hasher is not None:
                await in_thread(hasher.update, buffer.buf)
                parts.verify(hasher, answers[-1])
        except BaseException:
            buffer.close()
            raise
        return buffer

    def open(self, offset: int, end: int | None) -> Steps[ContentStream]:  # noqa: ARG002  the interface's
        """The content from byte `offset` on; an `end` is ignored, nothing is read ahead of need."""
        parts = yield from self._parts()
        # Whoever reads the stream hashes it.
        chunks = _Ahead(self.client.client, parts, offset, self._num_workers, None)
        return parts.stream(chunks.next, chunks.close, offset)

    def _parts(self) -> Steps[Parts]:
        return parts_of(self.client, self._chunk_size)


class _Ahead:
    """Chunks of an object in their order; while one is used the next ones are on their way."""

    __slots__ = ("_answer", "_hasher", "_parts", "_run", "_spans", "_tasks", "_width")

    def __init__(
        self, client: AsyncRequestClient, parts: Parts, offset: int, width: int, hasher: Hasher | None
    ) -> None:
        self._run = client.run
        self._parts = parts
        self._spans: Iterator[tuple[int, int]] = parts.spans(offset)
        self._width = width
        self._tasks: deque[asyncio.Task[tuple[bytearray, Answer]]] = deque()
        self._hasher = hasher
        self._answer: Answer | None = None

    async def next(self) -> bytes:
        """The next chunk; empty at the end, once the checksum is verified, if there is a hasher."""
        while len(self._tasks) < self._width and (span := next(self._spans, None)) is not None:
            self._tasks.append(asyncio.ensure_future(self._run(self._parts.fetch(*span))))
        if not self._tasks:
            if self._hasher is not None and self._answer is not None:
                self._parts.verify(self._hasher, self._answer)
            return b""
        chunk, self._answer = await self._tasks.popleft()
        if self._hasher is not None:
            await in_thread(self._hasher.update, chunk)
        return bytes(chunk)

    def close(self) -> None:
        """Give up what is on its way."""
        while self._tasks:
            _give_up(self._tasks.pop())


async def _together(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for all tasks; when one fails, or this is cancelled, end the others first."""
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _give_up(task: asyncio.Task[tuple[bytearray, Answer]]) -> None:
    task.cancel()
    # Failures of what nobody waits for are nobody's.
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
