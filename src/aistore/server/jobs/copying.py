"""Copies of many objects (protocol/10 14, 23.4): content is shared, so a job writes rows only."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.server.jobs.objects import pages
from aistore.server.store.copying import copy_objects
from aistore.server.store.room import make_room
from aistore.wire.errors import ApiError
from aistore.wire.names import check_object_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aistore.server.jobs.registry import Job
    from aistore.server.store.rows import Bucket
    from aistore.server.store.scan import Row, Scanner
    from aistore.server.store.store import Store

__all__ = ["Copying", "Plan"]

_BATCH: Final = 200  # copies in one change of the catalog: a few milliseconds of the loop
_ROW_BYTES: Final = 300  # in the catalog, about


class Plan(NamedTuple):
    """What a request asks for."""

    prepend: str
    ext: Mapping[str, str]
    dry_run: bool
    synchronize: bool
    coer: bool
    """Go on when an object fails."""

    def copy_of(self, name: str) -> str:
        """Name of the copy (protocol/10 14.1)."""
        stem, dot, extension = name.rpartition(".")
        if dot and extension in self.ext:
            name = f"{stem}.{self.ext[extension].lstrip('.')}"
        return self.prepend + name

    def originals_of(self, name: str) -> list[str]:
        """Names whose copy would have this one, without `prepend`."""
        found = [name] if self.copy_of(name) == self.prepend + name else []
        for old, new in self.ext.items():
            ending = "." + new.lstrip(".")
            if name.endswith(ending):
                found.append(f"{name[: -len(ending)]}.{old}")
        return found


class Copying(NamedTuple):
    """One request: from where to where, and how. `checksum` is the type that the target's objects get."""

    job: Job
    store: Store
    scanner: Scanner
    source: Bucket
    target: Bucket | None
    """None for a dry run into a bucket that does not exist."""
    checksum: str
    plan: Plan

    async def names(self, names: Iterable[str], missing: str = "") -> None:
        """Copy objects by their names. Those that do not exist are errors, worded by `missing`, or nothing if that is empty."""
        left = iter(names)
        while batch := list(islice(left, _BATCH)):
            if self.plan.dry_run:
                self._visit_names(batch, missing)
            else:
                await self._copy(batch, missing)

    async def prefix(self, prefix: str, *, recursive: bool = True, count_bytes: bool = True) -> None:
        """Copy the objects with a prefix; without recursion only those with no `/` after it. `count_bytes`: in a dry run."""
        # Copies in the same bucket are not copied again.
        before = time.time_ns() if self._in_place else 0
        async for rows in pages(self.scanner, self.source, prefix, ", size, mtime", recursive=recursive):
            chosen = [row for row in rows if row[2] < before] if before else rows
            if self.plan.dry_run:
                self.job.done(len(chosen), sum(row[1] for row in chosen) if count_bytes else 0)
            else:
                await self.names(row[0] for row in chosen)

    async def synchronize(self, prefix: str) -> None:
        """Delete objects of the target, with this prefix, that are copies of none."""
        if self.plan.dry_run or self.target is None or self._in_place:
            return
        async for rows in pages(self.scanner, self.target, prefix, "", recursive=True):
            for start in range(0, len(rows), _BATCH):
                batch = rows[start : start + _BATCH]
                orphans = await self.scanner.run(lambda: self._orphans(batch, prefix))  # noqa: B023 (awaited before it changes)
                if orphans:
                    await self.store.delete(self.target, orphans)

    async def synchronize_names(self, names: Iterable[str]) -> None:
        """Delete objects of the target that are copies of these names, where there is no object of that name."""
        target = self.target
        if self.plan.dry_run or target is None or self._in_place:
            return
        left = iter(names)
        while batch := list(islice(left, _BATCH)):
            gone = [self.plan.copy_of(name) for name in batch if self.store.lookup(self.source, name) is None]
            if gone:
                await self.store.delete(target, gone)

    @property
    def _in_place(self) -> bool:
        return self.target is not None and self.target.bid == self.source.bid

    def _visit_names(self, names: list[str], missing: str) -> None:
        there = [name for name in names if self.store.lookup(self.source, name) is not None]
        self.job.done(len(there), 0)
        if missing and len(there) < len(names):
            self._tell_missing(set(names).difference(there), missing)

    async def _copy(self, names: list[str], missing: str) -> None:
        assert self.target is not None
        pairs = []
        for name in names:
            try:
                pairs.append((name, check_object_name(self.plan.copy_of(name))))
            except ApiError as error:
                self._failed(error)
        await make_room(self.store, len(pairs) * _ROW_BYTES, in_catalog=True)
        done = await copy_objects(
            self.store, self.source, self.target, pairs, self.checksum, time_of_all=self.job.time_of_copies
        )
        self.job.done(done.objects, done.bytes)
        if missing:
            self._tell_missing(done.missing, missing)
        for name, why in done.failed:
            self._failed(ApiError(500, f"{self.source.id.object_cname(name)}: {why}"))

    def _tell_missing(self, names: Iterable[str], missing: str) -> None:
        for name in names:
            self.job.failed(missing.format(self.source.id.object_cname(name)))

    def _failed(self, error: ApiError) -> None:
        """One object cannot be copied: that ends the job, or is noted."""
        if not self.plan.coer:
            raise error
        self.job.failed(error.message)

    def _orphans(self, rows: list[Row], prefix: str) -> list[str]:
        """Of objects of the target those that are copies of none (in a scanning thread)."""
        return [
            name
            for (name,) in rows
            if not any(
                self.scanner.exists(self.source.bid, one)
                for one in self.plan.originals_of(name)
                if one.startswith(prefix)
            )
        ]
