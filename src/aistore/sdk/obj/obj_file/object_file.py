"""Objects as binary files."""

from __future__ import annotations

import os
import warnings
from io import BufferedIOBase, BufferedWriter
from typing import TYPE_CHECKING

from aistore.calls.file_reading import FileReading
from aistore.calls.file_writing import BUFFER
from aistore.sdk.obj.obj_file.sinks import Sink

if TYPE_CHECKING:
    from types import TracebackType

    from aistore.sdk.obj.content_iterator.base import BaseContentIterProvider
    from aistore.sdk.obj.object_writer import ObjectWriter

__all__ = ["ObjectFileReader", "ObjectFileWriter"]

_CLOSED = "I/O operation on closed file."


class ObjectFileReader(BufferedIOBase):
    """An object as a read-only binary file; the first read requests it.

    A stream that breaks, or ends too early, is resumed from the byte after the last one delivered, at most `max_resume` times
    (protocol/20 18.6). An object that is overwritten meanwhile is never mixed: that raises `ObjectFileReaderStreamError`. When it was read
    from start to end, its checksum is verified.

    Seekable, unless the reader selects a part of the object. A seek costs nothing; the next read requests what lies there.
    """

    def __init__(self, content_provider: BaseContentIterProvider, max_resume: int | None) -> None:
        self._run = content_provider.client.client.run
        self._reading = FileReading(content_provider, max_resume)

    def read(self, size: int | None = -1) -> bytes:
        """`size` bytes, fewer only at the end of the object; all that is left for a negative size or None."""
        reading = self._reading
        reading.check_open()
        if size is None or size < 0:
            return self._run(reading.read(None))
        data = reading.at_hand(size)
        return data if len(data) == size else self._run(reading.read(size, data))

    def read1(self, size: int = -1) -> bytes:
        """Up to `size` bytes, as many as are at hand."""
        self._reading.check_open()
        return self._run(self._reading.read1(size)) if size else b""

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # any writable buffer, as everywhere in io
        """Fill `buffer`, unless the object ends before; returns the number of bytes."""
        self._reading.check_open()
        return self._run(self._reading.readinto(memoryview(buffer).cast("B")))

    def readable(self) -> bool:
        """Whether the file is open."""
        return not self._reading.closed

    def seekable(self) -> bool:
        """Whether the file can be read from anywhere."""
        return not self._reading.closed and self._reading.seekable

    def tell(self) -> int:
        """Position of the next read."""
        self._reading.check_open()
        return self._reading.position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; the next read begins there. Raises `io.UnsupportedOperation` if the file is not seekable."""
        self._reading.check_open()
        return self._run(self._reading.seek(offset, whence))

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._reading.closed

    def close(self) -> None:
        """Close the file and give up what was not read; harmless when closed."""
        self._reading.close()

    def __enter__(self) -> ObjectFileReader:
        self._reading.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        reading: FileReading | None = getattr(self, "_reading", None)  # none if its making failed
        if reading is not None:
            reading.drop_stream()

    def __repr__(self) -> str:
        return f"<ObjectFileReader {self._reading!r}>"


class ObjectFileWriter(BufferedWriter):
    """An object as a binary file to write to.

    Mode `w` replaces the object, `a` appends to it, or makes it. What was written becomes visible when the file is flushed or closed, all of
    it at once; mode `w` makes an object that did not exist at once, empty. A `with` block that ends with an error stores nothing.

    Writes are collected: in mode `w` in memory up to 16 MiB and in a temporary file above that, in mode `a` they are sent a mebibyte at a
    time.
    """

    def __init__(self, obj_writer: ObjectWriter, mode: str) -> None:
        sink = Sink(*obj_writer._write_steps(mode))
        super().__init__(sink, BUFFER)
        self._sink = sink

    def write(self, buffer: bytes | bytearray | memoryview) -> int:  # type: ignore[override]  # any buffer, as everywhere in io
        """Take bytes; returns their number."""
        self._check_open()
        return super().write(buffer)

    def flush(self) -> None:
        """Store what was written so far, and make it visible."""
        self._check_open()
        super().flush()
        self._sink.commit()

    def close(self) -> None:
        """Store what was written, and close the file; harmless when closed."""
        if self.closed:
            return
        try:
            self.flush()
        finally:
            try:
                self._sink.discard()
            finally:
                super().close()

    def __enter__(self) -> ObjectFileWriter:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif not self.closed:
            self._sink.discard()
            super().close()

    def __del__(self) -> None:
        # Not the base's, which would store what an unfinished writer left behind.
        if hasattr(self, "_sink") and not self.closed:
            warnings.warn(f"{self!r} was not closed: what it wrote is not stored", ResourceWarning, stacklevel=2)
            self._sink.forget()
            super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(_CLOSED)
