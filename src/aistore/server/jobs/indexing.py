"""The job that makes the member indexes of archives ahead of their first readers (protocol/30 13.16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.server.archive.archives import Content
from aistore.server.archive.formats import by_name
from aistore.server.jobs.objects import pages

if TYPE_CHECKING:
    from aistore.server.archive.archives import Archives
    from aistore.server.jobs.registry import Job
    from aistore.server.store.rows import Bucket
    from aistore.server.store.scan import Scanner
    from aistore.server.store.store import Store

__all__ = ["index_archives"]


async def index_archives(
    job: Job, store: Store, scanner: Scanner, archives: Archives, bucket: Bucket, prefix: str
) -> None:
    """Index each object with a prefix whose name is that of an archive; what is damaged is an error of the job."""
    async for rows in pages(scanner, bucket, prefix, "", recursive=True):
        for (name,) in rows:
            form = by_name(name)
            content = Content.open(store, bucket, name) if form is not None else None
            if form is None or content is None:  # deleted at this moment
                continue
            try:
                index = await archives.index(content, form)
            finally:
                content.close()
            if index.damage:
                job.failed(f"{bucket.id.object_cname(name)}: {index.damage}")
            else:
                job.done(1, content.row.size)
