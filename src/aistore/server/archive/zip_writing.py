"""Writing ZIP archives front to back (APPNOTE 6.3). Members are stored as they are."""

from __future__ import annotations

import struct
import time
import zlib
from typing import TYPE_CHECKING, Final, Protocol

from aistore.server.archive import zip as zips
from aistore.server.archive.errors import BadArchive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.server.archive.source import Source
    from aistore.server.archive.writing import NewMember, TarSpan

__all__ = ["ZipStream", "ZipWriter"]

_LOCAL: Final = struct.Struct("<4s5H3L2H")
_ENTRY: Final = struct.Struct("<4s4B4H3L5H2L")
_END: Final = struct.Struct("<4s4H2LH")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_END64_LOCATOR: Final = struct.Struct("<4sLQL")
_ALL_ONES: Final = 0xFFFFFFFF
_PIECE: Final = 256 * 1024
_FOLLOWS: Final = 8  # checksum and sizes come behind the content
_UTF8: Final = 0x800
_FIRST_TIME: Final = 315532800  # 1980-01-01
_END_OF_TIME: Final = 4354819200  # 2108-01-01
_REGULAR_0644: Final = 0o100644 << 16
_DIRECTORY_MAX: Final = 256 << 20  # bytes; it is in memory while the archive is written


class Sink(Protocol):
    """Where an archive goes."""

    @property
    def position(self) -> int:
        """Bytes written so far."""
        ...

    def write(self, data: bytes) -> None:
        """Append."""
        ...

    def flush(self) -> None:
        """Write what is held back."""
        ...


class ZipWriter:
    """Writes one archive from start to end."""

    def __init__(self, out: Sink) -> None:
        self._out = out
        self._directory = bytearray()
        self._members = 0
        self._shift = 0

    def carry_over(self, source: Source) -> Iterator[int]:
        """Begin with all members of an archive: its bytes as they are, up to its directory, which is kept. Raises `BadArchive`."""
        for _ in zips.walk(source):
            self._members += 1
        old = zips.find_directory(source)
        self._shift = old.shift
        for at in range(0, old.offset, _PIECE):
            piece = source.read_at(at, min(_PIECE, old.offset - at))
            self._out.write(piece)
            yield len(piece)
        self._check_directory(old.size)
        self._directory += source.read_at(old.offset, old.size)

    def add(self, member: NewMember) -> Iterator[int]:
        """Append a member."""
        source, name = member.source, member.name.encode()
        size, start = source.size, self._out.position - self._shift
        flags = 0 if member.name.isascii() else _UTF8
        date, clock = _dos_time(member.mtime)
        first = source.read_at(0, _PIECE)
        crc = zlib.crc32(first)
        large = size >= _ALL_ONES
        known = size == len(first)
        shown, extra = size, b""
        if not known:
            flags |= _FOLLOWS
            shown = _ALL_ONES if large else 0
            extra = struct.pack("<2H2Q", 1, 16, 0, 0) if large else b""
        version = 45 if large else 20
        self._out.write(
            _LOCAL.pack(
                b"PK\3\4",
                version,
                flags,
                zips.STORED,
                clock,
                date,
                crc if known else 0,
                shown,
                shown,
                len(name),
                len(extra),
            )
            + name
            + extra
        )
        self._out.write(first)
        yield len(first) + _LOCAL.size + len(name)
        for at in range(len(first), size, _PIECE):
            piece = source.read_at(at, min(_PIECE, size - at))
            if not piece:
                raise OSError(f"content ends {size - at} bytes early")
            crc = zlib.crc32(piece, crc)
            self._out.write(piece)
            yield len(piece)
        if not known:
            self._out.write(struct.pack("<4sL2Q" if large else "<4s3L", b"PK\7\x08", crc, size, size))
        self.note(name, flags, (date, clock), crc, size, start)

    def splice(self, span: TarSpan) -> Iterator[int]:
        """Members of a TAR do not go into a ZIP as they are. Raises `BadArchive`."""
        raise BadArchive(f"zip: {span.size} bytes of a TAR do not belong here")

    def note(self, name: bytes, flags: int, when: tuple[int, int], crc: int, size: int, start: int) -> None:
        """Put a member into the directory."""
        extra = b""
        shown_size, shown_start = min(size, _ALL_ONES), min(start, _ALL_ONES)
        if shown_size == _ALL_ONES:
            extra = struct.pack("<2Q", size, size)
        if shown_start == _ALL_ONES:
            extra += struct.pack("<Q", start)
        if extra:
            extra = struct.pack("<2H", 1, len(extra)) + extra
        version = 45 if extra else 20
        comment = name[:0xFFFF]
        entry = (
            _ENTRY.pack(
                b"PK\1\2", version, 3, version, 0, flags, zips.STORED, when[1], when[0], crc, shown_size, shown_size,
                len(name), len(extra), len(comment), 0, 0, _REGULAR_0644, shown_start,
            )
            + name
            + extra
            + comment
        )  # fmt: skip
        self._check_directory(len(entry))
        self._directory += entry
        self._members += 1

    def _check_directory(self, more: int) -> None:
        if len(self._directory) + more > _DIRECTORY_MAX:
            raise BadArchive(f"zip: too many members (their directory may have {_DIRECTORY_MAX} bytes): make a TAR")

    def finish(self) -> None:
        """Write the directory, and what tells where it is."""
        start = self._out.position - self._shift
        size = len(self._directory)
        self._out.write(bytes(self._directory))
        members = self._members
        if members >= 0xFFFF or size >= _ALL_ONES or start >= _ALL_ONES:
            self._out.write(
                _END64.pack(b"PK\6\6", _END64.size - 12, 45, 45, 0, 0, members, members, size, start)
                + _END64_LOCATOR.pack(b"PK\6\7", 0, start + size + self._shift, 1)
            )
        count = min(members, 0xFFFF)
        self._out.write(_END.pack(b"PK\5\6", 0, 0, count, count, min(size, _ALL_ONES), min(start, _ALL_ONES), 0))
        self._out.flush()


class _Pieces:
    def __init__(self) -> None:
        self.position = 0
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.position += len(data)
        self.written.append(data)

    def flush(self) -> None:
        """Nothing is held back."""


class ZipStream:
    """An archive in pieces: checksums and sizes come behind the content of each entry (see `streaming.ArchiveStream`)."""

    def __init__(self) -> None:
        self._out = _Pieces()
        self._writer = ZipWriter(self._out)
        self._begun = (b"", 0, (0, 0), 0)
        self._size = self._crc = 0

    def begin(self, name: str, size: int, mtime: int) -> bytes:
        """The local header of an entry; one of 4 GiB or more is announced as such."""
        raw = name.encode()
        flags = _FOLLOWS | (0 if name.isascii() else _UTF8)
        when = _dos_time(mtime)
        large = size >= _ALL_ONES
        extra = struct.pack("<2H2Q", 1, 16, 0, 0) if large else b""
        shown = _ALL_ONES if large else 0
        self._begun = raw, flags, when, self._out.position
        self._size, self._crc = size, 0
        version = 45 if large else 20
        return self._passed(
            _LOCAL.pack(b"PK\3\4", version, flags, zips.STORED, when[1], when[0], 0, shown, shown, len(raw), len(extra))
            + raw
            + extra
        )

    def data(self, piece: bytes) -> bytes:
        """A piece of its content."""
        self._crc = zlib.crc32(piece, self._crc)
        return self._passed(piece)

    def end(self) -> bytes:
        """Its data descriptor."""
        large = self._size >= _ALL_ONES
        name, flags, when, start = self._begun
        self._writer.note(name, flags, when, self._crc, self._size, start)
        return self._passed(struct.pack("<4sL2Q" if large else "<4s3L", b"PK\7\x08", self._crc, self._size, self._size))

    def whole(self, name: str, data: bytes, mtime: int) -> tuple[bytes, ...]:
        """A file whose content is here."""
        return self.begin(name, len(data), mtime), self.data(data), self.end()

    def finish(self) -> bytes:
        """The directory."""
        self._writer.finish()
        return b"".join(self._out.written)

    def _passed(self, data: bytes) -> bytes:
        self._out.position += len(data)
        return data


def _dos_time(mtime: int) -> tuple[int, int]:
    """Date and time as archives have them, without a zone: UTC here."""
    year, month, day, hour, minute, second = 1980, 1, 1, 0, 0, 0
    if _FIRST_TIME <= mtime < _END_OF_TIME:  # beyond, the system may not even know the year
        year, month, day, hour, minute, second = time.gmtime(mtime)[:6]
    return (year - 1980) << 9 | month << 5 | day, hour << 11 | minute << 5 | second // 2
