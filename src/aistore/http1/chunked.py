"""Chunked transfer coding, incremental and without I/O (RFC 9112 7.1)."""

from __future__ import annotations

import re
from typing import Final

from aistore.http1.failures import BadBody, BodyTooLong

__all__ = ["MAX_CHUNK_LINE", "MAX_TRAILERS", "ChunkedDecoder"]

MAX_CHUNK_LINE: Final = 4096
"""Bytes of one chunk-size line, extensions included."""

MAX_EXTENSIONS: Final = 64 * 1024
"""Bytes of all chunk extensions of a body: they cost the reader work and carry nothing."""

MAX_TRAILERS: Final = 16 * 1024
"""Bytes of all trailer fields."""

_chunk_line = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?").fullmatch
_trailer_line = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*").fullmatch

_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)

# Sizes as they are written, of chunks so small that the work for each is what a body costs.
_SMALL: Final = {spelled.encode(): size for size in range(1, 256) for spelled in (f"{size:x}", f"{size:X}")}


class ChunkedDecoder:
    """Takes the bytes of a chunked body as they arrive and gives back its content.

    `feed` returns the content found; `needed` bytes of the current chunk may instead be received straight into a buffer of the
    caller's and reported with `took`. When `done`, `rest` holds what followed the body. Extensions and trailers are checked and
    dropped. Raises `BadBody` for what the grammar does not allow (bare line feeds included), `BodyTooLong` for content beyond `limit` bytes.
    """

    __slots__ = ("_extensions", "_limit", "_line", "_searched", "_state", "_trailers", "needed", "rest", "total")

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._state = _SIZE
        self._line = b""
        self._searched = 0
        self._extensions = 0
        self._trailers = 0
        self.needed = 0
        """Bytes of the current chunk that are still to come; 0 while a size line is expected."""
        self.total = 0
        """Bytes of content announced by the size lines so far."""
        self.rest = b""
        """Bytes after the end of the body, once `done`."""

    @property
    def done(self) -> bool:
        """True after the last chunk and its trailers."""
        return self._state == _DONE

    def took(self, count: int) -> None:
        """`count` bytes of the current chunk, at most `needed`, went elsewhere."""
        if not 0 <= count <= self.needed:
            raise ValueError(f"{count} bytes taken of {self.needed} needed")
        self.needed -= count
        if self.needed == 0 and self._state == _DATA:
            self._state = _DATA_END

    def feed(self, data: bytes) -> list[bytes]:
        """Content in `data`, in pieces and in order; what belongs to an unfinished line is kept for the next call."""
        if self._line:
            data = self._line + data
            self._line = b""
        pieces: list[bytes] = []
        at, end = 0, len(data)
        while at < end and self._state != _DONE:
            if self._state == _DATA:
                piece = data[at : at + self.needed] if at or self.needed < end else data
                pieces.append(piece)
                at += len(piece)
                self.took(len(piece))
                continue
            if self._state == _SIZE and not self._searched and (after := self._small_chunks(data, at, pieces)) != at:
                at = after
                continue
            line_end = self._line_end(data, at)
            if line_end < 0:
                self._line = data[at:]
                return pieces
            self._take_line(data[at:line_end])
            at = line_end + 2
        if self._state == _DONE:
            self.rest += data[at:]
        return pieces

    def _small_chunks(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Take whole small chunks, plainly written, off `data`; where they end. A fifth of the work that others are."""
        while True:
            line_end = data.find(b"\r\n", at, at + 4)
            size = _SMALL.get(data[at:line_end], 0) if line_end > at else 0
            start = line_end + 2
            if not size or not data.startswith(b"\r\n", start + size):
                return at
            self._announce(size)
            pieces.append(data[start : start + size])
            at = start + size + 2

    def _announce(self, size: int) -> None:
        self.total += size
        if self._limit is not None and self.total > self._limit:
            raise BodyTooLong(f"body is longer than {self._limit} bytes")

    def _line_end(self, data: bytes, at: int) -> int:
        """Index of the CR that ends the line starting at `at`, or -1 if the line is not complete."""
        found = data.find(b"\n", at + self._searched)
        length = (len(data) if found < 0 else found) - at
        if length > MAX_CHUNK_LINE or (self._state == _DATA_END and length > 1):
            raise BadBody(
                "chunk is longer than its size line says" if self._state == _DATA_END else "chunk line is too long"
            )
        if found < 0:
            if 0 <= data.find(b"\r", at) < len(data) - 1:
                raise BadBody("bare carriage return in chunk line")
            self._searched = length
            return -1
        self._searched = 0
        if found == at or data[found - 1] != 13:
            raise BadBody("bare line feed in chunk line")
        return found - 1

    def _take_line(self, line: bytes) -> None:
        if self._state == _DATA_END:
            if line:
                raise BadBody("chunk is longer than its size line says")
            self._state = _SIZE
        elif self._state == _TRAILERS:
            self._trailers += len(line) + 2
            if not line:
                self._state = _DONE
            elif self._trailers > MAX_TRAILERS:
                raise BadBody("trailers are too long")
            elif _trailer_line(line) is None:
                raise BadBody("malformed trailer")
        else:
            self._take_size(line)

    def _take_size(self, line: bytes) -> None:
        match = _chunk_line(line)
        if match is None:
            raise BadBody(f"bad chunk size line {line[:40]!r}")
        size = int(match[1], 16)
        if match[2] is not None:
            self._extensions += len(match[2])
            if self._extensions > MAX_EXTENSIONS:
                raise BadBody("chunk extensions are too long")
        self._announce(size)
        self.needed = size
        self._state = _DATA if size else _TRAILERS
