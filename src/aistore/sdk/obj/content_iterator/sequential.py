"""Content of an object over one connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls.integrity import bad_checksum, check_body, running_hasher, stated_checksum
from aistore.sdk.obj.content_iterator.base import BaseContentIterProvider, Edition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.transport.response import Response

__all__ = ["AnswerStream", "ContentIterProvider"]

_WHOLE = 200
_PARTIAL = 206


class AnswerStream:
    """The body of an answer to a GET that asked for the content from `offset` on."""

    __slots__ = ("_answer", "checksum", "close", "edition", "end", "read", "readinto", "start")

    def __init__(self, answer: Response, offset: int) -> None:
        fields = answer.head.headers
        partial = answer.status == _PARTIAL
        # A server that ignores ranges begins at the beginning.
        self.start = offset if partial else 0
        self.end = self.start + fields.length if fields.length >= 0 else None
        total = fields.get("content-range", "").rpartition("/")[2] if partial else ""
        size = int(total) if total.isdigit() else None if partial else self.end
        self.edition = Edition(fields.get("ais-version"), size)
        self.checksum = ("", "") if partial else stated_checksum(answer)
        self.read = answer.read
        self.readinto = answer.readinto
        self.close = answer.close


class ContentIterProvider(BaseContentIterProvider):
    """Provides the content of an object over one connection at a time."""

    __slots__ = ()

    def create_iter(self, offset: int = 0) -> Iterator[bytes]:
        """The content from byte `offset` on, in chunks, the last of which may be shorter; a fresh GET, closed when the iterator is.

        Iterating over a whole object to its end verifies its checksum.
        """
        answer = self._client.fetch(stream=True, offset=offset)
        kind, value = stated_checksum(answer)
        hasher = running_hasher(kind) if answer.status == _WHOLE else None
        try:
            for chunk in answer.chunks(self._chunk_size):
                if hasher is not None:
                    hasher.update(chunk)
                yield chunk
        finally:
            answer.close()
        if hasher is not None and hasher.hexdigest() != value:
            raise bad_checksum(answer, hasher.hexdigest(), "what was read")

    def read_all(self) -> bytes:
        """The whole content; its checksum is verified."""
        answer = self._client.fetch()
        content = answer.content
        check_body(answer, content)
        return content

    def open(self, offset: int = 0, end: int | None = None) -> AnswerStream:
        """The content from byte `offset` on, up to and including byte `end`."""
        return AnswerStream(self._client.fetch(stream=True, offset=offset, end=end), offset)
