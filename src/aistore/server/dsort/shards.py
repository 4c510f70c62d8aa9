"""Input shards of one job, kept as they were when it read them: what becomes of the objects meanwhile changes nothing."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.server.archive.formats import Format
from aistore.server.archive.source import FileSource, cursor_over
from aistore.server.store.content import full_or, in_thread
from aistore.server.store.work import KEPT
from aistore.wire.errors import ApiError
from aistore.wire.ids import new_letters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aistore.server.archive.archives import Content
    from aistore.server.store.content import Upload
    from aistore.server.store.store import Store

__all__ = ["KeptShard", "KeptShards", "OpenShards", "Part", "Pieces"]

logger = logging.getLogger(__name__)

_PIECE: Final = 1 << 20
_SHARDS_MAX: Final = 500_000
_OPEN_MAX: Final = 64
_COPY_MAX: Final = 64 << 10  # bytes that are copied to the others sooner than kept in a file of their own


class KeptShard(NamedTuple):
    """Where a shard lies: `size` bytes of a file from `base` on. A TAR is not compressed there."""

    name: str
    form: Format
    """What can be read there: `TAR` or `ZIP`."""
    file: int
    """Number of its link, -1 for the file that several share."""
    base: int
    size: int


class KeptShards:
    """The shards by number. Whole files are kept by a further link, the rest in one file of decompressed and small ones.

    What it takes is counted as stored, and gone with the process: links and file are removed by `close`, or by the next start.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._shards: list[KeptShard] = []
        self._pool: Upload | None = None
        self._links = f"{KEPT}{new_letters()}"
        self._linked = 0

    @property
    def pooled(self) -> int:
        """Bytes in the shared file."""
        return self._pool.size if self._pool is not None else 0

    def __getitem__(self, number: int) -> KeptShard:
        return self._shards[number]

    async def keep(self, name: str, content: Content, form: Format) -> tuple[int, KeptShard]:
        """Keep a shard; its number, and where it lies. Raises `BadArchive`, `StoreFull`, `ApiError`."""
        if len(self._shards) >= _SHARDS_MAX:
            raise ApiError(400, f"more than {_SHARDS_MAX} input shards: sort them in several jobs")
        size = content.row.size
        packed = form not in (Format.TAR, Format.ZIP)
        linked = not packed and content.fd >= 0 and size > _COPY_MAX and await in_thread(self._link, content)
        if linked:
            shard = KeptShard(name, form, self._linked, 0, size)
            self._linked += 1
        else:
            base = self.pooled
            await self._add(content, form)
            form = Format.TAR if packed else form
            shard = KeptShard(name, form, -1, base, self.pooled - base)
        self._shards.append(shard)
        return len(self._shards) - 1, shard

    def _path(self, number: int) -> Path:
        return self._store.work.root / f"{self._links}-{number}"

    def _link(self, content: Content) -> bool:
        path = self._path(self._linked)
        try:
            self._store.work.root.mkdir(exist_ok=True)
            os.link(self._store.content.path(content.row.content), path)
            linked, opened = path.stat(), os.fstat(content.fd)
        except OSError as error:
            if isinstance(full_or(error), OSError):  # replaced at this moment, or a file system without links
                return False
            raise full_or(error) from error
        if (linked.st_dev, linked.st_ino) == (opened.st_dev, opened.st_ino):
            return True
        path.unlink()
        return False

    async def _add(self, content: Content, form: Format) -> None:
        """Copy a shard to the shared file, decompressed if it is a TAR."""
        if self._pool is None:
            self._pool = await self._store.content.create()
            self._pool.sums = None  # it never becomes content
        pool = self._pool
        cursor = cursor_over(content.source, form)

        def step() -> bool:
            piece = cursor.read(_PIECE)
            pool.write(piece)
            return bool(piece)

        more = True
        while more:
            before = pool.size
            more = await in_thread(step)
            self._store.check_room(pool.size - before)
            pool.reserve(pool.size - before)

    def open(self, number: int) -> int:
        """A descriptor of the file that a shard lies in."""
        shard = self._shards[number]
        if shard.file >= 0:
            return os.open(self._path(shard.file), os.O_RDONLY | os.O_CLOEXEC)
        assert self._pool is not None
        return os.dup(self._pool.fd)

    async def close(self) -> None:
        """Remove what was kept."""
        await in_thread(self._remove)
        if self._pool is not None:
            self._pool.abandon()

    def _remove(self) -> None:
        # One more than was counted: the job may have been aborted while it made a link.
        for number in range(self._linked + 1):
            try:
                self._path(number).unlink(missing_ok=True)
            except OSError:
                logger.exception("%s is left over; the next start removes it", self._path(number))


class OpenShards:
    """Kept shards for one thread, some of them opened; close it."""

    def __init__(self, shards: KeptShards) -> None:
        self._shards = shards
        self._open: dict[int, int] = {}

    def source(self, number: int) -> tuple[KeptShard, int]:
        """A shard, and a descriptor of its file, which stays open until many others were asked for."""
        shard = self._shards[number]
        key = shard.file
        fd = self._open.pop(key, -1)
        if fd < 0:
            if len(self._open) >= _OPEN_MAX:
                os.close(self._open.pop(next(iter(self._open))))
            fd = self._shards.open(number)
        self._open[key] = fd
        return shard, fd

    def close(self) -> None:
        """Close the files."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __enter__(self) -> OpenShards:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Part:
    """A part of a file as content of its own; the descriptor belongs to the caller."""

    def __init__(self, fd: int, base: int, size: int) -> None:
        self._file = FileSource(fd, base + size)
        self._base = base
        self.size = size

    def read_at(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset` on, fewer only where the content ends. Raises `OSError` if the file is shorter than it should be."""
        return self._file.read_at(self._base + offset, count)


class Pieces:
    """Content that is made piece by piece and read once from start to end."""

    def __init__(self, pieces: Iterator[bytes], size: int) -> None:
        self._pieces = pieces
        self._ready = b""
        self._at = 0
        self.size = size

    def read_at(self, offset: int, count: int) -> bytes:
        """The next bytes, where `offset` is behind those that were read before."""
        if offset != self._at:
            raise ValueError(f"bytes {offset} are not the next ones, which are {self._at}")
        while len(self._ready) < count and (piece := next(self._pieces, b"")):
            self._ready += piece
        data, self._ready = self._ready[:count], self._ready[count:]
        self._at += len(data)
        if self._at >= self.size:
            next(self._pieces, b"")  # what is wrong with the content is told at its end
        return data
