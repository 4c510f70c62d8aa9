"""Counting what buckets hold, and the results, which whoever started the job asks for (protocol/10 11)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.server.jobs.registry import too_many
from aistore.wire import actions
from aistore.wire.snaps import NamespaceRef

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aistore.server.jobs.registry import Job, JobRegistry
    from aistore.server.store.rows import Bucket
    from aistore.server.store.scan import Scanner
    from aistore.server.store.store import Store

__all__ = ["BucketSummary", "Summaries"]

_KEPT: Final = 256
_OF_BUCKET_MAX: Final = 64  # at once: who may look at one bucket leaves others their turns


class _Counts(msgspec.Struct):
    obj_count_present: str
    obj_count_remote: str = "0"


class _Sizes(msgspec.Struct):
    obj_min_size: int
    obj_avg_size: int
    obj_max_size: int


class _Totals(msgspec.Struct):
    size_on_disk: str
    size_all_present_objs: str
    size_all_remote_objs: str
    total_disks_size: str


class BucketSummary(msgspec.Struct, kw_only=True):
    """What a bucket holds, as servers print it."""

    name: str
    provider: str
    namespace: NamespaceRef
    counts: _Counts = msgspec.field(name="ObjCount")
    sizes: _Sizes = msgspec.field(name="ObjSize")
    totals: _Totals = msgspec.field(name="TotalSize")
    used_pct: int
    is_present: bool


class Summaries:
    """Counts, and keeps the last results by the jobs' ids; so many `at_once`, since they take places of jobs that need more rights."""

    def __init__(self, store: Store, scanner: Scanner, jobs: JobRegistry, *, at_once: int) -> None:
        self._store = store
        self._scanner = scanner
        self._jobs = jobs
        self._at_once = at_once
        self._running: Counter[int] = Counter()
        """How many run, by the bucket's number; 0 stands for several buckets."""
        self._results: OrderedDict[str, list[BucketSummary]] = OrderedDict()

    def start(self, buckets: Sequence[Bucket], prefix: str) -> Job:
        """Count the objects with a prefix, for each bucket. Raises `ApiError` 429 while too many do."""
        bid = buckets[0].bid if len(buckets) == 1 else 0
        if sum(self._running.values()) >= self._at_once or self._running[bid] >= _OF_BUCKET_MAX:
            raise too_many(
                f"{sum(self._running.values())} summaries, {self._running[bid]} of the same bucket, are being made"
            )

        async def work(job: Job) -> None:
            disk, _ = self._store.disk()
            results = []
            for bucket in buckets:
                objects, size, least, most = await self._scanner.run(lambda: self._scanner.totals(bucket.bid, prefix))  # noqa: B023 (awaited before it changes)
                job.done(objects, size)
                results.append(_summary(bucket, objects, size, (least, most), disk))
            self._results[job.id] = results

        job = self._jobs.start(actions.SUMMARY, work, bucket=buckets[0].id if bid else None)
        self._running[bid] += 1
        job.when_ended(lambda: self._over(bid))
        return job

    def _over(self, bid: int) -> None:
        self._running[bid] -= 1
        if not self._running[bid]:
            del self._running[bid]
        while len(self._results) > _KEPT:  # whose records would push those of other jobs out
            self._jobs.forget(self._results.popitem(last=False)[0])

    def find(self, job_id: str) -> list[BucketSummary] | None:
        """The result of a job; None while it counts, if it was aborted, or if it is too long ago."""
        job = self._jobs.find(job_id)
        return self._results.get(job_id) if job is not None and job.ended else None


def _summary(bucket: Bucket, objects: int, size: int, extremes: tuple[int, int], disk: int) -> BucketSummary:
    identity = bucket.id
    return BucketSummary(
        name=identity.name,
        provider=identity.provider,
        namespace=NamespaceRef(identity.uuid, identity.namespace),
        counts=_Counts(str(objects)),
        sizes=_Sizes(extremes[0], round(size / objects) if objects else 0, extremes[1]),
        totals=_Totals(str(size), str(size), "0", str(disk)),
        used_pct=round(100 * size / disk) if disk else 0,
        is_present=False,
    )
