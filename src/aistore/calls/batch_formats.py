"""The archive of a batch's answer, taken apart as it comes; no I/O.

The standard library's `tarfile` takes a tenth of a millisecond for an entry, most of it for what batches do not have.
"""

from __future__ import annotations

import json
import lzma
import struct
import tempfile
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, Final, Protocol

from aistore.sdk.batch.errors import MultipartDecodeError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from typing import TypeAlias

    Member: TypeAlias = tuple[str, bytes]

__all__ = ["Cut", "Decoder", "Multipart", "TarDecoder", "boundary_of", "new_decoder"]

_BLOCK: Final = 512
_ZEROS: Final = bytes(_BLOCK)
_header: Final = struct.Struct("100s24x11s21xB100x5sB82xB").unpack_from
"""Name, digits of the size, type, magic, version, whether there is a prefix: all at once, which takes half as long as one by one."""
_EXTENDED_MAX: Final = 1 << 20
_DIGITS_MAX: Final = 18  # of a size
_LARGE: Final = 64 * 1024
_REGULAR: Final = frozenset(b"0\0")
_WITHOUT_CONTENT: Final = frozenset(b"LKxg5")  # extended headers, and folders
_UNPACKED: Final = 1 << 20
_ZIP_IN_MEMORY: Final = 64 << 20
_METADATA_MAX: Final = 256 << 20
# How the standard library fails at a ZIP that is damaged.
_BAD_ZIP: Final = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError, ValueError, OverflowError, NotImplementedError,
)  # fmt: skip
_UNREADABLE: Final = "Failed to read {} archive stream: {}"


class Cut(Exception):
    """An archive ends before its end."""


class Decoder(Protocol):
    """Takes an archive apart. Raises `RuntimeError` for one that is damaged."""

    def feed(self, data: bytes) -> Iterable[Member]:
        """The members, name and content, that are complete with these bytes."""
        ...

    def finish(self) -> Iterable[Member]:
        """The members that are known only now that all bytes are here. Raises `Cut` if some are missing."""
        ...


def new_decoder(mime: str) -> Decoder:
    """A decoder for `.tar`, `.tgz`, `.tar.gz` or `.zip`."""
    if mime == ".zip":
        return _ZipDecoder()
    return TarDecoder() if mime == ".tar" else _TgzDecoder()


class TarDecoder:
    """Regular files of a TAR: ustar, PAX and GNU names and sizes.

    A `strict` one is for archives that come from anybody: headers are checked, and links, which have no content of their own, are refused.
    """

    def __init__(self, strict: bool = False) -> None:
        self._strict = strict
        self._parts: list[bytes] = []
        self._held = 0
        self._needed = _BLOCK
        self._ended = False
        self._name: bytes = b""
        self._size = -1
        # A large member whose content comes in pieces, which are put together once.
        self._large = ""
        self._missing = self._padding = 0

    def feed(self, data: bytes) -> Iterator[Member]:
        """The members that are complete with these bytes: go through all of them before there are more bytes.

        One by one, so that their memory is used again while it is in the processor's cache.
        """
        at = 0
        while at < len(data) and not self._ended:
            if self._missing:
                piece = data[at : at + self._missing]
                self._parts.append(piece)
                at += len(piece)
                self._missing -= len(piece)
                if not self._missing:
                    content, self._parts = b"".join(self._parts), []
                    yield self._large, content
                    del content
            elif self._padding:
                skipped = min(self._padding, len(data) - at)
                at += skipped
                self._padding -= skipped
            elif self._held:
                # Only what begins in bytes held back is put together: the rest is read where it is.
                piece = data[at : at + self._needed - self._held]
                at += len(piece)
                self._hold(piece)
                if self._held == self._needed:
                    start = b"".join(self._parts)
                    self._parts, self._held = [], 0
                    taken = yield from self._take(start, 0)
                    if taken < len(start):  # a header is complete, and its content is not
                        self._hold(start[taken:])
            else:
                at = yield from self._take(data, at)
                if at < len(data):
                    self._hold(data[at:])
                    return

    def _hold(self, data: bytes) -> None:
        self._parts.append(data)
        self._held += len(data)

    def _take(self, buffer: bytes, at: int) -> Generator[Member, None, int]:
        """The members in `buffer` from `at` on; returns where the first one that is not complete begins."""
        end = len(buffer)
        while end - at >= _BLOCK:
            field, digits, kind, magic, version, prefix = _header(buffer, at)
            if not field[0] and buffer[at : at + _BLOCK] == _ZEROS:
                self._ended = True
                return end
            if magic != b"ustar":
                raise RuntimeError(_UNREADABLE.format("tar", "invalid header"))
            if self._strict and not _is_sound(buffer[at : at + _BLOCK]):
                raise RuntimeError(_UNREADABLE.format("tar", "a header is not what its checksum says"))
            try:
                size = int(digits, 8)
            except ValueError:
                size = _number(buffer[at + 124 : at + 136])
            if size < 0:  # would lead back
                raise RuntimeError(_UNREADABLE.format("tar", "invalid header"))
            regular = kind in _REGULAR
            if regular and self._size >= 0:
                size = self._size
            content = at + _BLOCK
            over = content + size
            stop = over + (-size % _BLOCK)
            if not regular and size > _EXTENDED_MAX:
                raise RuntimeError(_UNREADABLE.format("tar", "an extended header is too long"))
            if stop > end and not (regular and size > _LARGE):
                self._needed = stop - at
                return at
            if regular:
                raw = self._name
                if raw:
                    self._name = b""
                elif prefix and not version:
                    raw = _long_name(buffer, at)
                else:
                    raw = field.rstrip(b"\0")
                name = raw.decode("utf-8", "replace")
                self._size = -1
                if stop > end:
                    self._needed = _BLOCK
                    self._padding = stop - max(over, end)
                    if over > end:
                        self._large, self._parts = name, [buffer[content:]]
                        self._missing = over - end
                    else:
                        yield name, buffer[content:over]
                    return end
                yield name, buffer[content:over]
            else:
                self._extended(kind, buffer[content:over])
            at = stop
        self._needed = _BLOCK
        return at

    def _extended(self, kind: int, content: bytes) -> None:
        if self._strict and kind not in _WITHOUT_CONTENT:
            raise RuntimeError(_UNREADABLE.format("tar", f"a member is a link, or special (type {chr(kind)!r})"))
        if kind == ord("L"):
            self._name = content.rstrip(b"\0")
        elif kind == ord("x"):
            for key, value in _records(content):
                if key == b"path":
                    self._name = value
                elif key == b"size" and value.isdigit() and len(value) <= _DIGITS_MAX:
                    self._size = int(value)

    def finish(self) -> list[Member]:
        """Nothing more."""
        if not self._ended:
            raise Cut("the archive has no end")
        return []


def _long_name(buffer: bytes, at: int) -> bytes:
    return buffer[at + 345 : at + 500].rstrip(b"\0") + b"/" + buffer[at : at + 100].rstrip(b"\0")


def _is_sound(header: bytes) -> bool:
    return sum(header) - sum(header[148:156]) + 8 * ord(" ") == _number(header[148:156])


def _number(field: bytes) -> int:
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.strip(b" \0")
    try:
        return int(text, 8) if text else 0
    except ValueError:
        raise RuntimeError(_UNREADABLE.format("tar", "invalid header")) from None


def _records(content: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    at = 0
    while at < len(content):
        digits, _, _ = content[at : at + 21].partition(b" ")
        if not digits.isdigit() or int(digits) <= len(digits):
            raise RuntimeError(_UNREADABLE.format("tar", "invalid extended header"))
        record = content[at + len(digits) + 1 : at + int(digits) - 1]
        key, _, value = record.partition(b"=")
        found.append((key, value))
        at += int(digits)
    return found


class _TgzDecoder:
    def __init__(self) -> None:
        self._tar = TarDecoder()
        self._gzip = zlib.decompressobj(31)

    def feed(self, data: bytes) -> Iterator[Member]:
        while data:  # a piece of zeros may become a thousand times as much
            try:
                unpacked = self._gzip.decompress(data, _UNPACKED)
            except zlib.error as error:
                raise RuntimeError(_UNREADABLE.format("tar", error)) from error
            data = self._gzip.unconsumed_tail
            yield from self._tar.feed(unpacked)

    def finish(self) -> list[Member]:
        if not self._gzip.eof:
            raise Cut("the compressed archive has no end")
        return self._tar.finish()


class _ZipDecoder:
    """A ZIP has its directory at its end: nothing is known before."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_ZIP_IN_MEMORY)  # noqa: SIM115 (closed by finish, or with this object)

    def feed(self, data: bytes) -> list[Member]:
        self._file.write(data)
        return []

    def finish(self) -> Iterable[Member]:
        with self._file as file:
            try:
                archive = zipfile.ZipFile(file)
            except zipfile.BadZipFile as error:
                raise Cut(str(error)) from error
            except _BAD_ZIP as error:
                raise RuntimeError(_UNREADABLE.format("zip", error)) from error
            for info in archive.infolist():
                try:  # by entry, since names need not be unique
                    content = archive.read(info)
                except _BAD_ZIP as error:
                    raise RuntimeError(_UNREADABLE.format("zip", error)) from error
                yield info.filename, content


def boundary_of(content_type: str) -> bytes:
    """The boundary that a multipart document's type names, quoted or not. Raises `MultipartDecodeError`."""
    kind, _, rest = content_type.partition(";")
    if kind.strip().lower().startswith("multipart/"):
        for parameter in rest.split(";"):
            name, _, value = parameter.strip().partition("=")
            if name.lower() == "boundary" and value.strip('"'):
                return value.strip('"').encode()
    raise MultipartDecodeError(f"expected a multipart answer with a boundary, not {content_type!r}")


class Multipart:
    """Splits a buffered answer into its metadata and the bytes of the archive (protocol/40 A6)."""

    def __init__(self, content_type: str) -> None:
        self._delimiter = b"\r\n--" + boundary_of(content_type)
        self._buffer = b"\r\n"  # the first delimiter has no line end before it
        self._in_archive = self.ended = False
        self.metadata: dict[str, Any] | None = None

    def feed(self, data: bytes) -> bytes:
        """The bytes of the archive that are in these; its end is held back until it is sure. Raises `MultipartDecodeError`."""
        self._buffer += data
        if not self._in_archive and not self._find_archive():
            return b""
        if self.ended:
            return b""
        at = self._buffer.find(self._delimiter)
        if at >= 0:
            self.ended = True
            found, self._buffer = self._buffer[:at], b""
            return found
        sure = max(0, len(self._buffer) - len(self._delimiter))
        found, self._buffer = self._buffer[:sure], self._buffer[sure:]
        return found

    def _find_archive(self) -> bool:
        parts = self._buffer.split(self._delimiter, 2)
        if len(parts) < 3 or b"\r\n\r\n" not in parts[2]:
            if len(self._buffer) > _METADATA_MAX:
                raise MultipartDecodeError("the metadata of an answer has no end")
            return False
        head, _, document = parts[1].partition(b"\r\n\r\n")
        second, _, archive = parts[2].partition(b"\r\n\r\n")
        if b'name="metadata"' not in head or b'name="archive"' not in second:
            raise MultipartDecodeError("the parts of an answer are not metadata and archive")
        try:
            metadata = json.loads(document)
        except (ValueError, RecursionError) as error:
            raise MultipartDecodeError(f"the metadata of an answer is no JSON: {error}") from error
        if not isinstance(metadata, dict) or not isinstance(metadata.get("out"), list):
            raise MultipartDecodeError("the metadata of an answer has no records")
        self.metadata = metadata
        self._buffer = archive
        self._in_archive = True
        return True
