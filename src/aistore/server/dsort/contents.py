"""Content of members, on its way into a new shard or as a key (blocking: in threads)."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from aistore.server.archive import zip as zips
from aistore.server.archive.errors import BadArchive
from aistore.server.archive.formats import Format
from aistore.server.archive.writing import NewMember, TarSpan
from aistore.server.dsort.keys import KEY_MAX
from aistore.server.dsort.shards import Part, Pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.server.archive.source import Source
    from aistore.server.dsort.records import Member, Record
    from aistore.server.dsort.shards import KeptShard

__all__ = ["key_content", "new_members", "spans"]

_PIECE: Final = 256 << 10


def key_content(source: Source, form: Format, member: Member) -> bytes:
    """The content of a member that is a key. Raises `BadArchive`."""
    if member.size > KEY_MAX or member.method == zips.UNREADABLE:
        raise BadArchive(f"member {member.name[:100]!r} is no key: it has {member.size} bytes (at most {KEY_MAX})")
    if form is Format.ZIP:
        return b"".join(_of_zip(source, member))
    return source.read_at(member.offset, member.size)


def spans(shard: KeptShard, fd: int, record: Record) -> Iterator[TarSpan]:
    """Where the members of a record lie in a TAR, those together that lie one behind the other."""
    start, end = record.members[0].start, record.members[0].end
    for member in record.members[1:]:
        if member.start != end:
            yield TarSpan(fd, shard.base + start, end - start)
            start = member.start
        end = member.end
    yield TarSpan(fd, shard.base + start, end - start)


def new_members(shard: KeptShard, fd: int, record: Record) -> Iterator[NewMember]:
    """The members of a record, to be written one after the other. Raises `BadArchive`."""
    whole = Part(fd, shard.base, shard.size)
    for member in record.members:
        name = _text(member.name)
        if member.method == zips.UNREADABLE:
            raise BadArchive(f"member {name[:100]!r} is sparse, which a ZIP cannot hold")
        content: Source = Part(fd, shard.base + member.offset, member.size)
        if shard.form is Format.ZIP:
            content = Pieces(_of_zip(whole, member), member.size)
        yield NewMember(name, member.mtime, content)


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise BadArchive(f"member {name[:100]!r} has a name that is not text, which a ZIP cannot hold") from None


def _of_zip(source: Source, member: Member) -> Iterator[bytes]:
    offset = zips.content_offset(source, member.offset)
    if member.method == zips.DEFLATED:
        yield from zips.inflate(source, offset, member.packed, member.size, member.crc)
        return
    computed, end = 0, offset + member.size
    while offset < end:
        piece = source.read_at(offset, min(_PIECE, end - offset))
        if not piece:
            raise BadArchive("zip: unexpected EOF")
        computed = zlib.crc32(piece, computed)
        offset += len(piece)
        yield piece
    if computed != member.crc:
        raise BadArchive(f"zip: checksum error in member {member.name[:100]!r}")
