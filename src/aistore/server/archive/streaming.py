"""Archives written front to back into pieces of bytes, for answers: what is in them goes out while the rest is not known yet.

TAR with ustar headers, PAX where a name or size needs it; ZIP without compression, each entry with its name as comment (protocol/40 A3).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Protocol, cast

from aistore.server.archive import tar
from aistore.server.archive.formats import Format
from aistore.server.archive.reading import tar_header
from aistore.server.archive.zip_writing import ZipStream

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ArchiveStream", "Packer", "new_packer", "new_stream", "quick_tar_header"]

_NAME_MAX: Final = 100
_ZEROS: Final = bytes(tar.BLOCK)
_SIZE_MAX: Final = 8**11
# All of a header but name, size, time and checksum: mode 0644, owner 0, a regular file, ustar.
_OWNER: Final = b"0000644\x000000000\x000000000\x00"
_KIND: Final = b" 0" + bytes(100) + b"ustar\x0000" + bytes(247)
_REST_SUM: Final = (
    sum(_OWNER) + sum(_KIND) + 7 * 32
)  # the checksum counts as eight blanks, the last of which is in _KIND


class ArchiveStream(Protocol):
    """Makes an archive: each call returns the bytes that come next."""

    def begin(self, name: str, size: int, mtime: int) -> bytes:
        """Start a regular file of `size` bytes; `mtime` is Unix seconds."""
        ...

    def data(self, piece: bytes) -> bytes:
        """A piece of its content."""
        ...

    def end(self) -> bytes:
        """End it."""
        ...

    def whole(self, name: str, data: bytes, mtime: int) -> tuple[bytes, ...]:
        """A file whose content is here: the bytes of `begin`, `data` and `end`."""
        ...

    def finish(self) -> bytes:
        """End the archive."""
        ...


class Packer(Protocol):
    """Compresses an archive (blocking)."""

    def pack(self, data: bytes) -> bytes:
        """The bytes for `data`, all of which can be unpacked when they have arrived."""
        ...

    def finish(self) -> bytes:
        """The last bytes."""
        ...


def new_stream(form: Format) -> ArchiveStream:
    """A stream of this format, before compression."""
    return ZipStream() if form is Format.ZIP else _TarStream()


def new_packer(form: Format) -> Packer | None:
    """What compresses a stream of this format; None if nothing does."""
    if form is Format.TGZ:
        return _Gzip()
    return _Lz4() if form is Format.LZ4 else None


def quick_tar_header(name: str, size: int, mtime: int) -> bytes:
    """`tar_header`, many times faster for the names and sizes that nearly all have."""
    if len(name) > _NAME_MAX or not name.isascii() or not 0 <= size < _SIZE_MAX or not 0 <= mtime < _SIZE_MAX:
        return tar_header(name, size, mtime)
    raw = name.encode()
    numbers = b"%011o\0%011o\0" % (size, mtime)
    # The low half of Adler-32 is one more than the sum of the bytes, as long as that is less than 65,521: here it is half of it at most.
    added = (zlib.adler32(raw + numbers) & 0xFFFF) - 1
    return b"%b%b%b%06o\0%b" % (
        raw.ljust(_NAME_MAX, b"\0"),
        _OWNER,
        numbers,
        added + _REST_SUM,
        _KIND,
    )


class _TarStream:
    def __init__(self) -> None:
        self._padding = 0

    def begin(self, name: str, size: int, mtime: int) -> bytes:
        self._padding = -size % tar.BLOCK
        return quick_tar_header(name, size, mtime)

    def data(self, piece: bytes) -> bytes:
        return piece

    def end(self) -> bytes:
        return bytes(self._padding)

    def whole(self, name: str, data: bytes, mtime: int) -> tuple[bytes, ...]:
        size = len(data)
        return quick_tar_header(name, size, mtime), data, _ZEROS[: -size % tar.BLOCK]

    def finish(self) -> bytes:
        return tar.END


class _Gzip:
    def __init__(self) -> None:
        self._compressor = zlib.compressobj(1, zlib.DEFLATED, 31)

    def pack(self, data: bytes) -> bytes:
        return self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._compressor.flush()


class _Lz4Frame(Protocol):
    def begin(self) -> bytes: ...
    def compress(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes: ...


class _Lz4:
    def __init__(self) -> None:
        from lz4.frame import BLOCKSIZE_MAX256KB, LZ4FrameCompressor

        make = cast("Callable[..., _Lz4Frame]", LZ4FrameCompressor)
        self._frame = make(block_size=BLOCKSIZE_MAX256KB, auto_flush=True)
        self._head = self._frame.begin()

    def pack(self, data: bytes) -> bytes:
        head, self._head = self._head, b""
        return head + self._frame.compress(data)

    def finish(self) -> bytes:
        head, self._head = self._head, b""
        return head + self._frame.flush()
