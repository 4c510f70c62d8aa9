"""Reading one object."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aistore.calls.integrity import check_body

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedIOBase
    from os import PathLike

    from aistore.calls.downloads import Writable
    from aistore.sdk._response import RawStream
    from aistore.sdk.obj.content_iterator import ContentIterProvider, ParallelBuffer, ParallelContentIterProvider
    from aistore.sdk.obj.object_attributes import ObjectAttributes
    from aistore.sdk.obj.object_client import ObjectClient

__all__ = ["ObjectReader"]

if TYPE_CHECKING:

    class ParallelObjectReader:
        """How type checkers see an `ObjectReader` with `num_workers`."""

        def read_all(self) -> ParallelBuffer: ...
        def copy_to(self, writer: Writable) -> int: ...
        def download(self, path: str | PathLike[str]) -> int: ...
        def as_file(self, buffer_size: int | None = None, max_resume: int | None = 5) -> BufferedIOBase: ...
        def head(self) -> ObjectAttributes: ...
        @property
        def attributes(self) -> ObjectAttributes: ...
        def __iter__(self) -> Iterator[bytes]: ...


_CHUNK = 32 * 1024


class ObjectReader:
    """Reads the content of an object, or the part that was chosen when the reader was made; each read is a fresh request.

    `chunk_size` is the number of bytes of a chunk when iterating (32 KiB). With `num_workers` ranges are read in that many threads:
    `read_all` then returns a `ParallelBuffer`, and chunks have 8 MiB by default, or the size in which the object is stored.

    Nothing short or damaged is ever a success: a body that ends early raises `requests.exceptions.ChunkedEncodingError`, a whole object
    that is not what its checksum says `ErrBadChecksum`.
    """

    __slots__ = ("_attributes", "_chunk_size", "_client", "_parallel")

    def __init__(
        self, object_client: ObjectClient, chunk_size: int | None = None, num_workers: int | None = None
    ) -> None:
        self._client = object_client
        self._chunk_size = chunk_size
        self._attributes: ObjectAttributes | None = None
        self._parallel: ParallelContentIterProvider | None = None
        if num_workers is not None:
            from aistore.sdk.obj.content_iterator import ParallelContentIterProvider

            self._parallel = ParallelContentIterProvider(object_client, chunk_size, num_workers)

    def read_all(self) -> bytes:
        """The whole content in memory; a `ParallelBuffer` if the reader has workers."""
        if self._parallel is not None:
            return cast("bytes", self._parallel.read_all())
        answer = self._client.fetch()
        content = answer.content
        check_body(answer, content)
        return content

    def read_into(self, buffer: bytearray | memoryview) -> int:
        """Read the content into the start of `buffer`; returns its number of bytes. Raises ValueError if it does not fit."""
        from aistore.calls.selection import read_into

        return self._client.client.run(read_into(self._client, memoryview(buffer).cast("B")))

    def download(self, path: str | PathLike[str]) -> int:
        """Read the content into a local file; returns its number of bytes.

        The file appears, or is replaced, when everything has arrived and its checksum is verified; until then it is what it was.
        Interrupted streams are resumed, as by `as_file`.
        """
        from aistore.calls.downloads import download

        with self.as_file() as source:
            return self._client.client.run(download(source, path))

    def copy_to(self, writer: Writable) -> int:
        """Write the content to a file that is open for writing; returns its number of bytes. Interrupted streams are resumed."""
        from aistore.calls.downloads import copy

        with self.as_file() as source:
            return self._client.client.run(copy(source, writer, writer.write))

    def raw(self) -> RawStream:
        """The content as it arrives: a binary file that can be read once."""
        from aistore.sdk._response import RawStream
        from aistore.sdk.obj.object_attributes import ObjectAttributes

        answer = self._client.fetch(stream=True)
        self._attributes = ObjectAttributes(answer.head.headers)
        return RawStream(answer)

    def as_file(self, buffer_size: int | None = None, max_resume: int | None = 5) -> BufferedIOBase:  # noqa: ARG002  official, unused there too
        """The content as a read-only binary file, which is requested when it is first read.

        A stream that breaks is resumed where it broke, `max_resume` times at most; raises ValueError for a negative number. The file is
        seekable unless the reader selects a part of the object; seeking costs nothing until the next read.
        """
        from aistore.sdk.obj.obj_file.object_file import ObjectFileReader

        return ObjectFileReader(self._provider(), max_resume)

    def head(self) -> ObjectAttributes:
        """Attributes of the object, requested now."""
        self._attributes = self._client.head()
        return self._attributes

    @property
    def attributes(self) -> ObjectAttributes:
        """Attributes of the object; requested if no call of this reader has told them yet."""
        return self._attributes if self._attributes is not None else self.head()

    def __iter__(self) -> Iterator[bytes]:
        return self._provider().create_iter()

    def _provider(self) -> ContentIterProvider | ParallelContentIterProvider:
        if self._parallel is not None:
            return self._parallel
        from aistore.sdk.obj.content_iterator import ContentIterProvider

        return ContentIterProvider(self._client, self._chunk_size or _CHUNK)

    def __repr__(self) -> str:
        return f"<ObjectReader {self._client.path}?{self._client.query}>"
