"""The body of one part as a file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from aistore.sdk.batch.errors import MultipartDecodeError

if TYPE_CHECKING:
    from aistore.sdk.batch.multipart.multipart_stream_buffer import MultipartStreamBuffer

__all__ = ["BodyStreamReader"]


class BodyStreamReader(io.BufferedIOBase):
    """Reads the body of the part that a buffer stands at, up to the boundary; a body without one raises `MultipartDecodeError`."""

    def __init__(self, buffer_reader: MultipartStreamBuffer) -> None:
        self._buffer = buffer_reader

    def readable(self) -> bool:
        """True while it is open."""
        return not self.closed

    def seekable(self) -> bool:
        """Never."""
        return False

    def writable(self) -> bool:
        """Never."""
        return False

    def read(self, size: int | None = -1) -> bytes:
        """`size` bytes, fewer only at the end of the body; all by default."""
        if self.closed:
            raise ValueError("the body of the part is closed")
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        buffer = self._buffer
        while buffer.get_safe_content_size() < size and not buffer.has_boundary():
            if not buffer.force_read_chunk():
                raise MultipartDecodeError("a part has no end")
        return buffer.consume_data(min(size, buffer.get_safe_content_size()))

    def close(self) -> None:
        """Read no more."""
        super().close()
