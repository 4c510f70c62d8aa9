"""Reading one object."""

from __future__ import annotations

from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, cast

from aistore.aio.content import Content, ParallelContent
from aistore.aio.threads import in_thread
from aistore.calls.downloads import copy, download
from aistore.calls.selection import attributes_of, read_into

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from os import PathLike

    from aistore.aio.content import AsyncObjectClient
    from aistore.aio.files import AsyncObjectFileReader
    from aistore.calls.downloads import Writable
    from aistore.sdk.obj.content_iterator.buffer import ParallelBuffer
    from aistore.sdk.obj.object_attributes import ObjectAttributes
    from aistore.transport.aio import AsyncResponse

    class AsyncParallelObjectReader:
        """How type checkers see an `AsyncObjectReader` with `num_workers`."""

        async def read_all(self) -> ParallelBuffer: ...
        async def copy_to(self, writer: Writable) -> int: ...
        async def download(self, path: str | PathLike[str]) -> int: ...
        def as_file(self, buffer_size: int | None = None, max_resume: int | None = 5) -> AsyncObjectFileReader: ...
        async def head(self) -> ObjectAttributes: ...
        def __aiter__(self) -> AsyncIterator[bytes]: ...


__all__ = ["AsyncObjectReader"]


class AsyncObjectReader:
    """Reads the content of an object, or the part that was chosen when the reader was made; each read is a fresh request.

    `async for` gives chunks of `chunk_size` bytes (32 KiB). With `num_workers` ranges are read by that many tasks: `read_all` then returns a
    `ParallelBuffer`, and chunks have 8 MiB by default, or the size in which the object is stored.

    Nothing short or damaged is ever a success: a body that ends early raises `requests.exceptions.ChunkedEncodingError`, a whole object
    that is not what its checksum says `ErrBadChecksum`.
    """

    __slots__ = ("_client", "_content")

    def __init__(
        self, object_client: AsyncObjectClient, chunk_size: int | None = None, num_workers: int | None = None
    ) -> None:
        self._client = object_client
        self._content: Content | ParallelContent
        if num_workers is None:
            self._content = Content(object_client, chunk_size)
        else:
            self._content = ParallelContent(object_client, chunk_size, num_workers)

    async def read_all(self) -> bytes:
        """The whole content in memory; a `ParallelBuffer` if the reader has workers."""
        return cast("bytes", await self._content.read_all())

    async def read_into(self, buffer: bytearray | memoryview) -> int:
        """Read the content into the start of `buffer`; returns its number of bytes. Raises ValueError if it does not fit."""
        return await self._client.client.run(read_into(self._client, memoryview(buffer).cast("B")))

    async def download(self, path: str | PathLike[str]) -> int:
        """Read the content into a local file; returns its number of bytes.

        The file appears, or is replaced, when everything has arrived and its checksum is verified; until then, and when this is cancelled,
        it is what it was. Interrupted streams are resumed, as by `as_file`.
        """
        async with self.as_file() as source:
            return await self._client.client.run(download(source, path))

    async def copy_to(self, writer: Writable) -> int:
        """Write the content to a file that is open for writing; returns its number of bytes. Interrupted streams are resumed.

        A file whose `write` is no coroutine function is written to in threads.
        """
        in_place = iscoroutinefunction(writer.write)
        write = writer.write if in_place else partial(in_thread, writer.write)
        async with self.as_file() as source:
            return await self._client.client.run(copy(source, writer, write))

    async def raw(self) -> AsyncResponse:
        """The content as it arrives, with the headers of the answer: to be read once, and closed."""
        return await self._client.fetch(stream=True)

    def as_file(self, buffer_size: int | None = None, max_resume: int | None = 5) -> AsyncObjectFileReader:  # noqa: ARG002  as in the blocking face
        """The content as a read-only binary file, which is requested when it is first read.

        A stream that breaks is resumed where it broke, `max_resume` times at most; raises ValueError for a negative number. The file is
        seekable unless the reader selects a part of the object; seeking costs nothing until the next read.
        """
        from aistore.aio.files import AsyncObjectFileReader

        return AsyncObjectFileReader(self._content, max_resume)

    async def head(self) -> ObjectAttributes:
        """Attributes of the object, requested now."""
        return await self._client.client.run(attributes_of(self._client, "checksum,atime,version,custom"))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._content.iterate()

    def __repr__(self) -> str:
        return f"<AsyncObjectReader {self._client.path}?{self._client.query}>"
