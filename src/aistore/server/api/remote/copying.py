"""Copies of many objects where the source, the destination or both live elsewhere (protocol/10 14, 23.4).

What comes from a remote source comes through the cache, so that a copy in a native bucket shares the cached content. What goes to a remote
destination goes to its backend; the cache of the destination fills when it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aistore.server.api.multiobj import Selected
from aistore.server.api.remote.copying_out import copy_out
from aistore.server.api.remote.reading import cached, head_there
from aistore.server.api.remote.selecting import cached_names, objects_there
from aistore.server.api.remote.writing import delete
from aistore.server.backends.errors import RemoteError
from aistore.server.jobs.objects import pages
from aistore.server.jobs.parallel import in_parallel
from aistore.server.store.copying import copy_objects
from aistore.server.store.errors import StoreError
from aistore.wire.errors import ApiError
from aistore.wire.messages import ListRange
from aistore.wire.names import check_object_name
from aistore.wire.template import Template

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from aistore.server.jobs.copying import Plan
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket, ObjectRow

__all__ = ["RemoteCopying"]

# How often a copy begins anew because its source was evicted before it was copied.
_ROUNDS: Final = 8


@dataclass(frozen=True)
class RemoteCopying:
    """One request: from where to where, and how; with the methods of `jobs.copying.Copying`."""

    job: Job
    node: Node
    source: Bucket
    target: Bucket | None
    """None for a dry run into a bucket that does not exist."""
    plan: Plan
    workers: int
    latest: bool
    """Compare what is cached of the source with its backend first."""
    everything: bool
    """Of a prefix also what is not cached, as the backend lists it."""

    async def names(self, names: Iterable[str], missing: str = "") -> None:
        """Copy objects by their names. Those that do not exist are errors, worded by `missing`, or nothing if that is empty."""

        async def given() -> AsyncIterator[str]:
            for name in names:
                yield name

        await self._all(given(), missing, count_bytes=False)

    async def prefix(self, prefix: str, *, recursive: bool = True, count_bytes: bool = True) -> None:
        """Copy the objects with a prefix; without recursion only those with no `/` after it. `count_bytes`: in a dry run."""
        names = self._source_names(prefix, recursive=recursive)
        if self._in_place:  # copies in the same bucket are not copied again
            await self.names([name async for name in names])
        else:
            await self._all(names, "", count_bytes=count_bytes)

    async def synchronize(self, prefix: str) -> None:
        """Delete objects of the destination, with this prefix, that are copies of none."""
        target = self.target
        if self.plan.dry_run or target is None or self._in_place:
            return

        async def one(name: str) -> None:
            for original in self.plan.originals_of(name):
                if original.startswith(prefix) and await self._exists(original):
                    return
            await self._delete(target, name)

        await in_parallel(self._target_names(target, prefix), self.workers, one)

    async def synchronize_names(self, names: Iterable[str]) -> None:
        """Delete objects of the destination that are copies of these names, where there is no object of that name."""
        target = self.target
        if self.plan.dry_run or target is None or self._in_place:
            return

        async def given() -> AsyncIterator[str]:
            for name in names:
                yield name

        async def one(name: str) -> None:
            if not await self._exists(name):
                await self._delete(target, self.plan.copy_of(name))

        await in_parallel(given(), self.workers, one)

    # -- one object --------------------------------------------------------------------------------------------

    @property
    def _in_place(self) -> bool:
        return self.target is not None and self.target.bid == self.source.bid

    async def _all(self, names: AsyncIterator[str], missing: str, *, count_bytes: bool) -> None:
        async def one(name: str) -> None:
            try:
                there = await (self._visit(name, count_bytes=count_bytes) if self.plan.dry_run else self._copy(name))
            except ApiError as error:
                self._failed(name, error.message, error)
            except (StoreError, OSError) as error:
                self._failed(name, str(error), error)
            else:
                if not there and missing:
                    self.job.failed(missing.format(self.source.id.object_cname(name)))

        await in_parallel(names, self.workers, one)

    def _failed(self, name: str, why: str, error: Exception) -> None:
        """One object cannot be copied: that ends the job, or is noted."""
        if not self.plan.coer:
            raise error
        cname = self.source.id.object_cname(name)
        self.job.failed(why if cname in why else f"{cname}: {why}")

    async def _visit(self, name: str, *, count_bytes: bool) -> bool:
        """Count an object; False if there is none."""
        row = self.node.store.lookup(self.source, name)
        if row is not None:
            size = row.size
        elif self.source.remote is None:
            return False
        else:
            found = await head_there(self.node, self.source, name)
            if found is None:
                return False
            size = found.size
        self.job.done(1, size if count_bytes else 0)
        return True

    async def _copy(self, name: str) -> bool:
        """Copy an object; False if there is none."""
        target = self.target
        assert target is not None
        new = check_object_name(self.plan.copy_of(name))
        for _ in range(_ROUNDS):
            row = await self._original(name)
            if row is None:
                return False
            if self._in_place and new == name:  # a request to refresh
                self.job.done(1, 0)
                return True
            if target.remote is not None:
                await copy_out(self.node, self.source, name, target, new)
                self.job.done(1, row.size)
                return True
            kind = self.node.props(target).checksum.type
            done = await copy_objects(
                self.node.store, self.source, target, [(name, new)], kind, time_of_all=self.job.time_of_copies
            )
            if done.failed:
                raise ApiError(500, f"{self.source.id.object_cname(name)}: {done.failed[0][1]}")
            if not done.missing:
                self.job.done(done.objects, done.bytes)
                return True
        raise ApiError(
            409, f'object "{self.source.id.object_cname(name)}" is currently busy, please try again', "ErrBusy"
        )

    async def _original(self, name: str) -> ObjectRow | None:
        """The object to copy, brought into the cache if it is not there; None if there is none."""
        node, source = self.node, self.source
        row = node.store.lookup(source, name)
        if source.remote is None or (row is not None and not self.latest):
            return row
        try:
            return await cached(node, source, name, latest=self.latest)
        except RemoteError as error:
            if error.kind != "object":
                raise
            return None

    async def _exists(self, name: str) -> bool:
        """Whether the source has an object; its backend knows. Raises `RemoteError`."""
        if self.source.remote is None:
            return self.node.store.lookup(self.source, name) is not None
        return await head_there(self.node, self.source, name) is not None

    async def _delete(self, target: Bucket, name: str) -> None:
        if target.remote is None:
            await self.node.store.delete(target, [name])
            return
        try:
            await delete(self.node, target, name)
        except RemoteError as error:
            if error.kind != "object":
                raise

    # -- which objects -----------------------------------------------------------------------------------------

    async def _source_names(self, prefix: str, *, recursive: bool) -> AsyncIterator[str]:
        if self.source.remote is not None and not self.everything:
            message = ListRange(non_recurs=not recursive)
            async for name in cached_names(self.node, self.source, Selected(message, [], Template((prefix,)), "")):
                yield name
            return
        async for name in self._names(self.source, prefix, recursive=recursive):
            yield name

    def _target_names(self, target: Bucket, prefix: str) -> AsyncIterator[str]:
        return self._names(target, prefix, recursive=True)

    async def _names(self, bucket: Bucket, prefix: str, *, recursive: bool) -> AsyncIterator[str]:
        if bucket.remote is not None:
            async for found in objects_there(self.node, bucket, prefix, recursive=recursive):
                yield found.name
            return
        async for rows in pages(self.node.control.scanner, bucket, prefix, "", recursive=recursive):
            for row in rows:
                yield row[0]
