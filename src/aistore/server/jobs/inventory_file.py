"""How a bucket inventory is stored: one object whose content is blocks of listing entries, and an index of their first names.

A block is the entries in msgpack, compressed with zlib, whose own checksum tells a damaged one. The index is the same of
`(first name, offset, length)`, and the last bytes say where it begins. A page is then one search in the index and the blocks that it
covers, whatever the size of the inventory. All of it blocks, and runs in threads.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Annotated, Final, Protocol, TypeVar

import msgspec

from aistore.server.store.errors import StoreError
from aistore.wire.listing import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["BadInventory", "Inventory", "InventoryWriter"]

T = TypeVar("T")

_BLOCK_ENTRIES: Final = 1000
_BLOCK_BYTES: Final = 256 << 10
_BLOCKS_MAX: Final = 1_000_000
# What a block or an index becomes at most: more is no inventory of this server's.
_UNPACKED_MAX: Final = 64 << 20
_TAIL: Final = struct.Struct(">Q8s")
_MARK: Final = b"AISINV01"

_encode: Final = msgspec.msgpack.encode
# Clients can write to the bucket of inventories: a list in a few bytes may claim to have any number of items.
_entries: Final = msgspec.msgpack.Decoder(Annotated[list[Entry], msgspec.Meta(max_length=_BLOCK_ENTRIES)])


class _Place(msgspec.Struct, array_like=True, gc=False):
    """Where a block lies, and the first name in it."""

    first: str
    offset: Annotated[int, msgspec.Meta(ge=0)]
    length: Annotated[int, msgspec.Meta(ge=0)]


_places: Final = msgspec.msgpack.Decoder(Annotated[list[_Place], msgspec.Meta(max_length=_BLOCKS_MAX)])


class BadInventory(StoreError):
    """The object is no inventory, or a damaged one."""


class Source(Protocol):
    """Content that can be read anywhere."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def read_at(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset` on, fewer only where the content ends."""
        ...


class InventoryWriter:
    """Writes an inventory through `write`: encoded entries in the order of their names."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._places: list[_Place] = []
        self._waiting: list[msgspec.Raw] = []
        self._waiting_bytes = 0
        self._first = ""
        self._offset = 0
        self.total = 0
        """Entries so far."""

    def add(self, name: str, encoded: bytes) -> None:
        """Append an entry."""
        if not self._waiting:
            self._first = name
        self._waiting.append(msgspec.Raw(encoded))
        self._waiting_bytes += len(encoded)
        self.total += 1
        if len(self._waiting) >= _BLOCK_ENTRIES or self._waiting_bytes >= _BLOCK_BYTES:
            self._end_block()

    def finish(self) -> None:
        """Write what is left, and the index."""
        self._end_block()
        self._write(zlib.compress(_encode(self._places), 1))
        self._write(_TAIL.pack(self._offset, _MARK))

    def _end_block(self) -> None:
        if not self._waiting:
            return
        packed = zlib.compress(_encode(self._waiting), 1)
        self._places.append(_Place(self._first, self._offset, len(packed)))
        self._write(packed)
        self._offset += len(packed)
        self._waiting, self._waiting_bytes = [], 0


class Inventory:
    """A stored inventory, opened."""

    def __init__(self, source: Source) -> None:
        """Read the index. Raises `BadInventory`."""
        self._source = source
        tail = source.read_at(max(source.size - _TAIL.size, 0), _TAIL.size)
        if len(tail) != _TAIL.size or tail[-len(_MARK) :] != _MARK:
            raise BadInventory("it does not end as an inventory does")
        start = _TAIL.unpack(tail)[0]
        if start > source.size - _TAIL.size:
            raise BadInventory("it is cut short")
        self._places = self._read(start, source.size - _TAIL.size - start, _places.decode)
        self._firsts = [place.first for place in self._places]
        self._block: tuple[int, list[Entry]] = (-1, [])

    def since(self, name: str) -> Iterator[Entry]:
        """Entries from this name on. Raises `BadInventory`."""
        at = max(bisect_right(self._firsts, name) - 1, 0)
        while at < len(self._places):
            entries = self._entries(at)
            yield from entries[bisect_left(entries, name, key=_name) :]
            at += 1

    def _entries(self, at: int) -> list[Entry]:
        if self._block[0] != at:
            place = self._places[at]
            self._block = (at, self._read(place.offset, place.length, _entries.decode))
        return self._block[1]

    def _read(self, offset: int, length: int, decode: Callable[[bytes], list[T]]) -> list[T]:
        if length > _UNPACKED_MAX:
            raise BadInventory(f"its part at {offset} is too long")
        packed = self._source.read_at(offset, length)
        try:
            stream = zlib.decompressobj()
            data = stream.decompress(packed, _UNPACKED_MAX)
            if not stream.eof:
                raise BadInventory(f"its part at {offset} is cut short or too long")
            return decode(data)
        except (zlib.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadInventory(f"its part at {offset} is damaged: {error}") from error


def _name(entry: Entry) -> str:
    return entry.name
