"""Reading an object in parts, many at once: which parts there are, and that they belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls.integrity import bad_checksum, running_hasher
from aistore.calls.selection import attributes_of, read_range
from aistore.calls.streams import ChunkStream, Edition, is_another

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from aistore.calls.integrity import Hasher
    from aistore.calls.selection import Selection
    from aistore.calls.steps import Answer, Steps

__all__ = ["Parts", "parts_of"]

_DEFAULT_CHUNK = 8 * 1024 * 1024
_PROPS = "checksum,version,chunked"


class Parts:
    """The parts of an object of `edition`, and the checksum of the whole.

    An object that is overwritten meanwhile is never mixed: that raises `IncompleteBody`.
    """

    __slots__ = ("_checksum", "_selection", "chunk_size", "edition", "size")

    def __init__(
        self, selection: Selection, size: int, chunk_size: int, version: str, checksum: tuple[str, str]
    ) -> None:
        self._selection = selection
        self._checksum = checksum
        self.size = size
        self.chunk_size = chunk_size
        self.edition = Edition(version or None, size, checksum[1] or None)

    def stream(
        self, next_chunk: Callable[[], bytes | Awaitable[bytes]], close: Callable[[], None], offset: int
    ) -> ChunkStream:
        """The chunks from byte `offset` on as a stream."""
        return ChunkStream(next_chunk, close, offset, self.size, self.edition, self._checksum)

    def spans(self, offset: int) -> Iterator[tuple[int, int]]:
        """First byte of each part, and the one behind its last, from byte `offset` on."""
        for first in range(offset, self.size, self.chunk_size):
            yield first, min(first + self.chunk_size, self.size)

    def fetch(self, first: int, last: int) -> Steps[tuple[bytearray, Answer]]:
        """One part, with the answer that brought it."""
        chunk = bytearray(last - first)
        answer = yield from self.read(first, memoryview(chunk))
        return chunk, answer

    def read(self, first: int, view: memoryview) -> Steps[Answer]:
        """Fill `view` with the bytes from `first` on; returns the answer that brought them."""
        answer = yield from read_range(self._selection, first, view)
        found = Edition.of_part(answer)
        if (yield from is_another(self._selection, found, self.edition)):
            from aistore.transport.errors import IncompleteBody

            what = (
                f"the object was overwritten while it was read (version {self.edition.version}, then {found.version})"
            )
            raise IncompleteBody(f"{what}: read it again", "GET", answer.url)
        if found.checksum != self.edition.checksum:  # it is that of the part, and says nothing
            self.edition = self.edition._replace(checksum=None)
        return answer

    def hasher(self) -> Hasher | None:
        """What hashes all parts in order; None if there is nothing to compare with."""
        return running_hasher(self._checksum[0])

    def verify(self, hasher: Hasher, answer: Answer) -> None:
        """Raise `ErrBadChecksum` unless the parts made what was stored; `answer` brought the last one."""
        if hasher.hexdigest() != self._checksum[1]:
            raise bad_checksum(answer, hasher.hexdigest(), "what was read")


def parts_of(selection: Selection, chunk_size: int | None) -> Steps[Parts]:
    """The parts of an object as it is stored, unless `chunk_size` says otherwise. Raises ValueError for an empty object."""
    attributes = yield from attributes_of(selection, _PROPS)
    if attributes.size <= 0:
        raise ValueError("Cannot use `num_workers` with an empty object")
    stored = attributes.chunks.max_chunk_size if attributes.chunks else 0
    return Parts(
        selection,
        attributes.size,
        chunk_size or stored or _DEFAULT_CHUNK,
        attributes.obj_version,
        (attributes.checksum_type, attributes.checksum_value),
    )
