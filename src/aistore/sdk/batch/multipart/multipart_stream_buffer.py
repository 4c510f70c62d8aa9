"""A multipart document that is read piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.sdk.batch.multipart.sliding_window_buffer import SlidingWindowBuffer

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MultipartStreamBuffer"]


class MultipartStreamBuffer:
    """What has been read of `content_iter`, and where the next `boundary` (with its dashes, without line ends) is."""

    def __init__(self, content_iter: Iterator[bytes], boundary: bytes, max_buffer_size: int) -> None:
        self._content = content_iter
        self._boundary = boundary
        self._buffer = SlidingWindowBuffer(max_buffer_size, self.get_boundary_size())
        self._exhausted = False

    @property
    def boundary(self) -> bytes:
        """The boundary."""
        return self._boundary

    def get_boundary_size(self) -> int:
        """Bytes of the boundary and the line end before it."""
        return len(self._boundary) + 2

    def get_buffer_size(self) -> int:
        """Bytes that were read and not consumed."""
        return len(self._buffer)

    def is_exhausted(self) -> bool:
        """Whether all was read."""
        return self._exhausted

    def has_data(self) -> bool:
        """Whether there is anything left."""
        return bool(self._buffer) or not self._exhausted

    def read_chunk(self) -> bool:
        """Read one more piece; False at the end."""
        return self.force_read_chunk()

    def force_read_chunk(self) -> bool:
        """The same, however much is held already."""
        piece = next(self._content, b"")
        if not piece:
            self._exhausted = True
            return False
        self.append_chunk(piece, no_slide=True)
        return True

    def append_chunk(self, chunk: bytes, no_slide: bool = False) -> bytes:
        """Append; without `no_slide` what is too much goes out at the front, and is returned."""
        if no_slide:
            self._buffer.append_no_slide(chunk)
            return b""
        return self._buffer.append(chunk)

    def ensure_data_available(self, min_bytes: int = 0) -> bool:
        """Read until at least so many bytes, and any at all, are there; False if there are no more."""
        while len(self._buffer) < max(1, min_bytes):
            if not self.force_read_chunk():
                return False
        return True

    def find_pattern(self, pattern: bytes, start: int = 0) -> int:
        """Where a pattern begins in what was read; -1 if it is not there."""
        return self._buffer.find(pattern, start)

    def find_boundary_position(self) -> int:
        """Where the next boundary begins in what was read; -1 if it is not there."""
        return self._buffer.find(self._boundary)

    def has_boundary(self) -> bool:
        """Whether a boundary was read."""
        return self.find_boundary_position() >= 0

    def get_safe_content_size(self) -> int:
        """Bytes that surely belong to the part: up to the line end before the boundary, or to where one might begin."""
        at = self.find_boundary_position()
        if at < 0:
            return max(0, len(self._buffer) - self.get_boundary_size())
        return at - 2 if at >= 2 and self.get_data_slice(at - 2, at) == b"\r\n" else at

    def get_data_slice(self, start: int = 0, end: int | None = None) -> bytes:
        """A copy of a part of what was read."""
        return self._buffer.get_data_bytes(start, end)

    def consume_data(self, length: int) -> bytes:
        """Take bytes from the front."""
        return self._buffer.consume(length)

    def consume_before_pattern(self, pos: int, pattern: bytes, clean_endings: bool = True) -> bytes:
        """Take the bytes before a pattern at `pos`, and drop the pattern; without the one line end before it if `clean_endings`."""
        data = self._buffer.consume(pos)
        self._buffer.discard(len(pattern))
        return data.removesuffix(b"\r\n") if clean_endings else data

    def read_until_boundary(self, clean_endings: bool = True) -> bytes:
        """The rest of the part; the boundary behind it stays. All that is left if there is none."""
        while not self.has_boundary() and self.force_read_chunk():
            pass
        at = self.find_boundary_position()
        data = self._buffer.consume(at if at >= 0 else len(self._buffer))
        return data.removesuffix(b"\r\n") if clean_endings and at >= 0 else data

    def skip_whitespace(self) -> int:
        """Drop blanks and line ends from the front; their number."""
        return self._buffer.skip_leading_whitespace()
