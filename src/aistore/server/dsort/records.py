"""The records of one shard: its members, grouped by what their names share (protocol/40 B1)."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.server.archive import tar
from aistore.server.archive import zip as zips
from aistore.server.archive.errors import BadArchive
from aistore.server.archive.formats import Format
from aistore.server.archive.source import cursor_over
from aistore.server.dsort.keys import record_name
from aistore.server.dsort.runs import RunSorter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aistore.server.archive.source import Source

__all__ = ["Member", "Record", "ShardReader", "decode_record", "encode_record"]

_NAME_MAX: Final = 4096
_RECORD_MEMBERS_MAX: Final = 100_000
_RECORD_NAMES_MAX: Final = 8 << 20
# What a ZIP may become, as of other archives (`archive.source`): members may lie one over the other.
_ALWAYS_ALLOWED: Final = 1 << 30
_RATIO: Final = 256
# Bytes that all members of a shard may claim: what sparse ones are without their holes is up to whoever made them.
_CLAIMED_MAX: Final = 1 << 44


class Member(msgspec.Struct, array_like=True, gc=False):
    """Where a member lies in its shard."""

    name: bytes
    size: int
    offset: int
    """In a TAR where its content begins, in a ZIP where its local header does."""
    start: int
    """In a TAR where its headers begin that are its own."""
    end: int
    """In a TAR where the next header begins."""
    packed: int
    """In a ZIP the bytes that the content takes."""
    method: int
    """One of `zip`'s; `UNREADABLE` for what only a TAR can hold."""
    crc: int
    mtime: int


class Record(msgspec.Struct, array_like=True, gc=False):
    """Members of one shard that stay together, in the order of the shard."""

    shard: int
    size: int
    """Bytes of content."""
    members: list[Member]

    @property
    def key_name(self) -> bytes:
        """The name by which the record is ordered: that of its first member."""
        return self.members[0].name


_encode = msgspec.msgpack.Encoder().encode
_decode_member: Final = msgspec.msgpack.Decoder(Member).decode
decode_record: Final = msgspec.msgpack.Decoder(Record).decode
"""A record of its bytes."""


def encode_record(record: Record) -> bytes:
    """A record as bytes."""
    return _encode(record)


class ShardReader:
    """Goes through one shard, and groups its members; what it has counted can be asked for at any time."""

    def __init__(self, number: int, source: Source, form: Format, folder: Path, memory: int) -> None:
        self._number = number
        self._source = source
        self._form = form
        self._sorter = RunSorter(folder, memory)
        self.members = 0
        self.size = 0
        """Bytes of the members' content."""
        self.left_out = 0
        """Links and the like, which are no files."""

    def read(self) -> Iterator[None]:
        """Go through the members. Raises `BadArchive`, `StoreFull`."""
        for ordinal, member in enumerate(self._zip() if self._form is Format.ZIP else self._tar()):
            _check_name(member.name)
            self.members += 1
            self.size += member.size
            if self.size > _CLAIMED_MAX:
                raise BadArchive(f"its members claim more than {_CLAIMED_MAX} bytes")
            self._sorter.add(record_name(member.name), ordinal, _encode(member))
            yield None

    def records(self, duplicate: Callable[[bytes], None]) -> Iterator[tuple[int, Record]]:
        """The records, each with the number of its first member; `duplicate` is told of a member that a later one of its name replaces."""
        for _, items in groupby(self._sorter.sorted(), key=_key):
            members: dict[bytes, Member] = {}
            first, names = -1, 0
            for _, ordinal, data in items:
                member = _decode_member(data)
                first = ordinal if first < 0 else first
                if members.pop(member.name, None) is not None:
                    duplicate(member.name)
                members[member.name] = member
                names += len(member.name)
                if len(members) > _RECORD_MEMBERS_MAX or names > _RECORD_NAMES_MAX:
                    shown = record_name(member.name)[:100]
                    raise BadArchive(f"record {shown!r} has too many members (at most {_RECORD_MEMBERS_MAX})")
            kept = list(members.values())
            yield first, Record(self._number, sum(member.size for member in kept), kept)

    def close(self) -> None:
        """Forget all."""
        self._sorter.close()

    def _tar(self) -> Iterator[Member]:
        cursor = cursor_over(self._source, Format.TAR)
        for found in tar.walk(cursor):
            if not found.regular:
                self.left_out += found.header[-tar.BLOCK + 156] != ord("5") and not found.name.endswith("/")
                continue
            if found.end > self._source.size:
                raise BadArchive("unexpected EOF")
            own = tar.own_header(found.header)
            tar.check_numbers(own)  # it goes in between members of other shards
            yield Member(
                found.raw_name, found.size, found.data, found.data - len(own), found.end, 0,
                zips.UNREADABLE if found.sparse else zips.STORED, 0, 0 if found.sparse else tar.time_of(own),
            )  # fmt: skip
        if cursor.read(tar.BLOCK).strip(b"\0"):  # an archive ends with two blocks of zeros
            raise BadArchive("tar: a block of zeros stands before members that would be left out")

    def _zip(self) -> Iterator[Member]:
        total, most = 0, max(_ALWAYS_ALLOWED, _RATIO * self._source.size)
        for found in zips.walk(self._source):
            if not found.regular:
                self.left_out += not found.name.endswith("/")
                continue
            if found.method == zips.UNREADABLE:
                raise BadArchive(
                    f"member {found.name[:100]!r} is encrypted, or compressed by a method that is not supported"
                )
            if found.crc and not found.size:
                raise BadArchive(f"zip: checksum error in member {found.name[:100]!r}")
            if "\ufffd" in found.name:
                raise BadArchive(f"member {found.name[:100]!r} has a name that is not text")
            total += found.size
            if total > most:
                raise BadArchive(f"the archive of {self._source.size} bytes becomes more than {most} bytes")
            name = found.name.encode("utf-8", "surrogateescape")
            yield Member(name, found.size, found.local, 0, 0, found.packed, found.method, found.crc, found.mtime)


def _key(item: tuple[bytes, int, bytes]) -> bytes:
    return item[0]


def _check_name(name: bytes) -> None:
    """Raise `BadArchive` for a name that is none, or leads out of the archive (protocol/40 B4)."""
    if not name or len(name) > _NAME_MAX:
        raise BadArchive(f"a member's name has {len(name)} bytes (1 to {_NAME_MAX} are allowed)")
    if name.startswith(b"/") or b".." in name.split(b"/"):
        raise BadArchive(f"member {name[:100]!r} has a path that leads out of the archive")
