"""Archives of one process: their indexes, and the threads that work on them."""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from aistore.server.archive.index import CatalogIndex, Stop, build
from aistore.server.archive.reading import gather
from aistore.server.archive.source import BytesSource, CheckedSource
from aistore.server.store.content import finished
from aistore.server.store.member_pages import MemberPages, keep_end, keep_pages
from aistore.server.store.schema import LAYOUT_INLINE
from aistore.server.store.verifying import open_verified

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from aistore.server.archive.formats import Format
    from aistore.server.archive.index import Index, MemoryIndex
    from aistore.server.archive.source import Source
    from aistore.server.store.member_pages import Key
    from aistore.server.store.rows import Bucket, ObjectRow
    from aistore.server.store.store import Store

__all__ = ["Archives", "Content", "Streamed"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Going through archives is bound by one core; these threads are apart from those that everything else waits for.
_THREADS: Final = 2
_PAGES_AT_ONCE: Final = 64


class Content:
    """One version of an object, opened: it stays readable whatever becomes of the object. Close it."""

    def __init__(self, row: ObjectRow, fd: int, check: Callable[[int, int, int], None]) -> None:
        self.row = row
        self.fd = fd
        """A descriptor if the content is one file, else -1."""
        self._check = check
        self.source: Source = CheckedSource(fd, row.size, check) if row.data is None else BytesSource(row.data)

    @classmethod
    def open(cls, store: Store, bucket: Bucket, name: str) -> Content | None:
        """The object's present content, or None (on the loop)."""
        row = store.lookup(bucket, name)
        current = store.open_current(bucket, row) if row is not None else None
        return cls(*current, store.verifier.checker(current[0])) if current is not None else None

    @classmethod
    async def open_verified(cls, store: Store, bucket: Bucket, name: str) -> Content | None:
        """The same, for those who make other content of all of it. Raises `ContentDamaged`."""
        row = store.lookup(bucket, name)
        current = await open_verified(store, bucket, row) if row is not None else None
        return cls(*current, store.verifier.checker(current[0])) if current is not None else None

    def again(self) -> Content:
        """The same content, to be closed for itself."""
        return Content(self.row, os.dup(self.fd) if self.fd >= 0 else -1, self._check)

    def give_fd(self) -> int:
        """The descriptor, which is the caller's from now on."""
        fd, self.fd = self.fd, -1
        return fd

    def close(self) -> None:
        """Let go of the content; more than once does no harm."""
        if self.fd >= 0:
            os.close(self.give_fd())


class Streamed:
    """Pieces that are made of content, which is closed with `aclose`: a generator that nobody has begun with would not notice its end."""

    def __init__(
        self, pieces: AsyncGenerator[bytes, None], content: Content, ended: Callable[[int], object] | None
    ) -> None:
        self._pieces = pieces
        self._content = content
        self._ended = ended
        self._sent = 0

    def __aiter__(self) -> Streamed:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._pieces.__anext__()
        self._sent += len(piece)
        return piece

    async def aclose(self) -> None:
        """Let go of the content."""
        try:
            await self._pieces.aclose()
        finally:
            self._content.close()
            if self._ended is not None:
                self._ended(self._sent)
                self._ended = None


class Archives:
    """Indexes of archives: made once, kept in the catalog with the content."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(_THREADS, "archive")
        self._building: dict[Key, asyncio.Task[MemoryIndex]] = {}
        self._stop = Stop()

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """Run blocking work on an archive in a thread, and wait for its end whatever happens."""
        return await finished(asyncio.get_running_loop().run_in_executor(self._threads, work, *args))

    def stream(
        self,
        pieces: Iterator[bytes],
        content: Content,
        first: bytes = b"",
        ended: Callable[[int], object] | None = None,
    ) -> Streamed:
        """What a blocking iterator gives behind `first`, made in threads; `ended` is told in the end how many bytes that were."""
        return Streamed(self._gathered(pieces, first), content, ended)

    async def _gathered(self, pieces: Iterator[bytes], first: bytes) -> AsyncGenerator[bytes, None]:
        if first:
            yield first
        while piece := await self.run(gather, pieces):
            yield piece

    async def index(self, content: Content, form: Format) -> Index:
        """The index of an archive. It is made if there is none, and that is shared by all who want it."""
        row = content.row
        if row.layout == LAYOUT_INLINE:  # a few kilobytes: quicker read than looked up
            return await self.run(build, content.source, form, self._stop)
        key = (row.layout, row.content, int(form))
        known = CatalogIndex.open(MemberPages(self._store.catalog.read, key))
        if known is not None:
            return known
        task = self._building.get(key)
        if task is None:
            task = self._building[key] = asyncio.ensure_future(self._build(content.again(), form, key))
            task.add_done_callback(lambda _: self._building.pop(key, None))
        return await asyncio.shield(task)

    async def _build(self, content: Content, form: Format, key: Key) -> MemoryIndex:
        try:
            made = await self.run(build, content.source, form, self._stop)
        finally:
            content.close()
        if not self._stop.set:
            try:
                await self._keep(made, key)
            except Exception:  # it serves those who wait all the same
                logger.exception("the index of an archive could not be kept")
        return made

    async def _keep(self, made: MemoryIndex, key: Key) -> None:
        pages = made.pages()
        while some := list(islice(pages, _PAGES_AT_ONCE)):
            if not await self._store.catalog.submit(lambda tx: keep_pages(tx, key, some)):
                return
        await self._store.catalog.submit(lambda tx: keep_end(tx, key, made.damage))

    async def close(self) -> None:
        """End what is being made, and wait for it."""
        self._stop.set = True
        await asyncio.gather(*self._building.values(), return_exceptions=True)
        self._threads.shutdown(wait=True)
