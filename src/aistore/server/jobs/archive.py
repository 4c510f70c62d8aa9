"""Jobs that put objects into archives (protocol/10 23.6, protocol/30 13.5)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.server.archive.archives import Content
from aistore.server.archive.building import ArchiveBuilder
from aistore.server.archive.errors import BadArchive
from aistore.server.archive.formats import Format
from aistore.server.archive.source import BytesSource, FileSource
from aistore.server.archive.writing import NewMember
from aistore.server.store.errors import ContentChanged, ContentDamaged
from aistore.server.store.scan import Bounds
from aistore.server.store.schema import LAYOUT_INLINE
from aistore.server.store.verifying import damage_of
from aistore.wire.errors import ApiError
from aistore.wire.values import SECOND

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from aistore.server.jobs.registry import Job
    from aistore.server.store.content import Upload
    from aistore.server.store.rows import Bucket, ObjectRow
    from aistore.server.store.scan import Row, Scanner
    from aistore.server.store.store import Store

__all__ = ["ArchiveOrder", "archive_objects"]

_ROWS: Final = 256  # looked up at once, with the content of small objects
_ATTEMPTS: Final = 8


class ArchiveOrder(NamedTuple):
    """What is to be archived, and how."""

    source: Bucket
    names: Callable[[], AsyncIterator[str]] | None
    """Gives the names of objects, or None for those with `prefix`."""
    listed: bool
    """Whether the names were listed one by one: then a missing one is an error."""
    prefix: str
    recursive: bool
    target: Bucket
    archive: str
    form: Format
    checksum_type: str
    versioned: bool
    with_bucket: bool
    """Whether members are named `<bucket>/<name>`."""
    base_name: bool
    """Whether of an object's name only what follows the last slash counts."""
    append: bool
    write: Callable[[bytes | Upload, tuple[str, str]], Awaitable[ObjectRow]] | None
    """Stores the archive (with type and value of its checksum) where its bucket lives, if that is elsewhere."""

    def member_name(self, name: str) -> str:
        """Name of the member that an object becomes."""
        if self.base_name:
            name = name.rpartition("/")[2]
        return f"{self.source.id.name}/{name}" if self.with_bucket else name


async def archive_objects(job: Job, store: Store, scanner: Scanner, order: ArchiveOrder, missing: str) -> None:
    """Make or extend an archive; it is seen when it is complete. Missing objects are errors of the job, worded by `missing`.

    Raises `ApiError` if there is nothing to archive, or the archive that is to be extended cannot be read: it stays as it is.
    """
    cname = order.target.id.object_cname(order.archive)
    for _ in range(_ATTEMPTS):
        old = await Content.open_verified(store, order.target, order.archive) if order.append else None
        try:
            row_size, errors = await _make(store, scanner, order, old)
        except ContentChanged:
            continue
        except BadArchive as error:
            raise ApiError(400, f"failed to append to {cname}: {error}") from error
        finally:
            if old is not None:
                old.close()
        for name in errors:
            job.failed(missing.format(order.source.id.object_cname(name)))
        if row_size < 0:
            raise ApiError(400, f"archive {cname} is empty: none of the selected objects exists")
        added = row_size - old.row.size if old is not None and order.form is Format.TAR else row_size
        job.done(1, max(added, 0))
        return
    raise ApiError(409, f"{cname} is written to by others all the time, please try again", "ErrBusy")


async def _make(store: Store, scanner: Scanner, order: ArchiveOrder, old: Content | None) -> tuple[int, list[str]]:
    """Bytes of the archive, -1 if it would have no new members, and the names of listed objects that were not there."""
    builder = await ArchiveBuilder.begin(store, order.form, order.checksum_type, old)
    missing: list[str] = []
    try:
        async for names, rows in _rows(scanner, order):
            for _ in range(_ATTEMPTS):
                if order.listed:  # of a range nearly all of millions may be missing
                    found = {row[0] for row in rows}
                    missing += [name for name in names if name not in found]
                # Whose content is gone was overwritten since it was looked up, or deleted.
                names = await _add(builder, store, order, rows)  # noqa: PLW2901 (those that are left to do)
                if not names:
                    break
                rows = await scanner.run(lambda: scanner.contents_of(order.source.bid, names))  # noqa: B023, PLW2901 (as above)
            if order.listed:
                missing += names
        if not builder.members:
            builder.abandon()
            return -1, missing
    except BaseException:
        builder.abandon()
        raise
    if order.write is not None:
        row = await order.write(*await builder.finish())
    else:
        row = await builder.commit(order.target, order.archive, versioned=order.versioned, extends=order.append)
    return row.size, missing


async def _rows(scanner: Scanner, order: ArchiveOrder) -> AsyncIterator[tuple[list[str], list[Row]]]:
    """The selected objects' names, some at a time, and the rows of those that are there."""
    bid = order.source.bid
    if order.names is not None:
        some: list[str] = []
        async for name in order.names():
            some.append(name)
            if len(some) == _ROWS:
                yield some, await scanner.run(lambda: scanner.contents_of(bid, some))  # noqa: B023 (awaited before it changes)
                some = []
        if some:
            yield some, await scanner.run(lambda: scanner.contents_of(bid, some))
        return
    bounds = Bounds(order.prefix, order.prefix)
    while rows := await scanner.run(lambda: scanner.contents(bid, bounds, _ROWS)):  # noqa: B023 (awaited before it changes)
        chosen = [row for row in rows if order.recursive or "/" not in row[0][len(order.prefix) :]]
        yield [row[0] for row in chosen], chosen
        bounds = Bounds(order.prefix, rows[-1][0], inclusive=False)


async def _add(builder: ArchiveBuilder, store: Store, order: ArchiveOrder, rows: list[Row]) -> list[str]:
    """Add objects; the names of those whose content was gone. Raises `ContentDamaged`."""
    gone: list[str] = []

    def refuse(name: str, reason: str) -> None:
        if reason:
            raise ContentDamaged(
                f"content of {order.source.id.object_cname(name)} is damaged: {reason}", order.source.bid, name
            )

    def members() -> Iterator[NewMember]:
        for name, size, layout, content, atime, data, kind, checksum in rows:
            member = order.member_name(name), atime // SECOND
            if layout == LAYOUT_INLINE:
                refuse(name, "it is missing" if data is None else damage_of(kind, checksum, data))
                yield NewMember(*member, BytesSource(data))
                continue
            try:
                fd = store.content.open(content)
            except FileNotFoundError:
                gone.append(name)
                continue
            try:
                refuse(name, store.verifier.damage_of(content, kind, checksum, size, fd))
                yield NewMember(*member, FileSource(fd, size))
            finally:
                os.close(fd)

    await builder.add(members())
    return gone
