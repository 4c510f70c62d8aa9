"""Archives as objects: written beside the object they replace, and seen at once when they are complete."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from aistore.server.archive.formats import Format
from aistore.server.archive.writing import Output, TarSpan, new_writer
from aistore.server.store.content import in_thread
from aistore.server.store.errors import ContentChanged
from aistore.server.store.room import make_room
from aistore.server.store.schema import INLINE_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aistore.server.archive.archives import Content
    from aistore.server.archive.writing import NewMember
    from aistore.server.store.content import Upload
    from aistore.server.store.rows import Bucket, ObjectRow
    from aistore.server.store.store import Store

__all__ = ["ArchiveBuilder"]

_STEP: Final = 8 << 20  # bytes written between two looks at the disk's room, and at whether to go on


class ArchiveBuilder:
    """Writes an archive into content of its own; `commit` makes it an object, `abandon` forgets it.

    With `old`, an archive of the same format, its members come first. `checksum_type` is that of the object; appending to a TAR gives
    none (protocol/10 23.6).
    """

    def __init__(self, store: Store, upload: Upload, form: Format, checksum_type: str, old: Content | None) -> None:
        self._store = store
        self._upload = upload
        self._old = old
        self._kind = "none" if old is not None and form is Format.TAR else checksum_type
        self._out = Output(upload, self._kind)
        self._writer = new_writer(form, self._out)
        self.members = 0
        """Members added, besides those of `old`."""

    @classmethod
    async def begin(cls, store: Store, form: Format, checksum_type: str, old: Content | None = None) -> ArchiveBuilder:
        """Start an archive. Raises `BadArchive` if the old one cannot be read, `StoreFull`."""
        builder = cls(store, await store.content.create(), form, checksum_type, old)
        if old is not None:
            try:
                await builder._drive(builder._writer.carry_over(old.source))
            except BaseException:
                builder.abandon()
                raise
        return builder

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._out.position

    async def add(self, members: Iterable[NewMember | TarSpan]) -> None:
        """Append members, or as they lie in a TAR, to one; the iterable is gone through in a thread. Raises `StoreFull`."""
        await self._drive(self._add(members))

    def _add(self, members: Iterable[NewMember | TarSpan]) -> Iterator[int]:
        for member in members:
            if isinstance(member, TarSpan):
                yield from self._writer.splice(member)
            else:
                yield from self._writer.add(member)
            self.members += 1

    async def _drive(self, work: Iterator[int]) -> None:
        more = True
        while more:
            before = self._out.position
            more = await in_thread(_advance, work)
            written = self._out.position - before
            await make_room(self._store, written)
            self._upload.reserve(written)

    async def finish(self) -> tuple[bytes | Upload, tuple[str, str]]:
        """Finish the archive; its content, which is the caller's then, and type and value of its checksum."""
        try:
            await in_thread(self._writer.finish)
            small = self._upload.size <= INLINE_MAX
            content: bytes | Upload = self._upload
            if small:
                content = os.pread(self._upload.fd, self._upload.size, 0)
            else:
                await in_thread(self._upload.finish)
        except BaseException:
            self.abandon()
            raise
        if small:
            self.abandon()
        return content, (self._kind, self._out.checksum())

    async def commit(self, bucket: Bucket, name: str, *, versioned: bool, extends: bool = False) -> ObjectRow:
        """Finish the archive and make it the object's content.

        If it `extends` what was there, raises `ContentChanged` where that is no longer the old archive, or where there is one by now.
        """
        content, checksum = await self.finish()
        old = self._old.row if self._old is not None else None

        def check(current: ObjectRow | None) -> None:
            if extends and _identity(current) != _identity(old):
                raise ContentChanged(name)

        return await self._store.put(bucket, name, content, *checksum, versioned=versioned, check=check)

    def abandon(self) -> None:
        """Remove what was written."""
        self._upload.abandon()


def _identity(row: ObjectRow | None) -> tuple[int, int, int] | None:
    return (row.layout, row.content, row.mtime) if row is not None else None


def _advance(work: Iterator[int]) -> bool:
    """Go on for one step; whether there is more to do."""
    done = 0
    for n in work:
        done += n
        if done >= _STEP:
            return True
    return False
