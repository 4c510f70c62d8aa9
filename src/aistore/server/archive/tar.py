"""Going through a TAR: headers, long names, and where the members' bytes lie (POSIX.1-2001 pax, GNU tar).

The standard library's `tarfile` reads headers of any size into memory and recurses over chains of them; here both are bounded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.server.archive.errors import BadArchive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.server.archive.source import Cursor

__all__ = ["BLOCK", "END", "TarMember", "check_numbers", "own_header", "padding", "time_of", "walk"]

BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)
"""What ends an archive."""

_ZEROS: Final = bytes(BLOCK)
_EXTENDED_MAX: Final = 1 << 20  # bytes of one extended header; what Go's reader takes
_EXTENDED_RUN: Final = 16  # extended headers before one member
_SIZE_MAX: Final = 1 << 62
_HEADER_ONLY: Final = frozenset(b"123456")
_REGULAR: Final = frozenset(b"0\x007S")
_EXTENDED: Final = frozenset(b"xgXLK")
_GLOBAL: Final = ord("g")
# Mode, owner, group, time, and the numbers of devices.
_UNUSED_NUMBERS: Final = ((100, 108), (108, 116), (116, 124), (136, 148), (329, 337), (337, 345))
# How nearly all archives have them, with what lies between.
_are_usual: Final = re.compile(rb"(?:[0-7]{7}\0){3}.{12}[0-7]{11}\0.{181}(?:[0-7]{7}\0|\0{8}){2}", re.DOTALL).fullmatch
_is_octal: Final = re.compile(rb"\s*[0-7]*\s*").fullmatch


class TarMember(NamedTuple):
    """One member; offsets are bytes of the (decompressed) archive."""

    name: str
    size: int
    data: int
    """Where its content begins."""
    header: bytes
    """Its header blocks as they are, extended ones included."""
    regular: bool
    sparse: bool
    """Whether the content has holes that only GNU tar can fill; `size` is then that with the holes."""
    end: int
    """Where the next header begins."""
    raw_name: bytes
    """The name as the archive has it, which need not be text."""


def padding(size: int) -> int:
    """Bytes that fill up the last block of content."""
    return -size % BLOCK


def time_of(header: bytes) -> int:
    """Unix seconds of a member that is not sparse, from its header blocks; 0 for what is no time."""
    try:
        return _number(header[-BLOCK + 136 : -BLOCK + 148])
    except BadArchive:
        return 0


def own_header(header: bytes) -> bytes:
    """Header blocks without those for the whole archive, which say nothing in another one. Raises `BadArchive` if they cannot be told apart."""
    at = 0
    while header[at + 156] == _GLOBAL:
        size = _number(header[at + 124 : at + 136])
        at += BLOCK + size + padding(size)
    own = header[at:]
    if any(own[i + 156] == _GLOBAL for i in _extended(own)):
        raise BadArchive("tar: a header for the whole archive stands between those of one member")
    return own


def check_numbers(header: bytes) -> None:
    """Raise `BadArchive` if a number in header blocks that nothing is done with here is none: other readers take that for the archive's end."""
    at = 0
    while True:
        for first, behind in () if _are_usual(header, at + 100, at + 345) else _UNUSED_NUMBERS:
            field = header[at + first : at + behind]
            if field[0] not in (0x80, 0xFF) and not _is_octal(field.partition(b"\0")[0]):
                raise BadArchive("tar: invalid header")
        if header[at + 156] not in _EXTENDED:
            return
        size = _number(header[at + 124 : at + 136])
        at += BLOCK + size + padding(size)


def _extended(header: bytes) -> Iterator[int]:
    """Where the extended headers of one member begin."""
    at = 0
    while header[at + 156] in _EXTENDED:
        yield at
        size = _number(header[at + 124 : at + 136])
        at += BLOCK + size + padding(size)


def walk(cursor: Cursor) -> Iterator[TarMember]:
    """The members in order. While one is looked at, its content may be read from the cursor. Raises `BadArchive`."""
    end = cursor.position
    while True:
        if end > cursor.position:
            cursor.skip(end - cursor.position)
        member = _next(cursor)
        if member is None:
            return
        end = member.end
        yield member


def _next(cursor: Cursor) -> TarMember | None:
    blocks: list[bytes] = []
    long_name = b""
    pax: dict[bytes, bytes] = {}
    for _ in range(_EXTENDED_RUN + 1):
        block = cursor.read(BLOCK)
        if not block or block == _ZEROS:
            if long_name or pax:
                raise BadArchive("unexpected EOF")
            return None
        if len(block) < BLOCK:
            raise BadArchive("unexpected EOF")
        _check(block)
        kind = block[156]
        if kind not in _EXTENDED:
            return _member(cursor, blocks, block, long_name, pax)
        size = _number(block[124:136])
        if size > _EXTENDED_MAX:
            raise BadArchive(f"tar: extended header of {size} bytes (at most {_EXTENDED_MAX})")
        content = cursor.read(size + padding(size))
        if len(content) < size:
            raise BadArchive("unexpected EOF")
        if kind == ord("L"):
            long_name = content[:size].rstrip(b"\0")
        elif kind in b"xX":
            pax = _records(content[:size])
        blocks += (block, content)  # those of the whole archive ("g") stay where they are
    raise BadArchive(f"tar: more than {_EXTENDED_RUN} extended headers before one member")


def _check(block: bytes) -> None:
    """Raise `BadArchive` if the header's checksum is wrong."""
    stated = _number(block[148:156])
    if sum(block) - sum(block[148:156]) + 256 != stated:
        signed = sum(b - 256 if b > 127 else b for b in block[:148] + block[156:]) + 256
        if signed != stated:
            raise BadArchive("tar: invalid header")


def _number(field: bytes) -> int:
    """A number field: octal digits, or GNU's base 256."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") - (0x80 << 8 * (len(field) - 1))
        if field[0] & 0x40 or value > _SIZE_MAX:
            raise BadArchive("tar: invalid header (a number is negative or too large)")
        return value
    text = field.strip(b" \0")
    if not text:
        return 0
    if not text.isdigit():
        raise BadArchive("tar: invalid header")
    try:
        return int(text, 8)
    except ValueError:
        raise BadArchive("tar: invalid header") from None


def _records(content: bytes) -> dict[bytes, bytes]:
    """The records of a pax header, `<length> <key>=<value>\\n` each."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(content):
        blank = content.find(b" ", at, at + 21)
        digits = content[at:blank]
        if blank < 0 or not digits.isdigit():
            raise BadArchive("tar: invalid pax header")
        end = at + int(digits)
        key, equals, value = content[blank + 1 : end - 1].partition(b"=")
        if end <= blank or end > len(content) or content[end - 1 : end] != b"\n" or not equals:
            raise BadArchive("tar: invalid pax header")
        found[key] = value
        at = end
    return found


def _member(cursor: Cursor, blocks: list[bytes], block: bytes, long_name: bytes, pax: dict[bytes, bytes]) -> TarMember:
    kind = block[156]
    stored = 0 if kind in _HEADER_ONLY else _pax_size(pax, b"size", _number(block[124:136]))
    name = pax.get(b"path") or long_name or _ustar_name(block)
    size = stored
    sparse = kind == ord("S")
    if sparse:
        size = _number(block[483:495])
        header = b"".join((*blocks, block, *_maps_of_holes(cursor, block[482])))
    else:
        header = b"".join((*blocks, block)) if blocks else block
        if any(key.startswith(b"GNU.sparse.") for key in pax):
            sparse = True
            name = pax.get(b"GNU.sparse.name") or name
            size = _pax_size(pax, b"GNU.sparse.realsize", _pax_size(pax, b"GNU.sparse.size", stored))
    text = name.decode("utf-8", "replace").partition("\0")[0]
    regular = kind in _REGULAR and not text.endswith("/")
    data = cursor.position
    return TarMember(
        text, size, data, header, regular, sparse, data + stored + padding(stored), name.partition(b"\0")[0]
    )


def _maps_of_holes(cursor: Cursor, extended: int) -> list[bytes]:
    """Further headers of an old GNU sparse member."""
    blocks: list[bytes] = []
    while extended:
        block = cursor.read(BLOCK)
        if len(block) < BLOCK:
            raise BadArchive("unexpected EOF")
        blocks.append(block)
        if len(blocks) * BLOCK > _EXTENDED_MAX:
            raise BadArchive(f"tar: a map of holes of more than {_EXTENDED_MAX} bytes")
        extended = block[504]
    return blocks


def _pax_size(pax: dict[bytes, bytes], key: bytes, default: int) -> int:
    value = pax.get(key)
    if value is None:
        return default
    if not value.isdigit() or len(value) > 18:
        raise BadArchive("tar: invalid pax header")
    return int(value)


def _ustar_name(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0":
        prefix = block[345:500].partition(b"\0")[0]
        if prefix:
            return prefix + b"/" + name
    return name
