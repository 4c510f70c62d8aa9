"""What all providers of content have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.calls.steps import Steps
    from aistore.calls.streams import ContentStream
    from aistore.sdk.obj.content_iterator.buffer import ParallelBuffer
    from aistore.sdk.obj.object_client import ObjectClient

__all__ = ["BaseContentIterProvider"]


class BaseContentIterProvider(ABC):
    """Provides the content of an object, from any position and as often as wanted."""

    __slots__ = ("_chunk_size", "_client")

    def __init__(self, client: ObjectClient, chunk_size: int) -> None:
        self._client = client
        self._chunk_size = chunk_size

    @property
    def client(self) -> ObjectClient:
        """What requests the content."""
        return self._client

    @property
    def chunk_size(self) -> int:
        """Bytes of a chunk."""
        return self._chunk_size

    @abstractmethod
    def create_iter(self, offset: int = 0) -> Iterator[bytes]:
        """The content from byte `offset` on, in chunks."""

    @abstractmethod
    def read_all(self) -> bytes | ParallelBuffer:
        """The whole content."""

    @abstractmethod
    def open(self, offset: int, end: int | None) -> Steps[ContentStream]:
        """The content from byte `offset` on, up to and including byte `end`."""
