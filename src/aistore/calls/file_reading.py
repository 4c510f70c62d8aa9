"""Reading an object as a file: position, window and resuming, for the files of both faces."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Protocol

from aistore.calls.integrity import running_hasher
from aistore.calls.selection import attributes_of
from aistore.calls.streams import is_another
from aistore.sdk.obj.obj_file.errors import (
    ObjectFileReaderMaxResumeError,
    ObjectFileReaderStreamError,
    ObjectFileReaderUnexpectedEOF,
)

if TYPE_CHECKING:
    from aistore.calls.integrity import Hasher
    from aistore.calls.selection import Selection
    from aistore.calls.steps import Steps
    from aistore.calls.streams import ContentStream, Edition

__all__ = ["FileReading", "Source"]

_RESUMES = 5
_RANGE_NOT_SATISFIABLE = 416
_CLOSED = "I/O operation on closed file."
# Small reads are served from a window of this size; larger ones go straight to their destination.
_WINDOW = 64 * 1024
_PIECE = 1024 * 1024
# Going this far forward costs less by reading on than by a new request.
_SKIP = 256 * 1024
# After a jump not everything behind it is asked for, but a span that grows while reading goes on.
_FIRST_SPAN = 256 * 1024
_SPAN_GROWTH = 4


class Source(Protocol):
    """Where the content comes from."""

    @property
    def client(self) -> Selection:
        """What is read."""
        ...

    def open(self, offset: int, end: int | None) -> Steps[ContentStream]:
        """The content from byte `offset` on, up to and including byte `end`."""
        ...


class FileReading:
    """State and rules of a file-like reader.

    A stream that breaks, or ends too early, is resumed from the byte after the last one delivered, at most `max_resume` times
    (protocol/20 18.6; None: 5). An object that is overwritten meanwhile is never mixed: that raises `ObjectFileReaderStreamError`. When it was read
    from start to end, its checksum is verified. A read that fails, or is cancelled, leaves the position where it was.
    """

    def __init__(self, source: Source, max_resume: int | None) -> None:
        if max_resume is not None and max_resume < 0:
            raise ValueError(f"Invalid max_resume (must be a non-negative integer): {max_resume}.")
        self._source = source
        self._max_resume = _RESUMES if max_resume is None else max_resume
        self.closed = False
        self._stream: ContentStream | None = None
        self.open()

    def open(self) -> None:
        """Start again at the beginning."""
        self.close()
        self.closed = False
        self._resumes = 0
        self.position = 0
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

    def check_open(self) -> None:
        """Raise ValueError if the file is closed."""
        if self.closed:
            raise ValueError(_CLOSED)

    def close(self) -> None:
        """Give up what was not read."""
        self.closed = True
        self.drop_stream()

    # -- reading ------------------------------------------------------------------------------------------------------------------

    def at_hand(self, size: int) -> bytes:
        """Up to `size` bytes that were received already."""
        at = self.position - self._window_start
        if not 0 <= at < len(self._window):
            return b""
        piece = self._window[at : at + size]
        self.position += len(piece)
        return piece

    def read(self, size: int | None, first: bytes = b"") -> Steps[bytes]:
        """`size` bytes, fewer only at the end of the object; all that is left for None. The `first` ones are those that were at hand."""
        begin = self.position - len(first)
        parts = [first] if first else []
        left = None if size is None else size - len(first)
        try:
            while left is None or left > 0:
                piece = self.at_hand(_PIECE if left is None else left) or (yield from self._next_piece(left))
                if not piece:
                    break
                parts.append(piece)
                if left is not None:
                    left -= len(piece)
        except BaseException:
            self._go_back(begin)
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read1(self, size: int) -> Steps[bytes]:
        """Up to `size` bytes, as many as are at hand."""
        wanted = size if size > 0 else _WINDOW
        begin = self.position
        try:
            return self.at_hand(wanted) or (yield from self._next_piece(wanted))
        except BaseException:
            self._go_back(begin)
            raise

    def readinto(self, view: memoryview) -> Steps[int]:
        """Fill `view`, unless the object ends before; returns the number of bytes."""
        begin = self.position
        filled = 0
        try:
            while filled < len(view):
                piece = self.at_hand(len(view) - filled)
                if piece:
                    view[filled : filled + len(piece)] = piece
                    filled += len(piece)
                elif len(view) - filled < _WINDOW:
                    if not (yield from self._fill_window()):
                        break
                elif count := (yield from self._straight_into(view[filled:])):
                    filled += count
                else:
                    break
        except BaseException:
            self._go_back(begin)
            raise
        return filled

    def _go_back(self, position: int) -> None:
        # A stream whose read was interrupted may have lost bytes.
        self.drop_stream()
        self.position = position

    def _next_piece(self, size: int | None) -> Steps[bytes]:
        """Bytes at the position, not at hand: a small piece through the window, a large one, or the rest for None, straight."""
        if size is not None and size < _WINDOW:
            return self.at_hand(size) if (yield from self._fill_window()) else b""
        data = yield from self._receive(size)
        self.position += len(data)
        return data

    def _fill_window(self) -> Steps[bool]:
        data = yield from self._receive(_WINDOW)
        self._window, self._window_start = data, self.position
        return bool(data)

    def _straight_into(self, view: memoryview) -> Steps[int]:
        while True:
            stream = yield from self._stream_at_position()
            if stream is None:
                return 0
            try:
                count = yield from stream.readinto(view)
            except Exception as error:  # recoverable ones only, the others are raised again
                self._resume(error)
                continue
            if count:
                self._took(view[:count])
                self.position += count
                return count
            self._stream_ended()

    def _receive(self, size: int | None) -> Steps[bytes]:
        """Up to `size` bytes from the stream at the position; all it has for None; empty at the end of the object."""
        while True:
            stream = yield from self._stream_at_position()
            if stream is None:
                return b""
            try:
                data = yield from stream.read(size if size is not None else self._rest_of_stream())
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
        new = self._hashed - self._stream_position
        self._stream_position += len(data)
        hasher = self._hasher
        if hasher is None or not 0 <= new < len(data):
            return
        hasher.update(memoryview(data)[new:])
        self._hashed = self._stream_position
        if self._hashed == self._size:
            self._hasher = None
            self._verify(hasher.hexdigest())

    def _verify(self, computed: str) -> None:
        kind, stated = self._checksum
        if computed != stated:
            self._fail(
                f"the content has {kind} {computed}, but the cluster states {stated}: it was damaged on the way or on disk"
            )

    # -- streams ------------------------------------------------------------------------------------------------------------------

    def _stream_at_position(self) -> Steps[ContentStream | None]:
        """A stream that goes on at the caller's position; None at the end of the object.

        ValueError if another thread or task closed the file meanwhile.
        """
        while True:
            self.check_open()
            if self._size is not None and self.position >= self._size:
                return None
            if self._stream is not None and self._needs_another():
                self.drop_stream()
            try:
                if self._stream is None:
                    yield from self._open()
                if self._stream is not None and (yield from self._skip_to_position()):
                    return self._stream
            except Exception as error:  # recoverable ones only, the others are raised again
                self._resume(error)

    def _needs_another(self) -> bool:
        ahead = self.position - self._stream_position
        return ahead < 0 or (ahead > _SKIP and self.seekable)

    def _open(self) -> Steps[None]:
        offset = self.position if self._source.client.can_get_at_offset() else 0
        end = None if self._span is None else offset + self._span - 1
        try:
            self._stream = stream = yield from self._source.open(offset, end)
        except Exception as error:
            if not (offset and _is_out_of_range(error)):
                raise
            self._size = (yield from attributes_of(self._source.client, "size")).size
            if offset < self._size:
                raise
            return  # there is nothing to read behind the end
        self._stream_position = stream.start
        self._span_end = stream.end
        if self._span is not None:
            self._span *= _SPAN_GROWTH
        if self._edition is None:
            self._edition = stream.edition
            self._size = stream.edition.size if self.seekable else stream.end
            if stream.start == 0 and stream.checksum[0]:
                self._checksum = stream.checksum
                self._hasher = running_hasher(stream.checksum[0])
        elif (yield from is_another(self._source.client, stream.edition, self._edition)):
            was, now = self._edition, stream.edition
            self._fail(
                f"the object was overwritten while it was read (version {was.version}, {was.size} bytes; then {now.version}, {now.size})"
            )
        elif stream.edition.checksum != self._edition.checksum:  # it was that of a part, and says nothing
            self._edition = self._edition._replace(checksum=None)

    def _skip_to_position(self) -> Steps[bool]:
        """Read on to the position; False if the stream ended before."""
        stream = self._stream
        assert stream is not None  # opened by the caller
        while self._stream_position < self.position:
            data = yield from stream.read(min(self.position - self._stream_position, _PIECE))
            if not data:
                self._stream_ended()
                return self._stream is not None
            self._took(data)
        return True

    def _stream_ended(self) -> None:
        """A stream without more to give: all is well, or the next span follows, or it ended too early."""
        here, end = self._stream_position, self._span_end
        expected = self.position if end is None else end
        if here < expected:
            self._resume(ObjectFileReaderUnexpectedEOF(here, expected))
            return
        self.drop_stream()
        if self._size is None and self._span is None:
            self._size = here

    def _resume(self, error: Exception) -> None:
        """Go on after a recoverable error; others, and one too many, are raised."""
        self.drop_stream()
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

    def drop_stream(self) -> None:
        """Give up what is on its way; the next read requests it again."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    # -- seeking ------------------------------------------------------------------------------------------------------------------

    @property
    def seekable(self) -> bool:
        """Whether it can be read from anywhere."""
        return self._source.client.is_whole

    def seek(self, offset: int, whence: int) -> Steps[int]:
        """Move the position. Raises `io.UnsupportedOperation` if the file is not seekable."""
        if not self.seekable:
            raise io.UnsupportedOperation("seek: the reader selects a part of the object, which is a stream")
        if whence == os.SEEK_CUR:
            offset += self.position
        elif whence == os.SEEK_END:
            if self._size is None:
                self._size = (yield from attributes_of(self._source.client, "size")).size
            offset += self._size
        elif whence != os.SEEK_SET:
            raise ValueError(f"whence must be 0, 1 or 2, not {whence}")
        if offset < 0:
            raise ValueError(f"cannot seek to {offset}")
        if offset != self.position:
            self.position = offset
            self._span = _FIRST_SPAN
        return offset

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"at {self.position}"
        return f"{self._source.client.path} {state}"


def _is_out_of_range(error: Exception) -> bool:
    from aistore.sdk.errors import AISError

    return isinstance(error, AISError) and error.status_code == _RANGE_NOT_SATISFIABLE


def _is_recoverable(error: Exception) -> bool:
    from requests import exceptions

    # Read timeouts are connection errors too.
    return isinstance(error, (exceptions.ChunkedEncodingError, exceptions.ConnectionError))
