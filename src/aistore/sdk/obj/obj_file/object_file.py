"""Objects as binary files."""

from __future__ import annotations

import io
import os
import warnings
from io import BufferedIOBase, BufferedWriter
from typing import TYPE_CHECKING

from aistore.calls.integrity import running_hasher
from aistore.sdk.obj.obj_file.errors import (
    ObjectFileReaderMaxResumeError,
    ObjectFileReaderStreamError,
    ObjectFileReaderUnexpectedEOF,
)
from aistore.sdk.obj.obj_file.sinks import BUFFER, Appendix, Replacement

if TYPE_CHECKING:
    from types import TracebackType

    from aistore.calls.integrity import Hasher
    from aistore.sdk.obj.content_iterator.base import BaseContentIterProvider, ContentStream, Edition
    from aistore.sdk.obj.obj_file.sinks import Sink
    from aistore.sdk.obj.object_writer import ObjectWriter

__all__ = ["ObjectFileReader", "ObjectFileWriter"]

_CLOSED = "I/O operation on closed file."
# Small reads are served from a window of this size; larger ones go straight to their destination.
_WINDOW = 64 * 1024
_PIECE = 1024 * 1024
# Going this far forward costs less by reading on than by a new request.
_SKIP = 256 * 1024
# After a jump not everything behind it is asked for, but a span that grows while reading goes on.
_FIRST_SPAN = 256 * 1024
_SPAN_GROWTH = 4


class ObjectFileReader(BufferedIOBase):
    """An object as a read-only binary file; the first read requests it.

    A stream that breaks, or ends too early, is resumed from the byte after the last one delivered, at most `max_resume` times
    (`protocol/20` 18.6). An object that is overwritten meanwhile is never mixed: that raises `ObjectFileReaderStreamError`. When it was read
    from start to end, its checksum is verified.

    Seekable, unless the reader selects a part of the object. A seek costs nothing; the next read requests what lies there.
    """

    def __init__(self, content_provider: BaseContentIterProvider, max_resume: int) -> None:
        self._provider = content_provider
        self._max_resume = max_resume
        self._closed = False
        self._stream: ContentStream | None = None
        self._start_over()

    def _start_over(self) -> None:
        self._drop_stream()
        self._resumes = 0
        self._position = 0
        """Where the caller reads next."""
        self._window = b""
        self._window_start = 0
        self._stream_position = 0
        """Where the stream goes on."""
        self._size: int | None = None
        self._edition: Edition | None = None
        self._span: int | None = None
        """How much the next request asks for; None for all that follows."""
        self._span_end: int | None = None
        self._hasher: Hasher | None = None
        self._checksum = ("", "")
        self._hashed = 0

    # -- reading ------------------------------------------------------------------------------------------------------------------

    def read(self, size: int | None = -1) -> bytes:
        """`size` bytes, fewer only at the end of the object; all that is left for a negative size or None."""
        self._check_open()
        if size == 0:
            return b""
        if size is None or size < 0:
            return self._collect(None)
        data = self._from_window(size)
        if len(data) == size:
            return data
        return self._collect(size, data)

    def read1(self, size: int = -1) -> bytes:
        """Up to `size` bytes, as many as are at hand."""
        self._check_open()
        if size == 0:
            return b""
        wanted = size if size > 0 else _WINDOW
        return self._from_window(wanted) or self._next_piece(wanted)

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # any writable buffer, as everywhere in io
        """Fill `buffer`, unless the object ends before; returns the number of bytes."""
        self._check_open()
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view):
            piece = self._from_window(len(view) - filled)
            if piece:
                view[filled : filled + len(piece)] = piece
                filled += len(piece)
            elif len(view) - filled < _WINDOW:
                if not self._fill_window():
                    break
            elif count := self._straight_into(view[filled:]):
                filled += count
            else:
                break
        return filled

    def readable(self) -> bool:
        """Whether the file is open."""
        return not self._closed

    def _collect(self, size: int | None, first: bytes = b"") -> bytes:
        parts = [first] if first else []
        left = None if size is None else size - len(first)
        while left is None or left > 0:
            piece = self._from_window(_PIECE if left is None else left) or self._next_piece(left)
            if not piece:
                break
            parts.append(piece)
            if left is not None:
                left -= len(piece)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _from_window(self, size: int) -> bytes:
        at = self._position - self._window_start
        if not 0 <= at < len(self._window):
            return b""
        piece = self._window[at : at + size]
        self._position += len(piece)
        return piece

    def _next_piece(self, size: int | None) -> bytes:
        """Bytes at the position, not in the window: a small piece through the window, a large one, or the rest for None, straight."""
        if size is not None and size < _WINDOW:
            return self._from_window(size) if self._fill_window() else b""
        data = self._receive(size)
        self._position += len(data)
        return data

    def _fill_window(self) -> bool:
        data = self._receive(max(_WINDOW, 1))
        self._window, self._window_start = data, self._position
        return bool(data)

    def _straight_into(self, view: memoryview) -> int:
        while True:
            stream = self._stream_at_position()
            if stream is None:
                return 0
            try:
                count = stream.readinto(view)
            except Exception as error:  # recoverable ones only, the others are raised again
                self._resume(error)
                continue
            if count:
                self._took(view[:count])
                self._position += count
                return count
            self._stream_ended()

    def _receive(self, size: int | None) -> bytes:
        """Up to `size` bytes from the stream at the position; all it has for None; empty at the end of the object."""
        while True:
            stream = self._stream_at_position()
            if stream is None:
                return b""
            try:
                data = stream.read(size if size is not None else self._rest_of_stream())
            except Exception as error:  # recoverable ones only, the others are raised again
                self._resume(error)
                continue
            if data:
                self._took(data)
                return data
            self._stream_ended()

    def _rest_of_stream(self) -> int:
        end = self._span_end
        return _PIECE if end is None else max(end - self._stream_position, 1)

    def _took(self, data: bytes | memoryview) -> None:
        hasher = self._hasher
        if hasher is not None and self._hashed == self._stream_position:
            hasher.update(data)
            self._hashed += len(data)
            if self._hashed == self._size:
                self._hasher = None
                self._verify(hasher.hexdigest())
        self._stream_position += len(data)

    def _verify(self, computed: str) -> None:
        kind, stated = self._checksum
        if computed != stated:
            self._fail(
                f"the content has {kind} {computed}, but the cluster states {stated}: it was damaged on the way or on disk"
            )

    # -- streams ------------------------------------------------------------------------------------------------------------------

    def _stream_at_position(self) -> ContentStream | None:
        """A stream that goes on at the caller's position; None at the end of the object."""
        while True:
            if self._size is not None and self._position >= self._size:
                return None
            if self._stream is not None and self._needs_another():
                self._drop_stream()
            try:
                if self._stream is None:
                    self._open()
                if self._skip_to_position():
                    return self._stream
            except Exception as error:  # recoverable ones only, the others are raised again
                self._resume(error)

    def _needs_another(self) -> bool:
        ahead = self._position - self._stream_position
        return ahead < 0 or (ahead > _SKIP and self._seekable)

    def _open(self) -> None:
        offset = self._position if self._provider.client.can_get_at_offset() else 0
        end = None if self._span is None else offset + self._span - 1
        self._stream = stream = self._provider.open(offset, end)
        self._stream_position = stream.start
        self._span_end = stream.end
        if self._span is not None:
            self._span *= _SPAN_GROWTH
        if self._edition is None:
            self._edition = stream.edition
            self._size = stream.edition.size if self._seekable else stream.end
            if stream.start == 0 and stream.checksum[0]:
                self._checksum = stream.checksum
                self._hasher = running_hasher(stream.checksum[0])
        elif stream.edition.differs_from(self._edition):
            was, now = self._edition, stream.edition
            self._fail(
                f"the object was overwritten while it was read (version {was.version}, {was.size} bytes; then {now.version}, {now.size})"
            )

    def _skip_to_position(self) -> bool:
        """Read on to the position; False if the stream ended before."""
        stream = self._stream
        assert stream is not None  # opened by the caller
        while self._stream_position < self._position:
            data = stream.read(min(self._position - self._stream_position, _PIECE))
            if not data:
                self._stream_ended()
                return self._stream is not None
            self._took(data)
        return True

    def _stream_ended(self) -> None:
        """A stream without more to give: all is well, or the next span follows, or it ended too early."""
        here, end = self._stream_position, self._span_end
        expected = self._position if end is None else end
        if here < expected:
            self._resume(ObjectFileReaderUnexpectedEOF(here, expected))
            return
        self._drop_stream()
        if self._size is None and self._span is None:
            self._size = here

    def _resume(self, error: Exception) -> None:
        """Go on after a recoverable error; others, and one too many, are raised."""
        self._drop_stream()
        if not isinstance(error, ObjectFileReaderUnexpectedEOF) and not _is_recoverable(error):
            if not isinstance(error, ObjectFileReaderStreamError):
                self.close()
            raise error
        self._resumes += 1
        if self._resumes > self._max_resume:
            self.close()
            raise ObjectFileReaderMaxResumeError(error, self._max_resume) from error

    def _fail(self, why: str) -> None:
        self.close()
        raise ObjectFileReaderStreamError(why)

    def _drop_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    # -- seeking ------------------------------------------------------------------------------------------------------------------

    @property
    def _seekable(self) -> bool:
        client = self._provider.client
        return client.can_get_at_offset() and client.byte_range == (None, None)

    def seekable(self) -> bool:
        """Whether the file can be read from anywhere."""
        return not self._closed and self._seekable

    def tell(self) -> int:
        """Position of the next read."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; the next read begins there. Raises `io.UnsupportedOperation` if the file is not seekable."""
        self._check_open()
        if not self._seekable:
            raise io.UnsupportedOperation("seek: the reader selects a part of the object, which is a stream")
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self._object_size()
        elif whence != os.SEEK_SET:
            raise ValueError(f"whence must be 0, 1 or 2, not {whence}")
        if offset < 0:
            raise ValueError(f"cannot seek to {offset}")
        if offset != self._position:
            self._position = offset
            self._span = _FIRST_SPAN
        return offset

    def _object_size(self) -> int:
        if self._size is None:
            self._size = self._provider.client.head("size").size
        return self._size

    # -- closing ------------------------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._closed

    def close(self) -> None:
        """Close the file and give up what was not read; harmless when closed."""
        self._closed = True
        self._drop_stream()

    def __enter__(self) -> ObjectFileReader:
        self._closed = False
        self._start_over()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_stream", None) is not None:
            self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(_CLOSED)

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"at {self._position}"
        return f"<ObjectFileReader {self._provider.client.path} {state}>"


def _is_recoverable(error: Exception) -> bool:
    from requests import exceptions

    # Read timeouts are connection errors too.
    return isinstance(error, (exceptions.ChunkedEncodingError, exceptions.ConnectionError))


class ObjectFileWriter(BufferedWriter):
    """An object as a binary file to write to.

    Mode `w` replaces the object, `a` appends to it, or makes it. What was written becomes visible when the file is flushed or closed, all of
    it at once; mode `w` makes an object that did not exist at once, empty. A `with` block that ends with an error stores nothing.

    Writes are collected: in mode `w` in memory up to 16 MiB and in a temporary file above that, in mode `a` they are sent a mebibyte at a
    time.
    """

    def __init__(self, obj_writer: ObjectWriter, mode: str) -> None:
        if mode not in ("a", "w"):
            raise ValueError(f"Invalid mode: {mode}")
        sink: Sink = Replacement(obj_writer) if mode == "w" else Appendix(obj_writer)
        sink.begin()
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
            self._sink.discard()
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
