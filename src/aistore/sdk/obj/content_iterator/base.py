"""What all providers of content have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.sdk.obj.content_iterator.buffer import ParallelBuffer
    from aistore.sdk.obj.object_client import ObjectClient

__all__ = ["BaseContentIterProvider", "ContentStream", "Edition"]


class Edition(NamedTuple):
    """What tells one edition of an object from another that overwrote it; None where an answer does not say."""

    version: str | None
    size: int | None

    def differs_from(self, other: Edition) -> bool:
        """Whether both say something, and not the same."""
        return any(a is not None and b is not None and a != b for a, b in zip(self, other, strict=True))


class ContentStream(Protocol):
    """Content on its way, from some byte on."""

    start: int
    """Position of the first byte."""
    end: int | None
    """Position behind the last byte, if that is known."""
    edition: Edition
    checksum: tuple[str, str]
    """Type and value of the checksum of what the stream carries if it starts at 0; empty if there is none."""

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer only before the end or a failure, which the next call raises."""
        ...

    def readinto(self, view: memoryview) -> int:
        """Fill `view` as far as bytes are there; 0 at the end."""
        ...

    def close(self) -> None:
        """Give up the rest."""
        ...


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
    def open(self, offset: int = 0, end: int | None = None) -> ContentStream:
        """The content from byte `offset` on, up to and including byte `end`."""
