"""Bytes of an upload's parts on their way to one file. All of it blocks, and runs in threads."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final, NamedTuple

import xxhash

from aistore.server.store.content import full_or
from aistore.server.store.pieces import PieceSums
from aistore.server.store.sync import sync_file
from aistore.wire.checksum import new_hasher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aistore.server.store.content import ContentFiles, Upload
    from aistore.wire.checksum import Hasher

__all__ = ["Hashed", "PartDamaged", "Piece", "checksum_of", "copy_together", "hash_on", "put_in_place"]

_BUFFER: Final = 256 * 1024  # stays in the processor's cache
# What says that this system, or these file systems, cannot copy within the kernel.
_CANNOT: Final = frozenset((errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM))


class PartDamaged(OSError):
    """A part is not what was written: the machine lost power before all of it was on the disk, say."""


class Piece(NamedTuple):
    """Bytes of a part, and where they belong."""

    file: int
    start: int
    place: int
    size: int
    sum: bytes = b""
    """Empty if it is not known."""


class Hashed:
    """Checksum of an upload's first parts, and the sums of what they become."""

    __slots__ = ("hasher", "kind", "pieces", "sums")

    def __init__(self) -> None:
        self.kind = ""
        self.hasher: Hasher | None = None
        self.sums = PieceSums()
        self.pieces: list[tuple[int, int, int]] = []
        """File, start and size of what is in it."""

    def begin(self, kind: str) -> bool:
        """Take up the type of checksum; False if another one was taken up before."""
        if not self.kind:
            self.kind, self.hasher = kind, new_hasher(kind)
        return self.kind == kind


def hash_on(content: ContentFiles, hashed: Hashed, pieces: Sequence[Piece]) -> None:
    """Add pieces to a checksum. Raises `OSError`."""
    for piece in pieces:
        fd = content.open(piece.file)
        try:
            _hash(fd, hashed, piece.start, piece.size, piece.sum)
        finally:
            os.close(fd)
        hashed.pieces.append((piece.file, piece.start, piece.size))


def checksum_of(
    content: ContentFiles, file: int, pieces: Sequence[Piece], hashed: Hashed, kind: str
) -> tuple[str, PieceSums]:
    """Checksum and sums of a file into which all pieces have come; what `hashed` knows of them is not read again. Raises `OSError`."""
    known = len(hashed.pieces)
    if hashed.kind != kind or hashed.pieces != [(piece.file, piece.start, piece.size) for piece in pieces[:known]]:
        known, hashed = 0, Hashed()
        hashed.begin(kind)
    fd = content.open(file)
    try:
        for piece in pieces[known:]:
            _hash(fd, hashed, piece.place, piece.size, piece.sum)
    finally:
        os.close(fd)
    return hashed.hasher.hexdigest() if hashed.hasher is not None else "", hashed.sums


def copy_together(content: ContentFiles, made: Upload, pieces: Sequence[Piece]) -> None:
    """Copy all pieces to a new file, and finish that. Raises `StoreFull`, `OSError`."""
    try:
        for piece in pieces:
            _copy(content, piece, made.fd)
    except OSError as error:
        raise full_or(error) from error
    made.size = sum(piece.size for piece in pieces)
    made.finish()


def put_in_place(content: ContentFiles, file: int, pieces: Sequence[Piece]) -> None:
    """Copy the pieces that are in other files to their places in this one, which ends behind the last. Raises `StoreFull`, `OSError`."""
    fd = os.open(content.path(file), os.O_RDWR | os.O_CLOEXEC)
    try:
        # Made longer, it would have zeros for what is lost.
        end = max((piece.start + piece.size for piece in pieces if piece.file == file and piece.size), default=0)
        if os.fstat(fd).st_size < end:
            raise PartDamaged(f"content {content.path(file)} has {os.fstat(fd).st_size} bytes, and parts up to {end}")
        for piece in pieces:
            if piece.file != file:
                _copy(content, piece, fd)
        os.ftruncate(fd, sum(piece.size for piece in pieces))
        if content.durability == "strict":
            sync_file(fd)
    except OSError as error:
        raise full_or(error) from error
    finally:
        os.close(fd)


def _copy(content: ContentFiles, piece: Piece, target: int) -> None:
    source = content.open(piece.file)
    try:
        done = 0
        while done < piece.size:
            done += _copy_some(source, piece.start + done, target, piece.place + done, piece.size - done)
    finally:
        os.close(source)


def _copy_some(source: int, start: int, target: int, place: int, size: int) -> int:
    if hasattr(os, "copy_file_range"):
        try:
            copied = os.copy_file_range(source, target, size, start, place)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
        else:
            if copied:
                return copied
    data = os.pread(source, min(_BUFFER, size), start)
    if not data:
        raise PartDamaged(f"a part ends {size} bytes early")
    return os.pwrite(target, data, place)


def _hash(fd: int, hashed: Hashed, start: int, size: int, expected: bytes) -> None:
    """Add a part to a checksum, and compare it with its sum."""
    buffer = memoryview(bytearray(min(_BUFFER, size)))
    found = xxhash.xxh3_64()
    end = start + size
    while start < end:
        n = os.preadv(fd, [buffer[: end - start]], start)
        if not n:
            raise PartDamaged(f"a part ends {end - start} bytes early")
        if hashed.hasher is not None:
            hashed.hasher.update(buffer[:n])
        hashed.sums.update(buffer[:n])
        found.update(buffer[:n])
        start += n
    if expected and found.digest() != expected:
        raise PartDamaged(f"a part of {size} bytes is not what was stored")
