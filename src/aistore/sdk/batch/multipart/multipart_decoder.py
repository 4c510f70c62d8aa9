"""Buffered answers of batches: metadata and archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aistore.calls.batch_formats import boundary_of
from aistore.sdk.batch.errors import MultipartDecodeError
from aistore.sdk.batch.multipart.stateful_streaming_parser import StatefulStreamingParser

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

    from aistore.sdk.batch.multipart.body_stream_reader import BodyStreamReader

__all__ = ["MultipartDecoder"]


class MultipartDecoder:
    """Splits an answer in two: the metadata, and the archive, all of it or (`parse_as_stream`) as a file that is read from the answer.

    `encoding` is that of the metadata; `chunk_size` and `max_buffer_size` are bytes read and held at a time.
    """

    def __init__(
        self,
        encoding: str = "utf-8",
        parse_as_stream: bool = False,
        chunk_size: int = 32768,
        max_buffer_size: int = 65536,
    ) -> None:
        self._encoding = encoding
        self._as_stream = parse_as_stream
        self._chunk = chunk_size
        self._max = max_buffer_size

    def decode(self, response: requests.Response) -> tuple[str, bytes | BodyStreamReader]:
        """Metadata (JSON) and archive. Raises `MultipartDecodeError` for what is not such a document."""
        boundary = boundary_of(response.headers.get("Content-Type", ""))
        content = cast("Iterator[bytes]", response.iter_content(self._chunk))
        parser = StatefulStreamingParser(content, boundary, self._max)
        metadata = self._next(parser).read()
        try:
            text = metadata.decode(self._encoding)
        except UnicodeDecodeError as error:
            raise MultipartDecodeError(f"the metadata is not {self._encoding}: {error}") from error
        archive = self._next(parser)
        return text, archive if self._as_stream else archive.read()

    def _next(self, parser: StatefulStreamingParser) -> BodyStreamReader:
        part = parser.get_next_part()
        if part is None:
            raise MultipartDecodeError("the document has less than two parts")
        return part[1]
