"""Writing archives (blocking: in threads). Whatever writes yields the number of bytes it wrote, so that it can be stopped between.

TAR as USTAR or PAX, ZIP without compression, whose members have their name as comment, TGZ at the fastest level, LZ4 frames of 256 KiB
blocks (protocol/10 23.6).
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from aistore.server.archive import tar
from aistore.server.archive.errors import BadArchive
from aistore.server.archive.formats import Format
from aistore.server.archive.reading import tar_header, tar_members
from aistore.server.archive.source import FileSource, cursor_over
from aistore.server.archive.zip_writing import ZipWriter
from aistore.wire.checksum import new_hasher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aistore.server.archive.source import Source
    from aistore.server.store.content import Upload

__all__ = ["ArchiveWriter", "NewMember", "Output", "TarSpan", "new_writer"]

_BUFFER: Final = 1 << 20
_PIECE: Final = 256 * 1024


class NewMember(NamedTuple):
    """A regular file that becomes a member; `mtime` is Unix seconds."""

    name: str
    mtime: int
    source: Source


class TarSpan(NamedTuple):
    """Members as they lie in a TAR, with headers and padding; they go into a TAR as they are."""

    fd: int
    offset: int
    size: int


class Output:
    """Where an archive goes: through one buffer into an upload, with a checksum of type `kind` on the way."""

    def __init__(self, upload: Upload, kind: str) -> None:
        self._upload = upload
        self._hasher = new_hasher(kind)
        self._buffer = memoryview(bytearray(_BUFFER))
        self._filled = 0

    @property
    def position(self) -> int:
        """Bytes written so far."""
        return self._upload.size + self._filled

    def write(self, data: bytes) -> None:
        """Append."""
        if len(data) > _BUFFER - self._filled:
            self.flush()
            if len(data) >= _BUFFER:
                self._write(memoryview(data))
                return
        self._buffer[self._filled : self._filled + len(data)] = data
        self._filled += len(data)

    def write_file(self, fd: int, offset: int, count: int) -> Iterator[int]:
        """Append a part of a file, read straight into the buffer. Raises `OSError` if the file ends before."""
        while count:
            if self._filled == _BUFFER:
                self.flush()
            room = self._buffer[self._filled : self._filled + count]
            n = os.preadv(fd, [room], offset)
            if not n:
                raise OSError(f"content file ends {count} bytes early")
            self._filled += n
            offset += n
            count -= n
            yield n

    def flush(self) -> None:
        """Write what is in the buffer."""
        if self._filled:
            filled, self._filled = self._filled, 0
            self._write(self._buffer[:filled])

    def _write(self, view: memoryview) -> None:
        if self._hasher is not None:
            self._hasher.update(view)
        self._upload.write(view)

    def checksum(self) -> str:
        """Value of the checksum of all that was written; empty for type `none`."""
        return self._hasher.hexdigest() if self._hasher is not None else ""


class ArchiveWriter(Protocol):
    """Writes one archive from start to end."""

    def carry_over(self, source: Source) -> Iterator[int]:
        """Begin with all members of an archive of the same format. Raises `BadArchive`."""
        ...

    def add(self, member: NewMember) -> Iterator[int]:
        """Append a member."""
        ...

    def splice(self, span: TarSpan) -> Iterator[int]:
        """Append members as they are. Raises `BadArchive` if the format is not TAR, compressed or not."""
        ...

    def finish(self) -> None:
        """Write what ends the archive."""
        ...


def new_writer(form: Format, out: Output) -> ArchiveWriter:
    """A writer of this format."""
    if form is Format.ZIP:
        return ZipWriter(out)
    if form is Format.TAR:
        return _TarWriter(out)
    return _CompressedTarWriter(out, form)


class _TarWriter:
    def __init__(self, out: Output) -> None:
        self._out = out

    def carry_over(self, source: Source) -> Iterator[int]:
        end = 0
        for member in tar.walk(cursor_over(source, Format.TAR)):
            end = member.end
        if end > source.size:
            raise BadArchive("unexpected EOF")
        yield from _copy(self._out, source, end)

    def add(self, member: NewMember) -> Iterator[int]:
        source = member.source
        header = tar_header(member.name, source.size, member.mtime)
        self._out.write(header)
        yield from _copy(self._out, source, source.size)
        self._out.write(bytes(tar.padding(source.size)))
        yield len(header)

    def splice(self, span: TarSpan) -> Iterator[int]:
        yield from self._out.write_file(span.fd, span.offset, span.size)

    def finish(self) -> None:
        self._out.write(tar.END)
        self._out.flush()


def _copy(out: Output, source: Source, count: int) -> Iterator[int]:
    if isinstance(source, FileSource):
        yield from out.write_file(source.fd, 0, count)
        return
    for piece in _pieces(source, count):
        out.write(piece)
        yield len(piece)


def _pieces(source: Source, count: int) -> Iterator[bytes]:
    at = 0
    while at < count:
        piece = source.read_at(at, min(_PIECE, count - at))
        if not piece:
            raise OSError(f"content ends {count - at} bytes early")
        at += len(piece)
        yield piece


class _Compressor(Protocol):
    def compress(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes: ...


class _Lz4Compressor(_Compressor, Protocol):
    def begin(self) -> bytes: ...


class _CompressedTarWriter:
    def __init__(self, out: Output, form: Format) -> None:
        self._out = out
        self._form = form
        self._compressor: _Compressor
        if form is Format.TGZ:
            self._compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
        else:
            from lz4.frame import BLOCKSIZE_MAX256KB, LZ4FrameCompressor

            make = cast("Callable[..., _Lz4Compressor]", LZ4FrameCompressor)
            compressor = make(block_size=BLOCKSIZE_MAX256KB)
            out.write(compressor.begin())
            self._compressor = compressor

    def _write(self, data: bytes) -> None:
        packed = self._compressor.compress(data)
        if packed:
            self._out.write(packed)

    def carry_over(self, source: Source) -> Iterator[int]:
        for piece in tar_members(source, self._form):
            self._write(piece)
            yield len(piece)

    def add(self, member: NewMember) -> Iterator[int]:
        source = member.source
        header = tar_header(member.name, source.size, member.mtime)
        self._write(header)
        for piece in _pieces(source, source.size):
            self._write(piece)
            yield len(piece)
        self._write(bytes(tar.padding(source.size)))
        yield len(header)

    def splice(self, span: TarSpan) -> Iterator[int]:
        end = span.offset + span.size
        for at in range(span.offset, end, _PIECE):
            piece = FileSource(span.fd, end).read_at(at, _PIECE)
            self._write(piece)
            yield len(piece)

    def finish(self) -> None:
        self._write(tar.END)
        self._out.write(self._compressor.flush())
        self._out.flush()
