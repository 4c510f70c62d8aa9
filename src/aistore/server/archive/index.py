"""The members of an archive, sorted by name: made by going through it once, and then kept in the catalog.

A member is found, and members are listed from any name on, by reading one page of the index, however many there are.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec

from aistore.server.archive import tar
from aistore.server.archive import zip as zips
from aistore.server.archive.errors import BadArchive
from aistore.server.archive.formats import Format
from aistore.server.archive.names import clean
from aistore.server.archive.source import cursor_over
from aistore.server.store.member_pages import MemberPages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.server.archive.source import Source
    from aistore.server.store.member_pages import Read

__all__ = ["CatalogIndex", "Index", "Member", "MemoryIndex", "Stop", "build"]

# An index in the making is in memory: a name and 62 bytes for each member.
_MEMBERS_MAX: Final = 2_000_000
_NAMES_MAX: Final = 192 << 20
_NAME_MAX: Final = 4096
_PAGE_MEMBERS: Final = 128
_WHERE: Final = struct.Struct(">QQQBL")

_decode_page = msgspec.msgpack.Decoder(list[bytes]).decode
_encode_page = msgspec.msgpack.Encoder().encode


class Member(NamedTuple):
    """Where a member lies."""

    name: str
    size: int
    """Bytes of its content."""
    offset: int
    """Where the content begins in the decompressed archive; in a ZIP where its local header begins in the archive."""
    packed: int
    """In a ZIP the bytes that the content takes."""
    method: int
    """`STORED`, `DEFLATED` or `UNREADABLE` (see `zip`)."""
    crc: int
    """In a ZIP the checksum of the content."""


class Index(Protocol):
    """The members of one archive."""

    @property
    def damage(self) -> str:
        """What is wrong with the archive behind the members that are here; empty if nothing is."""
        ...

    def find(self, name: str) -> Member | None:
        """The first member of this name, or None."""
        ...

    def after(self, name: str) -> Iterator[Member]:
        """The members whose names come after this one, in order."""
        ...

    def in_thread(self, read: Read) -> Index:
        """The same for another thread, whose queries `read` runs."""
        ...


def _unpack(entry: bytes) -> Member:
    at = len(entry) - _WHERE.size
    offset, size, packed, method, crc = _WHERE.unpack_from(entry, at)
    return Member(entry[: at - 1].decode(), size, offset, packed, method, crc)


def _position(entries: list[bytes], name: str) -> int:
    """Where the entry of this name is, or would be."""
    return bisect_left(entries, name.encode("utf-8", "replace") + b"\0")


def _find(entries: list[bytes], name: str) -> Member | None:
    at = _position(entries, name)
    if at < len(entries):
        found = _unpack(entries[at])
        if found.name == name:
            return found
    return None


class MemoryIndex:
    """An index that was just made."""

    def __init__(self, entries: list[bytes], damage: str) -> None:
        self.entries = entries
        self.damage = damage

    def find(self, name: str) -> Member | None:
        """The first member of this name, or None."""
        return _find(self.entries, name)

    def after(self, name: str) -> Iterator[Member]:
        """The members whose names come after this one, in order."""
        at = _position(self.entries, name)
        for entry in self.entries[at : at + 1]:
            member = _unpack(entry)
            if member.name > name:
                yield member
        yield from map(_unpack, self.entries[at + 1 :])

    def in_thread(self, read: Read) -> MemoryIndex:  # noqa: ARG002 (it needs no queries)
        """The same for another thread."""
        return self

    def pages(self) -> Iterator[tuple[bytes, bytes]]:
        """The index as the catalog keeps it: the first name of each page, and the page."""
        for at in range(0, len(self.entries), _PAGE_MEMBERS):
            page = self.entries[at : at + _PAGE_MEMBERS]
            yield page[0][: -_WHERE.size - 1], _encode_page(page)


class CatalogIndex:
    """An index that the catalog keeps."""

    def __init__(self, pages: MemberPages, damage: str) -> None:
        self._pages = pages
        self.damage = damage

    @classmethod
    def open(cls, pages: MemberPages) -> CatalogIndex | None:
        """The index of this content, if it was made before."""
        damage = pages.damage()
        return cls(pages, damage) if damage is not None else None

    def _page(self, name: str) -> list[bytes]:
        """The page that has this name, if any has."""
        page = self._pages.page(name.encode("utf-8", "replace"))
        return _decode_page(page) if page is not None else []

    def find(self, name: str) -> Member | None:
        """The first member of this name, or None."""
        return _find(self._page(name), name)

    def after(self, name: str) -> Iterator[Member]:
        """The members whose names come after this one, in order."""
        rest = self._pages.after(name.encode("utf-8", "replace"))
        yield from MemoryIndex(self._page(name), "").after(name)
        yield from map(_unpack, chain.from_iterable(map(_decode_page, rest)))

    def in_thread(self, read: Read) -> CatalogIndex:
        """The same for another thread, whose queries `read` runs."""
        return CatalogIndex(MemberPages(read, self._pages.key), self.damage)


class Stop:
    """Tells work in a thread that nobody waits for it any more."""

    def __init__(self) -> None:
        self.set = False


def build(source: Source, form: Format, stop: Stop) -> MemoryIndex:
    """Go through an archive (blocking). What is wrong with it becomes the index's `damage`: what comes before can be read."""
    entries: list[bytes] = []
    damage = ""
    names = 0
    try:
        for name, where in _members(source, form):
            if stop.set:
                raise BadArchive("the server was stopped")  # noqa: TRY301 (one way out)
            key = clean(name).encode("utf-8", "replace")
            if not key or len(key) > _NAME_MAX:
                continue
            entries.append(key + b"\0" + _WHERE.pack(*where))
            names += len(key)
            if len(entries) > _MEMBERS_MAX or names > _NAMES_MAX:
                entries.clear()
                raise BadArchive(f"the archive has too many members (at most {_MEMBERS_MAX})")  # noqa: TRY301 (one way out)
    except BadArchive as error:
        damage = str(error)
    # The name ends with a byte that is in no name, and the place comes first behind it: of members that share a name the first one leads.
    entries.sort()
    return MemoryIndex(_first_ones(entries), damage)


def _members(source: Source, form: Format) -> Iterator[tuple[str, tuple[int, int, int, int, int]]]:
    if form is Format.ZIP:
        for entry in zips.walk(source):
            if entry.regular:
                yield entry.name, (entry.local, entry.size, entry.packed, entry.method, entry.crc)
        return
    last: tuple[str, tuple[int, int, int, int, int]] | None = None
    for member in tar.walk(cursor_over(source, form)):
        # That the archive goes on behind it shows that a member is there to its end.
        if last is not None:
            yield last
        method = zips.UNREADABLE if member.sparse else zips.STORED
        last = (member.name, (member.data, member.size, 0, method, 0)) if member.regular else None
    if last is not None:
        yield last


def _first_ones(entries: list[bytes]) -> list[bytes]:
    before = b""
    unique = []
    for entry in entries:
        name = entry[: -_WHERE.size]
        if name != before:
            unique.append(entry)
            before = name
    return unique
