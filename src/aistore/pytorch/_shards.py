"""Members and samples of shards, taken apart as they arrive."""

from __future__ import annotations

import lzma
import struct
import tarfile
import tempfile
import zipfile
import zlib
from typing import TYPE_CHECKING, Final, Protocol

from aistore.calls.batch_formats import Cut, TarDecoder
from aistore.pytorch.errors import ShardError
from aistore.pytorch.utils import get_basename, get_extension

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import TypeAlias

    Member: TypeAlias = tuple[str, bytes]

__all__ = ["key_of", "members_of", "samples_of"]

_PIECE: Final = 256 * 1024
_HEADER: Final = tarfile.BLOCKSIZE
_UNPACKED: Final = 1 << 20
_ZIP_IN_MEMORY: Final = 64 << 20
_SAMPLE_MAX: Final = 1 << 30
"""Bytes of a sample of a compressed shard: a few of those can stand for a thousand times as many."""


class File(Protocol):
    """What a shard is read from."""

    def read(self, size: int = -1, /) -> bytes: ...


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def key_of(name: str) -> str:
    """What the members of a sample share: folder and basename."""
    return f"{name.rpartition('/')[0]}/{get_basename(name)}"


def samples_of(members: Iterable[Member]) -> Generator[tuple[str, dict[str, bytes]], None, None]:
    """Samples of a shard: members one after the other that share folder and basename, by their extensions (what is behind the last dot).

    Where two of a sample have the same, all that is behind the first dot. Raises `ShardError` for a sample in two places, and for a member
    that is there twice.
    """
    begun: set[int] = set()
    now = ""
    sample: list[Member] = []
    for name, content in members:
        key = key_of(name)
        if sample and key == now:
            sample.append((name, content))
            continue
        if sample:
            yield _sample(sample)
        if hash(key) in begun:
            raise ShardError(f"members of sample {key!r} lie apart: a shard keeps those of a sample together")
        begun.add(hash(key))
        now, sample = key, [(name, content)]
    if sample:
        yield _sample(sample)


def _sample(members: list[Member]) -> tuple[str, dict[str, bytes]]:
    base = get_basename(members[0][0])
    found = {get_extension(name): content for name, content in members}
    if len(found) < len(members):
        found = {name.rpartition("/")[2].partition(".")[2]: content for name, content in members}
    if len(found) < len(members):
        raise ShardError(f"sample {base!r} has a member twice: {', '.join(sorted(name for name, _ in members))}")
    return base, found


def members_of(file: File) -> Generator[Member, None, None]:
    """Regular files of a TAR (plain, gzip, LZ4) or ZIP, which its first bytes tell. Raises `ShardError` for what is damaged or cut short."""
    piece = file.read(_PIECE)
    try:
        if piece.startswith((b"PK\3\4", b"PK\5\6")):
            yield from _zip_members(file, piece)
        elif piece.startswith(b"\x1f\x8b"):
            yield from _tar_members(_unpacked(file, piece, lambda: zlib.decompressobj(31)), _SAMPLE_MAX)
        elif piece.startswith(b"\x04\x22\x4d\x18"):
            from lz4.frame import LZ4FrameDecompressor

            yield from _tar_members(_unpacked(file, piece, LZ4FrameDecompressor), _SAMPLE_MAX)
        else:
            _check_tar(piece)
            yield from _tar_members(_pieces(file, piece), None)
    except (Cut, EOFError) as error:
        raise ShardError(f"the shard is cut short: {error}") from error
    except (zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # of LZ4 RuntimeError
        raise ShardError(f"the shard is damaged: {error}") from error


def _check_tar(piece: bytes) -> None:
    """Raise `ShardError` for what does not begin as a TAR does: often not a damaged shard, but another object among them."""
    header = piece[:_HEADER]
    if not header.strip(b"\0"):
        return  # one without members, or without anything, is for the decoder to judge
    try:
        tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise ShardError(
            f"the shard is damaged, or is none: it begins as no TAR, TGZ, TAR.LZ4 or ZIP ({error}); prefix_map chooses objects"
        ) from error


def _pieces(file: File, piece: bytes) -> Iterator[bytes]:
    while piece:
        yield piece
        piece = file.read(_PIECE)


def _unpacked(file: File, piece: bytes, make: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """What a file unpacks to, in bounded pieces; streams may lie one behind the other."""
    decompressor = make()
    for packed in _pieces(file, piece):
        data, more = packed, True
        while data or more:
            if decompressor.eof:
                data = data.lstrip(b"\0")  # padding
                if not data:
                    break
                decompressor = make()
            yield (unpacked := decompressor.decompress(data, _UNPACKED))
            more = len(unpacked) == _UNPACKED and not decompressor.eof
            # What is left of it; LZ4 keeps that itself.
            data = (
                decompressor.unused_data if decompressor.eof else getattr(decompressor, "unconsumed_tail", b"")
            ) or b""
    if not decompressor.eof:
        raise Cut("a compressed stream has no end")


def _tar_members(pieces: Iterable[bytes], largest: int | None) -> Iterator[Member]:
    decoder = TarDecoder(strict=True)
    held = 0
    now = ""
    for piece in pieces:
        held += len(piece)
        for name, content in decoder.feed(piece):
            if (key := key_of(name)) != now:
                held, now = len(content), key
            yield name, content
        if largest is not None and held > largest:
            raise _too_large(largest)
    decoder.finish()


def _zip_members(file: File, piece: bytes) -> Iterator[Member]:
    with tempfile.SpooledTemporaryFile(_ZIP_IN_MEMORY) as whole:
        for one in _pieces(file, piece):
            whole.write(one)
        held = 0
        now = ""
        try:
            with zipfile.ZipFile(whole) as archive:
                for info in archive.infolist():
                    if info.is_dir():
                        continue
                    if (key := key_of(info.filename)) != now:
                        held, now = 0, key
                    held += info.file_size
                    if held > _SAMPLE_MAX:
                        raise _too_large(_SAMPLE_MAX)
                    yield info.filename, archive.read(info)
        # The standard library's decompressors raise OSError and errors of their own, its parser ValueError.
        except (OSError, ValueError, struct.error, lzma.LZMAError) as error:
            raise ShardError(f"the shard is damaged: {error}") from error


def _too_large(largest: int) -> ShardError:
    return ShardError(f"the shard has a sample of more than {largest} bytes behind what is compressed")
