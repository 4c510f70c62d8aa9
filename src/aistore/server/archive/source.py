"""Where an archive's bytes come from: content that can be read anywhere, and cursors that go through it once.

All of it blocks, and runs in threads.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, Final, Protocol, cast

from aistore.server.archive.errors import BadArchive
from aistore.server.archive.formats import Format

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BytesSource", "CheckedSource", "Cursor", "FileSource", "Source", "cursor_over"]

_PIECE: Final = 256 * 1024
_INPUT: Final = 64 * 1024
# What a compressed archive may become: beyond the first gigabyte, this many times its own size. DEFLATE gets to 1,000 with zeros only.
_ALWAYS_ALLOWED: Final = 1 << 30
_RATIO: Final = 256


class Source(Protocol):
    """Content that does not change."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def read_at(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset` on, fewer only where the content ends."""
        ...


class BytesSource:
    """Content in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset` on, fewer only where the content ends."""
        return self._data[offset : offset + count]


class FileSource:
    """Content in one file; the descriptor belongs to the caller."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size

    def read_at(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset` on, fewer only where the content ends. Raises `OSError` if the file is shorter than it should be."""
        count = min(count, self.size - offset)
        if count <= 0:
            return b""
        data = os.pread(self.fd, count, offset)
        while len(data) < count:  # one call of the system gives 2 GiB at most
            more = os.pread(self.fd, count - len(data), offset + len(data))
            if not more:
                raise OSError(f"content file ends {self.size - offset - len(data)} bytes early")
            data += more
        return data


class CheckedSource(FileSource):
    """Content in one file; `check` compares a part of it before it is read, and raises where that is not what was stored."""

    def __init__(self, fd: int, size: int, check: Callable[[int, int, int], None]) -> None:
        super().__init__(fd, size)
        self._check = check

    def read_at(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset` on, fewer only where the content ends. Raises `ContentDamaged`, `OSError`."""
        self._check(self.fd, offset, count)
        return super().read_at(offset, count)


class Cursor(Protocol):
    """Goes through a stream of bytes once, forward."""

    position: int
    """Bytes read or skipped so far."""

    def read(self, count: int) -> bytes:
        """The next `count` bytes, fewer only at the end. Raises `BadArchive`."""
        ...

    def skip(self, count: int) -> None:
        """Go forward. Raises `BadArchive` if the stream ends before."""
        ...


def cursor_over(source: Source, form: Format) -> Cursor:
    """The bytes of the TAR that is in `source`, decompressed if need be."""
    if form is Format.TGZ:
        return _Inflating(source, _Gunzip, "gzip")
    if form is Format.LZ4:
        return _Inflating(source, _Lz4, "lz4")
    return _Plain(source)


class _Plain:
    def __init__(self, source: Source) -> None:
        self._source = source
        self.position = 0

    def read(self, count: int) -> bytes:
        data = self._source.read_at(self.position, count)
        self.position += len(data)
        return data

    def skip(self, count: int) -> None:
        if count > self._source.size - self.position:
            raise BadArchive("unexpected EOF")
        self.position += count


class _Decoder(Protocol):
    """One compressed stream; what follows it is a further one."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def feed(self, data: bytes, limit: int) -> bytes:
        """Decompress; `limit` bytes at most, the rest of the input is kept."""
        ...

    @property
    def hungry(self) -> bool:
        """Whether it can do nothing without more input."""
        ...


class _Gunzip:
    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(31)
        self._full = False

    def feed(self, data: bytes, limit: int) -> bytes:
        out = self._inflate.decompress(self._inflate.unconsumed_tail + data, limit)
        self._full = len(out) == limit
        return out

    @property
    def hungry(self) -> bool:
        # It may hold output back without holding input back.
        return not self._full and not self._inflate.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes | None:
        return self._inflate.unused_data


class _Lz4Frame(Protocol):
    """What the package's decompressor does."""

    needs_input: bool
    eof: bool
    unused_data: bytes | None

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Lz4:
    def __init__(self) -> None:
        from lz4.frame import LZ4FrameDecompressor

        self._frame = cast("Callable[[], _Lz4Frame]", LZ4FrameDecompressor)()

    def feed(self, data: bytes, limit: int) -> bytes:
        return self._frame.decompress(data, limit)

    @property
    def hungry(self) -> bool:
        return self._frame.needs_input

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def unused_data(self) -> bytes | None:
        return self._frame.unused_data


class _Inflating:
    """Decompresses piece by piece; holds one piece of input and one of output."""

    def __init__(self, source: Source, new_decoder: Callable[[], _Decoder], kind: str) -> None:
        self._source = source
        self._new_decoder = new_decoder
        self._kind = kind
        self._decoder: _Decoder | None = None
        self._consumed = 0
        self._input = b""
        self._ready = b""
        self._at = 0
        self._made = 0
        self._most = max(_ALWAYS_ALLOWED, _RATIO * source.size)
        self.position = 0

    def read(self, count: int) -> bytes:
        piece = self._take(count)
        if len(piece) == count or not self._more():
            return piece
        parts = [piece]
        missing = count - len(piece)
        while missing:
            piece = self._take(missing)
            if not piece and not self._more():
                break
            parts.append(piece)
            missing -= len(piece)
        return b"".join(parts)

    def skip(self, count: int) -> None:
        while count:
            here = min(count, len(self._ready) - self._at)
            self._at += here
            self.position += here
            count -= here
            if count and not self._more():
                raise BadArchive("unexpected EOF")

    def _take(self, count: int) -> bytes:
        piece = self._ready[self._at : self._at + count]
        self._at += len(piece)
        self.position += len(piece)
        return piece

    def _more(self) -> bool:
        """Decompress the next piece once the last one is used up; False at the end."""
        if self._at < len(self._ready):
            return True
        self._ready, self._at = b"", 0
        while not self._ready:
            decoder = self._decoder
            if decoder is None or decoder.eof:
                if decoder is not None:
                    self._input = (decoder.unused_data or b"") + self._input
                    self._decoder = None
                if not self._fill() or (decoder is not None and not self._input.strip(b"\0") and self._only_zeros()):
                    return False
                decoder = self._decoder = self._new_decoder()
            elif decoder.hungry and not self._fill():
                raise BadArchive("unexpected EOF")
            self._decode(decoder)
        self._made += len(self._ready)
        if self._made > self._most:
            raise BadArchive(f"the archive of {self._source.size} bytes becomes more than {self._most} bytes")
        return True

    def _decode(self, decoder: _Decoder) -> None:
        data, self._input = self._input, b""
        try:
            self._ready = decoder.feed(data, _PIECE)
        except (zlib.error, RuntimeError, EOFError) as error:
            if self._made == 0:
                raise BadArchive(f"{self._kind}: invalid header") from error
            raise BadArchive(f"{self._kind}: {error}") from error

    def _fill(self) -> bool:
        if not self._input:
            self._input = self._source.read_at(self._consumed, _INPUT)
            self._consumed += len(self._input)
        return bool(self._input)

    def _only_zeros(self) -> bool:
        """Whether nothing but padding follows, as tapes have it."""
        while not self._input.strip(b"\0"):
            self._input = b""
            if not self._fill():
                return True
        return False
