"""Objects as binary files."""

from __future__ import annotations

import asyncio
import os
import warnings
from typing import TYPE_CHECKING, TypeVar

from aistore.calls.file_reading import FileReading
from aistore.calls.file_writing import BUFFER

if TYPE_CHECKING:
    from types import TracebackType

    from aistore.aio.content import Content, ParallelContent
    from aistore.aio.writer import AsyncObjectWriter
    from aistore.calls.steps import Steps

__all__ = ["AsyncObjectFileReader", "AsyncObjectFileWriter"]

T = TypeVar("T")


class AsyncObjectFileReader:
    """An object as a read-only binary file; the first read requests it.

    A stream that breaks, or ends too early, is resumed from the byte after the last one delivered, at most `max_resume` times
    (protocol/20 18.6). An object that is overwritten meanwhile is never mixed: that raises `ObjectFileReaderStreamError`. When it was read
    from start to end, its checksum is verified. A read that is cancelled leaves the position where it was.

    Seekable, unless the reader selects a part of the object. A seek costs nothing; the next read requests what lies there. One task at a
    time reads: RuntimeError for a second one.
    """

    def __init__(self, content_provider: Content | ParallelContent, max_resume: int | None) -> None:
        self._client = content_provider.client.client
        self._reading = FileReading(content_provider, max_resume)
        self._busy = False

    async def read(self, size: int | None = -1) -> bytes:
        """`size` bytes, fewer only at the end of the object; all that is left for a negative size or None."""
        reading = self._ready()
        if size is None or size < 0:
            return await self._run(reading.read(None))
        data = reading.at_hand(size)
        return data if len(data) == size else await self._run(reading.read(size, data))

    async def read1(self, size: int = -1) -> bytes:
        """Up to `size` bytes, as many as are at hand."""
        reading = self._ready()
        return await self._run(reading.read1(size)) if size else b""

    async def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill `buffer`, unless the object ends before; returns the number of bytes."""
        return await self._run(self._ready().readinto(memoryview(buffer).cast("B")))

    def readable(self) -> bool:
        """Whether the file is open."""
        return not self._reading.closed

    def seekable(self) -> bool:
        """Whether the file can be read from anywhere."""
        return not self._reading.closed and self._reading.seekable

    def tell(self) -> int:
        """Position of the next read."""
        return self._ready().position

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; the next read begins there. Raises `io.UnsupportedOperation` if the file is not seekable."""
        return await self._run(self._ready().seek(offset, whence))

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._reading.closed

    async def close(self) -> None:
        """Close the file and give up what was not read; harmless when closed."""
        self._reading.close()

    async def __aenter__(self) -> AsyncObjectFileReader:
        self._reading.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _ready(self) -> FileReading:
        self._reading.check_open()
        if self._busy:
            raise RuntimeError("another task is reading this file: open one for each task")
        return self._reading

    async def _run(self, steps: Steps[T]) -> T:
        self._busy = True
        try:
            return await self._client.run(steps)
        finally:
            self._busy = False

    def __repr__(self) -> str:
        return f"<AsyncObjectFileReader {self._reading!r}>"


class AsyncObjectFileWriter:
    """An object as a binary file to write to.

    Mode `w` replaces the object, `a` appends to it, or makes it. What was written becomes visible when the file is flushed or closed, all of
    it at once; mode `w` makes an object that did not exist with the first call, empty. An `async with` block that ends with an error stores
    nothing; a call that fails, or is cancelled, closes the file, and what was not flushed is not stored.

    Writes are collected: in mode `w` in memory up to 16 MiB and in a temporary file above that, in mode `a` they are sent a mebibyte at a
    time. One task at a time writes: RuntimeError for a second one.
    """

    def __init__(self, obj_writer: AsyncObjectWriter, mode: str) -> None:
        self._closed = True
        self._writing, self._client = obj_writer._write_steps(mode)
        self._buffer = bytearray()
        self._begun = False
        self._busy = False
        self._closed = False

    async def write(self, buffer: bytes | bytearray | memoryview) -> int:
        """Take bytes; returns their number."""
        view = memoryview(buffer).cast("B")
        self._check()
        if not self._begun or len(self._buffer) + len(view) >= BUFFER:
            await self._run(self._take(view))
        else:
            self._buffer += view
        return len(view)

    async def flush(self) -> None:
        """Store what was written so far, and make it visible."""
        self._check()
        await self._run(self._commit())

    async def close(self) -> None:
        """Store what was written, and close the file; harmless when closed."""
        if self._closed:
            return
        await self.flush()
        self._closed = True
        self._writing.forget()

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._closed

    async def __aenter__(self) -> AsyncObjectFileWriter:
        self._check()
        await self._run(self._begin())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        elif not self._closed:
            self._closed = True
            await self._client.run(self._writing.discard())

    def _begin(self) -> Steps[None]:
        if not self._begun:
            yield from self._writing.begin()
            self._begun = True

    def _take(self, data: memoryview) -> Steps[None]:
        yield from self._begin()
        self._buffer += data
        if len(self._buffer) >= BUFFER:
            yield from self._empty()

    def _empty(self) -> Steps[None]:
        if self._buffer:
            full, self._buffer = self._buffer, bytearray()
            yield from self._writing.take(memoryview(full))

    def _commit(self) -> Steps[None]:
        yield from self._begin()
        yield from self._empty()
        yield from self._writing.commit()

    async def _run(self, steps: Steps[T]) -> T:
        self._busy = True
        try:
            return await self._client.run(steps)
        except (Exception, asyncio.CancelledError):
            # Nothing tells what the cluster has of it.
            self._closed = True
            await self._client.run(self._writing.discard())
            raise
        finally:
            self._busy = False

    def _check(self) -> None:
        if self._closed:
            raise ValueError("I/O operation on closed file.")
        if self._busy:
            raise RuntimeError("another task is writing to this file")

    def __del__(self) -> None:
        if not self._closed and self._begun:
            warnings.warn(f"{self!r} was not closed: what it wrote is not stored", ResourceWarning, stacklevel=2)
            self._writing.forget()

    def __repr__(self) -> str:
        return f"<AsyncObjectFileWriter {self._writing!r}{' closed' if self._closed else ''}>"
