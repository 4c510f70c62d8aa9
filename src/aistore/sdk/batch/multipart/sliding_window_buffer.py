"""Bytes that come in at one end and go out at the other."""

from __future__ import annotations

__all__ = ["SlidingWindowBuffer"]


class SlidingWindowBuffer:
    """At most about `max_size` bytes; `boundary_size` of them are always kept, since a boundary may begin there."""

    def __init__(self, max_size: int, boundary_size: int) -> None:
        self._max = max(max_size, boundary_size)
        self._data = bytearray()

    def append(self, data: bytes) -> bytes:
        """Append; what does not fit any more goes out at the front, and is returned."""
        self._data += data
        return self.consume(max(0, len(self._data) - self._max))

    def append_no_slide(self, data: bytes) -> None:
        """Append, whatever the size."""
        self._data += data

    def consume(self, length: int) -> bytes:
        """Take bytes from the front."""
        taken = bytes(self._data[:length])
        del self._data[:length]
        return taken

    def discard(self, length: int) -> None:
        """Drop bytes from the front."""
        del self._data[:length]

    def find(self, pattern: bytes, start: int = 0) -> int:
        """Where the pattern begins, from `start` on; -1 if it is not there."""
        return self._data.find(pattern, start)

    def find_relative(self, pattern: bytes, start: int = 0) -> int:
        """The same, counted from `start`."""
        found = self.find(pattern, start)
        return found - start if found >= 0 else -1

    def get_data_bytes(self, start: int = 0, end: int | None = None) -> bytes:
        """A copy of a part."""
        return bytes(self._data[start:end])

    def skip_leading_whitespace(self) -> int:
        """Drop blanks and line ends from the front; their number."""
        count = len(self._data) - len(self._data.lstrip(b" \t\r\n"))
        del self._data[:count]
        return count

    def clear(self) -> None:
        """Drop everything."""
        self._data.clear()

    def __len__(self) -> int:
        return len(self._data)
