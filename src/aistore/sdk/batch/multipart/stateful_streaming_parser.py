"""The parts of a multipart document, one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.sdk.batch.errors import MultipartDecodeError
from aistore.sdk.batch.multipart.body_stream_reader import BodyStreamReader
from aistore.sdk.batch.multipart.multipart_stream_buffer import MultipartStreamBuffer

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["StatefulStreamingParser"]

_HEAD_MAX = 16 * 1024


class StatefulStreamingParser:
    """Goes through a document once; `boundary` is as the content type names it, without dashes."""

    def __init__(self, content_iter: Iterator[bytes], boundary: bytes, max_buffer_size: int) -> None:
        self._buffer = MultipartStreamBuffer(content_iter, b"--" + boundary, max_buffer_size)
        self._body: BodyStreamReader | None = None

    def get_next_part(self) -> tuple[dict[str, str], BodyStreamReader] | None:
        """Headers (names in lower case) and body of the next part; None after the last. What was not read of the one before is dropped.

        Raises `MultipartDecodeError`.
        """
        buffer = self._buffer
        if self._body is not None:
            while self._body.read(1 << 20):
                pass
        mark = buffer.boundary
        while not buffer.has_boundary():
            if not buffer.force_read_chunk():
                raise MultipartDecodeError("the document has no boundary")
        buffer.consume_before_pattern(buffer.find_boundary_position(), mark)
        buffer.ensure_data_available(2)
        if buffer.get_data_slice(0, 2) == b"--":
            return None
        buffer.consume_data(2)
        while (end := buffer.find_pattern(b"\r\n\r\n")) < 0:
            if buffer.get_buffer_size() > _HEAD_MAX or not buffer.force_read_chunk():
                raise MultipartDecodeError("the headers of a part have no end")
        headers = {}
        for line in buffer.consume_before_pattern(end, b"\r\n\r\n").decode("utf-8", "replace").split("\r\n"):
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        self._body = BodyStreamReader(buffer)
        return headers, self._body
