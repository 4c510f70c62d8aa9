"""Content of an object over one connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls.integrity import BodyCheck, check_body
from aistore.calls.streams import open_stream
from aistore.sdk.obj.content_iterator.base import BaseContentIterProvider

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.calls.steps import Steps
    from aistore.calls.streams import ContentStream

__all__ = ["ContentIterProvider"]


class ContentIterProvider(BaseContentIterProvider):
    """Provides the content of an object over one connection at a time."""

    __slots__ = ()

    def create_iter(self, offset: int = 0) -> Iterator[bytes]:
        """The content from byte `offset` on, in chunks, the last of which may be shorter; a fresh GET, closed when the iterator is.

        Iterating over a whole object to its end verifies its checksum.
        """
        answer = self._client.fetch(stream=True, offset=offset)
        check = BodyCheck(answer)
        try:
            for chunk in answer.chunks(self._chunk_size):
                check.update(chunk)
                yield chunk
        finally:
            answer.close()
        check.finish()

    def read_all(self) -> bytes:
        """The whole content; its checksum is verified."""
        answer = self._client.fetch()
        content = answer.content
        check_body(answer, content)
        return content

    def open(self, offset: int, end: int | None) -> Steps[ContentStream]:
        """The content from byte `offset` on, up to and including byte `end`."""
        return open_stream(self._client, offset, end)
