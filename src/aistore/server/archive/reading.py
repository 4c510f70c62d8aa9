"""Content of members, piece by piece (blocking: in threads)."""

from __future__ import annotations

from tarfile import PAX_FORMAT, TarInfo
from typing import TYPE_CHECKING, Final

from aistore.server.archive import tar
from aistore.server.archive import zip as zips
from aistore.server.archive.errors import BadArchive
from aistore.server.archive.formats import Format
from aistore.server.archive.source import cursor_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aistore.server.archive.index import Member
    from aistore.server.archive.source import Cursor, Source

__all__ = ["content_of", "gather", "in_one_piece", "selected", "tar_header", "tar_members"]

_PIECE: Final = 256 * 1024


def tar_header(name: str, size: int, mtime: int) -> bytes:
    """The header blocks of a regular file, USTAR or, where that has no room, PAX. `mtime` is Unix seconds."""
    info = TarInfo(name)
    info.size, info.mtime = size, mtime
    return info.tobuf(PAX_FORMAT)


def in_one_piece(source: Source, form: Format, member: Member) -> int:
    """Where in the source the content lies as it is, or -1 if it has to be decompressed. Raises `BadArchive`."""
    if member.method == zips.UNREADABLE:
        raise BadArchive(
            f"member {member.name[:100]!r} is sparse, encrypted, or compressed by a method that is not supported"
        )
    if form is Format.TAR:
        return member.offset
    if form is Format.ZIP and member.method == zips.STORED:
        offset = zips.content_offset(source, member.offset)
        if offset + member.size > source.size:
            raise BadArchive("zip: unexpected EOF")
        return offset
    return -1


def content_of(source: Source, form: Format, member: Member) -> Iterator[bytes]:
    """The content of a member that is compressed. Raises `BadArchive`."""
    if form is Format.ZIP:
        offset = zips.content_offset(source, member.offset)
        return zips.inflate(source, offset, member.packed, member.size, member.crc)
    cursor = cursor_over(source, form)
    cursor.skip(member.offset)
    return _pieces(cursor, member.size)


def _pieces(cursor: Cursor, count: int) -> Iterator[bytes]:
    while count:
        piece = cursor.read(min(_PIECE, count))
        if not piece:
            raise BadArchive("unexpected EOF")
        count -= len(piece)
        yield piece


def selected(source: Source, form: Format, matches: Callable[[str], bool]) -> Iterator[bytes]:
    """A TAR of the regular members that match, with their headers, in the archive's order; nothing if there are none."""
    members = _zip_members(source, matches) if form is Format.ZIP else tar_members(source, form, matches)
    found = False
    for piece in members:
        found = True
        yield piece
    if found:
        yield tar.END


def tar_members(source: Source, form: Format, matches: Callable[[str], bool] | None = None) -> Iterator[bytes]:
    """The members that match as they are in a TAR, header, content and padding; without `matches` all, of whatever type."""
    cursor = cursor_over(source, form)
    for member in tar.walk(cursor):
        if matches is None or (member.regular and matches(member.name)):
            yield member.header
            yield from _pieces(cursor, member.end - member.data)


def _zip_members(source: Source, matches: Callable[[str], bool]) -> Iterator[bytes]:
    for entry in zips.walk(source):
        if not entry.regular or not matches(entry.name):
            continue
        if entry.method == zips.UNREADABLE:
            raise BadArchive(
                f"member {entry.name[:100]!r} is encrypted, or compressed by a method that is not supported"
            )
        offset = zips.content_offset(source, entry.local)
        yield tar_header(entry.name, entry.size, entry.mtime)
        if entry.method == zips.DEFLATED:
            yield from zips.inflate(source, offset, entry.packed, entry.size, entry.crc)
        else:
            for at in range(offset, offset + entry.size, _PIECE):
                piece = source.read_at(at, min(_PIECE, offset + entry.size - at))
                if not piece:
                    raise BadArchive("zip: unexpected EOF")
                yield piece
        yield bytes(tar.padding(entry.size))


def gather(pieces: Iterator[bytes]) -> bytes:
    """The next pieces together: a useful amount for one hop between threads; empty at the end."""
    first = next(pieces, b"")
    if len(first) >= _PIECE // 2:
        return first
    parts, size = [first], len(first)
    for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size >= _PIECE:
            break
    return b"".join(parts)
