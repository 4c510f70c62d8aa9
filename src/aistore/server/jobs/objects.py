"""Jobs that go over objects of one bucket: delete, and the visits that change nothing here."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from aistore.server.store.content import finished
from aistore.server.store.scan import Bounds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from aistore.server.jobs.registry import Job
    from aistore.server.store.rows import Bucket
    from aistore.server.store.scan import Row, Scanner
    from aistore.server.store.store import Store

__all__ = ["delete_names", "delete_prefix", "pages", "visit"]

_BATCH: Final = 200  # deletions in one change of the catalog: a few milliseconds of the loop
_FILES_SECONDS: Final = 0.1
_SCAN: Final = 2000  # names of 8 KiB are 16 MiB then


async def delete_names(job: Job, store: Store, bucket: Bucket, names: Iterable[str], missing: str) -> None:
    """Delete named objects. Those that are not there are errors of the job, worded by `missing`, or nothing if that is empty."""
    left = iter(names)
    while batch := list(dict.fromkeys(islice(left, _BATCH))):
        change = store.delete(bucket, batch)
        try:
            await finished(change)
        finally:  # it is made also when the job is aborted, and counts then
            deleted = change.result() if change.done() and not change.exception() else []
            job.done(len(deleted), sum(size for _, size in deleted))
        # Rows and files one after the other: at the same time they take the interpreter's lock from each other for every file, and are
        # slower together. What others delete may keep the disk busy for longer.
        await store.settle_garbage(_FILES_SECONDS)
        if missing:
            gone = {name for name, _ in deleted}
            for name in batch:
                if name not in gone:
                    job.failed(missing.format(bucket.id.object_cname(name)))


async def delete_prefix(
    job: Job, store: Store, scanner: Scanner, bucket: Bucket, prefix: str, *, recursive: bool
) -> None:
    """Delete all objects with a prefix; without recursion only those with no `/` after it."""
    async for rows in pages(scanner, bucket, prefix, "", recursive=recursive):
        await delete_names(job, store, bucket, (row[0] for row in rows), "")


async def visit(job: Job, scanner: Scanner, bucket: Bucket, prefix: str, at_least: int) -> None:
    """Count the objects of at least this size: jobs that would move content elsewhere have nothing to move here."""
    async for rows in pages(scanner, bucket, prefix, ", size", recursive=True):
        sizes = [size for _, size in rows if int(size) >= at_least]
        job.done(len(sizes), sum(map(int, sizes)))


async def pages(
    scanner: Scanner, bucket: Bucket, prefix: str, columns: str, *, recursive: bool
) -> AsyncIterator[list[Row]]:
    """Name and `columns` of the objects with a prefix, many at a time."""
    bounds = Bounds(prefix, prefix)
    while True:
        rows = await scanner.run(lambda: scanner.rows(bucket.bid, bounds, columns, _SCAN))  # noqa: B023 (awaited before it changes)
        if not rows:
            return
        yield [row for row in rows if recursive or "/" not in row[0][len(prefix) :]]
        bounds = Bounds(prefix, rows[-1][0], inclusive=False)
