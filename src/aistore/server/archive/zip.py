"""Going through a ZIP: its central directory, read piece by piece, and where the members' bytes lie (APPNOTE 6.3, 4.3-4.5).

The standard library's `zipfile` holds the whole directory in memory, as objects; what a hostile archive says about its size is bounded here.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.server.archive.errors import BadArchive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.server.archive.source import Source

__all__ = ["DEFLATED", "STORED", "ZipDirectory", "ZipMember", "content_offset", "find_directory", "inflate", "walk"]

STORED: Final = 0
DEFLATED: Final = 8
UNREADABLE: Final = 255
"""Encrypted, or compressed by a method that is not supported."""

_END: Final = struct.Struct("<4s4H2LH")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_END64_LOCATOR: Final = struct.Struct("<4sLQL")
_ENTRY: Final = struct.Struct("<4s4B4H3L5H2L")
_LOCAL: Final = struct.Struct("<4s2B4H3L2H")
_ALL_ONES: Final = 0xFFFFFFFF
_COMMENT_MAX: Final = 0xFFFF
_WINDOW: Final = 256 * 1024
_PIECE: Final = 256 * 1024
_ENCRYPTED: Final = 1
_UTF8: Final = 0x800
# What a member may become: beyond this, 1,100 times what it takes (DEFLATE's limit is near 1,032).
_ALWAYS_ALLOWED: Final = 1 << 20
_RATIO: Final = 1100


class ZipDirectory(NamedTuple):
    """Where the central directory lies; `shift` is what comes before the archive, whose offsets do not count it."""

    offset: int
    size: int
    members: int
    shift: int


class ZipMember(NamedTuple):
    """One entry of the directory."""

    name: str
    size: int
    packed: int
    """Bytes that the content takes in the archive."""
    method: int
    """`STORED`, `DEFLATED` or `UNREADABLE`."""
    local: int
    """Where its local header lies."""
    crc: int
    mtime: int
    """Unix seconds; the archive tells local time without a zone, which is taken for UTC."""
    regular: bool


def find_directory(source: Source) -> ZipDirectory:
    """Find the central directory at the end of the archive. Raises `BadArchive`."""
    start = max(0, source.size - _END.size - _COMMENT_MAX)
    tail = source.read_at(start, source.size - start)
    at = _find_end(tail)
    _, disk, first_disk, _, members, size, offset, _ = _END.unpack_from(tail, at)
    end = start + at
    locator = source.read_at(end - _END64_LOCATOR.size, _END64_LOCATOR.size) if end >= _END64_LOCATOR.size else b""
    if locator.startswith(b"PK\6\7"):
        end64 = _END64_LOCATOR.unpack(locator)[2]
        record = source.read_at(end64, _END64.size)
        if len(record) < _END64.size or not record.startswith(b"PK\6\6"):
            raise BadArchive("zip: not a valid zip file")
        _, _, _, _, disk, first_disk, _, members, size, offset = _END64.unpack(record)
        end = end64
    shift = end - size - offset
    if disk or first_disk or shift < 0 or members > size // 46:
        raise BadArchive("zip: not a valid zip file")
    return ZipDirectory(offset + shift, size, members, shift)


def _find_end(tail: bytes) -> int:
    """Where the record that ends an archive begins: the last one that reaches to the end, since a comment may look like one."""
    at = len(tail) - _END.size + 4
    while (at := tail.rfind(b"PK\5\6", 0, max(at, 0))) >= 0:
        if at + _END.size + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail):
            return at
        at += 3
    raise BadArchive("zip: not a valid zip file")


def walk(source: Source) -> Iterator[ZipMember]:
    """The entries of the central directory in order. Raises `BadArchive`."""
    directory = find_directory(source)
    at, end = directory.offset, directory.offset + directory.size
    window, begin = b"", at
    for _ in range(directory.members):
        if at + _ENTRY.size + 3 * 0xFFFF > begin + len(window) < end:
            begin = at
            window = source.read_at(begin, min(_WINDOW, end - begin))
        member, at = _entry(window, at - begin, directory.shift, begin)
        if member.local >= source.size:
            raise BadArchive(f"zip: member {member.name[:100]!r} lies outside of the archive")
        yield member


def _entry(window: bytes, at: int, shift: int, begin: int) -> tuple[ZipMember, int]:
    if at + _ENTRY.size > len(window) or window[at : at + 4] != b"PK\1\2":
        raise BadArchive("zip: not a valid zip file")
    (
        _, _, _, _, _, flags, method, time, date, crc, packed, size, name_length, extra_length, comment_length,
        _, _, attributes, local,
    ) = _ENTRY.unpack_from(window, at)  # fmt: skip
    at += _ENTRY.size
    raw = window[at : at + name_length]
    extra = window[at + name_length : at + name_length + extra_length]
    if len(raw) < name_length or len(extra) < extra_length:
        raise BadArchive("zip: not a valid zip file")
    size, packed, local = _zip64(extra, size, packed, local)
    if flags & _ENCRYPTED or method not in (STORED, DEFLATED) or (method == STORED and size != packed):
        method = UNREADABLE
    elif size > max(_ALWAYS_ALLOWED, packed * _RATIO):
        raise BadArchive(f"zip: a member of {packed} bytes claims to become {size} bytes")
    name = raw.decode("utf-8" if flags & _UTF8 else "cp437", "replace").partition("\0")[0]
    # Unix puts the type of the file into the upper half: links are none that can be read.
    kind = attributes >> 28
    regular = not name.endswith("/") and kind in (0, 8)
    member = ZipMember(name, size, packed, method, local + shift, crc, _unix_time(date, time), regular)
    return member, begin + at + name_length + extra_length + comment_length


def _zip64(extra: bytes, size: int, packed: int, local: int) -> tuple[int, int, int]:
    """The numbers that did not fit into 32 bits, from the extra field."""
    if _ALL_ONES not in (size, packed, local):
        return size, packed, local
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<2H", extra, at)
        if tag == 1:
            field = extra[at + 4 : at + 4 + length]
            values = [size, packed, local]
            for i, value in enumerate(values):
                if value == _ALL_ONES:
                    if len(field) < 8:
                        raise BadArchive("zip: not a valid zip file")
                    values[i] = int.from_bytes(field[:8], "little")
                    field = field[8:]
            return values[0], values[1], values[2]
        at += 4 + length
    return size, packed, local


def _unix_time(date: int, time: int) -> int:
    from calendar import timegm

    try:
        return timegm(
            (1980 + (date >> 9), date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63, 2 * (time & 31), 0, 0, 0)
        )
    except ValueError:
        return 0


def content_offset(source: Source, local: int) -> int:
    """Where the content behind a local header begins. Raises `BadArchive`."""
    header = source.read_at(local, _LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
        raise BadArchive("zip: not a valid zip file")
    name_length, extra_length = _LOCAL.unpack(header)[-2:]
    offset: int = local + _LOCAL.size + name_length + extra_length
    return offset


def inflate(source: Source, offset: int, packed: int, size: int, crc: int) -> Iterator[bytes]:
    """A member's content, decompressed piece by piece. Raises `BadArchive` if it has not this size and checksum."""
    decoder = zlib.decompressobj(-15)
    end, made, computed = offset + packed, 0, 0
    try:
        while not decoder.eof:
            data = decoder.unconsumed_tail
            if not data:
                data = source.read_at(offset, min(_PIECE, end - offset))
                offset += len(data)
            piece = decoder.decompress(data, _PIECE)
            if not data and not piece:
                raise BadArchive("zip: unexpected EOF")
            made += len(piece)
            if made > size:
                break
            computed = zlib.crc32(piece, computed)
            if piece:
                yield piece
    except zlib.error as error:
        raise BadArchive(f"zip: {error}") from error
    if made != size:
        raise BadArchive(f"zip: a member is not {size} bytes long as the directory says")
    if computed != crc:
        raise BadArchive("zip: checksum error")
