"""Transformation of many objects by one job: several at a time, each stored whole or not at all."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

from aistore.server.api.copying import copying_of
from aistore.server.api.remote.reading import cached
from aistore.server.api.remote.selecting import objects_there
from aistore.server.etl.running import ObjectError, Order, TransformFailed
from aistore.server.etl.source import Source
from aistore.server.etl.storing import drain_answer, store_answer
from aistore.server.jobs.objects import pages
from aistore.server.jobs.parallel import in_parallel
from aistore.server.store.errors import StoreFull
from aistore.wire.errors import ApiError, out_of_space
from aistore.wire.messages import CopyObjects
from aistore.wire.names import check_object_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from aistore.server.etl.registry import Definition
    from aistore.server.etl.running import Running
    from aistore.server.jobs.copying import Plan
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["Chain", "Transforming"]

_AUTO_WORKERS: Final = min(32, 8 * (os.cpu_count() or 1))
_WORKERS_MAX: Final = 128
_NOT_FOUND: Final = "object not found"


class Chain:
    """An ETL, and those that get its output."""

    def __init__(self, definitions: list[Definition]) -> None:
        self._definitions = definitions
        members = [one.running for one in definitions if one.running is not None]
        self.running: Running = members[0]
        self.stages = tuple(members[1:])

    @contextlib.contextmanager
    def used_by(self, job: Job) -> Iterator[None]:
        """While this lasts, an ETL that ends takes the job along. Raises ApiError 404 if one has ended already."""
        wanted = (self.running, *self.stages)
        if any(one.running is not running for one, running in zip(self._definitions, wanted, strict=True)):
            raise ApiError(404, f"ETL {self.running.name} was stopped")
        for one in self._definitions:
            one.users.add(job)
        try:
            yield
        finally:
            for one in self._definitions:
                one.users.discard(job)


class Transforming:
    """One request: what is made of which objects, and where it goes. `target` None is a dry run into a bucket that does not exist."""

    def __init__(
        self,
        node: Node,
        job: Job,
        chain: Chain,
        source: Bucket,
        target: Bucket | None,
        plan: Plan,
        *,
        fresh: bool,
        workers: int,
        everything: bool,
    ) -> None:
        self._node = node
        self._job = job
        self._chain = chain
        self._source = source
        self._target = target
        self._plan = plan
        self._fresh = fresh
        self._everything = everything
        """Of a remote bucket also what is not cached."""
        self._workers = 1 if workers < 0 else min(workers or _AUTO_WORKERS, _WORKERS_MAX)

    async def names(self, names: Iterable[str], *, missing: bool = True) -> None:
        """Transform objects by their names. Those that do not exist are errors of the job, if `missing`."""

        async def given() -> AsyncIterator[str]:
            for name in names:
                yield name

        await self._all(given(), missing=missing)

    async def prefix(self, prefix: str, *, recursive: bool) -> None:
        """Transform the objects with a prefix; without recursion only those with no `/` after it."""
        if self._everything and self._source.remote is not None:
            there = objects_there(self._node, self._source, prefix, recursive=recursive)
            await self._all((found.name async for found in there), missing=False)
            return
        in_place = self._target is not None and self._target.bid == self._source.bid
        before = time.time_ns()

        async def found() -> AsyncIterator[str]:
            scanner = self._node.control.scanner
            async for rows in pages(scanner, self._source, prefix, ", mtime", recursive=recursive):
                for name, changed in rows:
                    if not in_place or changed < before:  # what this job makes is not transformed again
                        yield name

        await self._all(found(), missing=False)

    async def synchronize(self, prefix: str) -> None:
        """Delete objects of the target, with this prefix, that no object of the source is the original of."""
        message = CopyObjects(prepend=self._plan.prepend, ext=dict(self._plan.ext), dry_run=self._plan.dry_run)
        copying = copying_of(self._node, self._job, self._source, self._target, message, everything=self._everything)
        await copying.synchronize(prefix)

    async def _all(self, names: AsyncIterator[str], *, missing: bool) -> None:
        """Several at a time; the first failure that ends the job ends the others too, and nothing half-done is left."""
        await in_parallel(names, self._workers, lambda name: self._one(name, missing=missing))

    async def _one(self, name: str, *, missing: bool) -> None:
        cname = self._source.id.object_cname(name)
        try:
            size = await self._transform(name)
        except TransformFailed as error:
            self._failed(cname, error.message, error.status)
            if not self._plan.coer:
                raise
        except ApiError as error:
            if error.status == 404:
                if missing:
                    self._failed(cname, _NOT_FOUND, 404)
                return
            self._failed(cname, error.message, error.status)
            if not self._plan.coer:
                raise
        except StoreFull as error:  # there will not be more room for the next one
            full = out_of_space(str(error))
            self._failed(cname, full.message, full.status)
            raise full from error
        else:
            self._job.done(1, size)

    def _failed(self, cname: str, text: str, status: int) -> None:
        self._chain.running.note_error(ObjectError(cname, text, status), self._job.id)
        if self._plan.coer or status == 404:
            self._job.failed(f"{cname}: {text}")

    async def _transform(self, name: str) -> int:
        """Transform one object; bytes of what was made. Raises `ApiError`, `TransformFailed`."""
        node, running = self._node, self._chain.running
        name = check_object_name(name)
        made = check_object_name(self._plan.copy_of(name))
        row = await cached(node, self._source, name, latest=self._fresh)
        source = await Source.open(node.store, self._source, row)
        if source is None:
            raise ApiError(404, _NOT_FOUND)
        try:
            order = Order(self._source.id, name, "", self._chain.stages, self._fresh)
            answer = await running.transform(node.store, order, source)
            try:
                if self._plan.dry_run:
                    return await drain_answer(running, answer)
                assert self._target is not None
                return await store_answer(node, running, answer, self._target, made, at=self._job.time_of_copies)
            finally:
                answer.close()
        finally:
            source.close()
