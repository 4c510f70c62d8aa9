"""The registry of jobs: asyncio tasks with counters, and the history of those that ended (protocol/30).

Effects of a job are visible before its end is, and the counters are final by then. A job is noted in the catalog when it starts: one that
was cut off by the end of its process is shown as aborted afterwards. A job of an idle kind takes further requests for the
same buckets while it lives, and ends a while after the last one (protocol/30 3, 11).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from aistore.server.store.copying import undo_copies
from aistore.server.store.errors import BucketGone, StoreError
from aistore.server.store.job_records import drop_records, keep_record, load_records
from aistore.wire.errors import ApiError
from aistore.wire.ids import new_job_id
from aistore.wire.kinds import KINDS
from aistore.wire.names import BucketId  # noqa: TC001 (msgspec reads the annotations of _Record)
from aistore.wire.snaps import JobSnapshot, JobStats, JobStatus, NamespaceRef, PrintedBucket, fold_errors
from aistore.wire.values import SECOND, format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from aistore.server.store.catalog import Transaction
    from aistore.server.store.store import Store

    Work = Callable[["Job"], Coroutine[object, object, None]]

__all__ = ["CUT_OFF", "USER_ABORT", "Job", "JobRegistry", "too_many"]

logger = logging.getLogger(__name__)

# Finished jobs are shown, and kept in the catalog, for an hour, and longer while there are not more than this (protocol/30 10). Nobody
# gets to the second number in an hour, but for load tests.
_RECORDS_KEPT: Final = 1024
_RECORDS_MAX: Final = 16_384
_KEPT_FOR: Final = 3600.0
# More of one job than that are refused until some have ended.
_REQUESTS_MAX: Final = 1024
# Bytes of names that jobs, and requests that wait for one, were given; each name takes some besides its letters. A list may take half of what
# is left, so that short ones find room: the longest that a message holds takes 96 MiB.
_NAMES_MAX: Final = 256 << 20
_NAME: Final = 64

# Seconds without work after which a job of an idle kind is shown as idle, and after which it ends. The reference's first is at least
# 4, for what may still come from other targets; here it only has to tell "just done" from "done".
_IDLE_AFTER: Final = 0.5
_LIVES_FOR: Final = 60.0

USER_ABORT: Final = "user abort"
CUT_OFF: Final = "the server was killed while the job ran"
_NO_BUCKET: Final = PrintedBucket()


class _Record(msgspec.Struct, kw_only=True):
    """What is kept of a job; times in Unix nanoseconds, 0 for an end that is not yet."""

    id: str
    kind: str
    bucket: BucketId | None = None
    source: BucketId | None = None
    destination: BucketId | None = None
    started: int = 0
    ended: int = 0
    objects: int = 0
    bytes: int = 0
    errors: int = 0
    first_error: str = ""
    abort_reason: str = ""
    control: str = ""
    made: int = 0
    """Number of the destination if it was made for this job: it goes if the job does not get to its end."""


class Job:
    """A running or finished job. Whoever does the work counts on it: `done`, `failed`."""

    def __init__(self, record: _Record) -> None:
        self._record = record
        self._task: asyncio.Future[None] | None = None
        self._requests: _Requests | None = None
        self._noted: asyncio.Future[None] | None = None
        self._names = 0  # bytes of those that it holds

    @property
    def id(self) -> str:
        return self._record.id

    @property
    def kind(self) -> str:
        return self._record.kind

    @property
    def running(self) -> bool:
        return not self._record.ended

    @property
    def aborted(self) -> bool:
        return bool(self._record.abort_reason)

    @property
    def ended(self) -> int:
        """Unix nanoseconds, 0 while it runs."""
        return self._record.ended

    async def noted(self) -> None:
        """Wait until its start is noted in the catalog, or cannot be."""
        if self._noted is not None:
            await asyncio.wait((self._noted,))

    def when_ended(self, told: Callable[[], None]) -> None:
        """Have `told` called when its work is over, however that ends; its status is known by then."""
        assert self._task is not None
        self._task.add_done_callback(lambda _: told())

    def done(self, objects: int, size: int) -> None:
        """So many more objects, with so many bytes, were processed."""
        self._record.objects += objects
        self._record.bytes += size

    def failed(self, error: str) -> None:
        """One object could not be processed; the job goes on."""
        record = self._record
        record.errors += 1
        if not record.first_error:
            record.first_error = error

    def give_up(self, reason: str) -> None:
        """A request of an idle kind failed: no more are taken, and the job ends aborted once those that it has are done."""
        assert self._requests is not None
        self._requests.give_up(reason)

    @property
    def pair(self) -> tuple[BucketId | None, BucketId | None]:
        """Source and destination."""
        return self._record.source, self._record.destination

    def has_made(self, number: int) -> None:
        """The destination was made for this job, and has this number: it is destroyed if the job fails, is aborted or cut off.

        Called by the change that makes it, so that both are noted at once. If others have stored something in it by then, only the
        objects with `time_of_copies` go.
        """
        self._record.made = number

    @property
    def time_of_copies(self) -> int:
        """The time of all objects that the job makes in a destination that was made for it, else 0."""
        return self._record.started if self._record.made else 0

    @property
    def busy(self) -> bool:
        """Whether it works, or is about to."""
        return self.running and (self._requests is None or self._requests.pending > 0)

    def concerns(self, bucket: BucketId) -> bool:
        """Whether the job works on this bucket."""
        record = self._record
        return bucket in (record.bucket, record.source, record.destination)

    @property
    def abort_reason(self) -> str:
        """Why it was aborted; empty if it was not."""
        return self._record.abort_reason

    def status(self) -> JobStatus:
        """The status record; an aborted job has the reason as error."""
        record = self._record
        error = record.abort_reason or fold_errors(record.first_error, record.errors)
        return JobStatus(record.kind, record.id, error, record.ended, bool(record.abort_reason))

    def snapshot(self, *, counted: bool = True) -> JobSnapshot:
        """The snapshot on one target; counters are shown on one only (`counted`), so that their sum is right."""
        record = self._record
        return JobSnapshot(
            id=record.id,
            kind=record.kind,
            start_time=format_time(record.started),
            end_time=format_time(record.ended),
            bck=_ref(record.bucket),
            src_bck=_ref(record.source),
            dst_bck=_ref(record.destination),
            ctlmsg=record.control or msgspec.UNSET,
            abort_err=record.abort_reason,
            err=fold_errors(record.first_error, record.errors) if counted else "",
            stats=JobStats(str(record.objects), str(record.bytes)) if counted else JobStats(),
            aborted=bool(record.abort_reason),
            is_idle=bool(record.ended) or (self._requests is not None and self._requests.idle),
        )


class _Requests:
    """What is asked of a job of an idle kind: one request after another, in the order in which they came."""

    def __init__(self, lives_for: float) -> None:
        self._lives_for = lives_for
        self._queue: deque[Work] = deque()
        self._more = asyncio.Event()
        self._quiet_since = time.monotonic()
        self.pending = 0
        """Requests that wait or are worked on."""
        self.closed = False
        """Whether no more are taken."""
        self._failure = ""

    @property
    def idle(self) -> bool:
        """Whether there was nothing to do for a while."""
        return not self.pending and time.monotonic() - self._quiet_since >= _IDLE_AFTER

    def add(self, work: Work) -> None:
        """Queue a request."""
        self.pending += 1
        self._queue.append(work)
        self._more.set()

    def close(self) -> None:
        """Take no more requests; the job ends when there is nothing left to do."""
        self.closed = True
        self._more.set()

    def give_up(self, reason: str) -> None:
        """Take no more requests; the job ends with this reason, or an earlier one, when there is nothing left to do."""
        self._failure = self._failure or reason
        self.close()

    async def serve(self, job: Job) -> None:
        """Work on requests until none has come for a while. One that is refused or fails is an error of the job; others go on."""
        while True:
            while self._queue:
                try:
                    await self._queue.popleft()(job)
                except ApiError as error:
                    job.failed(error.message)
                except (StoreError, OSError) as error:
                    job.failed(str(error))
                finally:
                    self.pending -= 1
                    self._quiet_since = time.monotonic()
            if self._failure:
                raise ApiError(400, self._failure)
            if self.closed:
                return
            self._more.clear()
            # Not `wait_for`: until 3.12 it swallows an abort that comes together with a request.
            timer = asyncio.get_running_loop().call_later(self._lives_for, self._more.set)
            try:
                await self._more.wait()
            finally:
                timer.cancel()
            self.closed = self.closed or not self._queue


class JobRegistry:
    """All jobs of the cluster; they belong to the gateway.

    Jobs of idle kinds end `lives_for` seconds after their last request; finished ones are shown for `kept_for` seconds at least.
    """

    def __init__(
        self,
        store: Store,
        *,
        at_once: int = 1 << 30,
        lives_for: float = _LIVES_FOR,
        kept_for: float = _KEPT_FOR,
    ) -> None:
        self._store = store
        self._at_once = at_once
        self._lives_for = lives_for
        self._kept_for = kept_for
        self._running: dict[str, Job] = {}
        # In the order of ends, the latest last. A plain dict takes longer and longer to find its first key when keys are taken from it.
        self._finished: OrderedDict[str, Job] = OrderedDict()
        self._keeping: set[asyncio.Future[None]] = set()
        self._names = 0  # bytes of those that all jobs hold
        self.ended: dict[tuple[str, bool], int] = {}
        """How many jobs have ended since the start, by kind and whether they were aborted or failed."""
        for data in load_records(store.catalog):
            record = msgspec.json.decode(data, type=_Record)
            self._finished[record.id] = Job(record)
            if not record.ended:
                self._cut_off(record)

    def _cut_off(self, record: _Record) -> None:
        """The process that ran this job was killed. What is shown of it is not written by targets, which only look."""
        record.abort_reason = CUT_OFF
        record.ended = time.time_ns()
        if self._store.primary and record.made:
            self._in_background(self._undo(record))
        elif self._store.primary:
            self._note(record)

    async def recovered(self) -> None:
        """Wait until what jobs left over that were cut off is gone."""
        await self._kept()

    async def _kept(self) -> None:
        while self._keeping:
            await asyncio.gather(*self._keeping, return_exceptions=True)

    # -- finding -----------------------------------------------------------------------------------------------

    def find(self, job_id: str) -> Job | None:
        """The job of this id."""
        return self._running.get(job_id) or self._finished.get(job_id)

    def select(self, kind: str = "", bucket: BucketId | None = None, *, running: bool | None = None) -> list[Job]:
        """Jobs of a kind and on a bucket, running or finished or both; running ones first, of each the latest first.

        `bucket` restricts only the kinds that are bound to one (protocol/30 6).
        """
        return [
            job
            for job in (*reversed(self._running.values()), *reversed(self._finished.values()))
            if (not kind or job.kind == kind)
            and (running is None or job.running is running)
            and (bucket is None or KINDS[job.kind].scope != "B" or job.concerns(bucket))
        ]

    def check_room(self, names: Sequence[str] = ()) -> None:
        """Raise `ApiError` 429 while no job with these names would be started: for calls that change something before they start theirs."""
        if len(self._running) >= self._at_once:
            raise too_many(f"{len(self._running)} jobs are running")
        self._weigh(names)

    # -- running -----------------------------------------------------------------------------------------------

    def start(
        self,
        kind: str,
        work: Work,
        *,
        job_id: str = "",
        bucket: BucketId | None = None,
        source: BucketId | None = None,
        destination: BucketId | None = None,
        control: str = "",
        names: Sequence[str] = (),
    ) -> Job:
        """Run `work` in the background; the job is known when this returns. `control` describes it in its snapshots, `names` are held by `work`.

        Raises `ApiError` 429 while too many run, or hold too many names.
        """
        self.check_room()
        weight = self._weigh(names)
        record = _Record(
            id=job_id or new_job_id(),
            kind=kind,
            bucket=bucket,
            source=source,
            destination=destination,
            started=time.time_ns(),
            control=control,
        )
        job = Job(record)
        self._hold(job, weight)
        self._running[job.id] = job
        job._noted = self._note(record)
        # A callback learns of the end even when the job is stopped before it took its first step.
        job._task = asyncio.ensure_future(work(job))
        job._task.add_done_callback(lambda task: self._ended(job, record, task))
        return job

    def join(
        self,
        kind: str,
        work: Work,
        *,
        bucket: BucketId | None,
        source: BucketId | None = None,
        destination: BucketId | None = None,
        job_id: str = "",
        control: str = "",
        names: Sequence[str] = (),
    ) -> Job:
        """Hand a request to the job of an idle kind that lives on these buckets, or start one (as `job_id`) for it.

        Requests of one job run one after another. What `work` raises as `ApiError` or error of the store is an error of the job, not its
        end. `control` describes the latest request, `names` are held by `work`. Raises `ApiError` 429 while too many wait, or hold too many names.
        """
        buckets = (bucket, source, destination)
        weight = self._weigh(names)

        async def weighed(job: Job) -> None:
            try:
                await work(job)
            finally:
                self._hold(job, -min(weight, job._names))

        for job in reversed(self._running.values()):
            record, requests = job._record, job._requests
            if (
                record.kind == kind
                and requests is not None
                and not (requests.closed or record.ended or record.abort_reason)
                and (record.bucket, record.source, record.destination) == buckets
            ):
                if requests.pending >= _REQUESTS_MAX:
                    raise too_many(f"{requests.pending} requests wait for job {job.kind}[{job.id}]")
                record.control = control
                self._hold(job, weight)
                requests.add(weighed)
                return job
        requests = _Requests(self._lives_for)
        job = self.start(
            kind,
            requests.serve,
            job_id=job_id,
            bucket=bucket,
            source=source,
            destination=destination,
            control=control,
        )
        job._requests = requests
        self._hold(job, weight)
        requests.add(weighed)
        return job

    def _weigh(self, names: Sequence[str]) -> int:
        """Bytes of a list of names. Raises `ApiError` 429 where there is no room for them."""
        weight = sum(map(len, names)) + _NAME * len(names)
        if weight > (_NAMES_MAX - self._names) // 2:
            raise too_many(f"jobs have lists of names of {self._names >> 20} MiB to work on")
        return weight

    def _hold(self, job: Job, weight: int) -> None:
        job._names += weight
        self._names += weight

    def _ended(self, job: Job, record: _Record, task: asyncio.Future[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            record.abort_reason = record.abort_reason or USER_ABORT
        elif isinstance(error, ApiError):
            record.abort_reason = error.message
        elif isinstance(error, StoreError | OSError):
            record.abort_reason = str(error)
        elif error is not None:  # a defect must not leave a job that seems to run for ever
            logger.error("job %s[%s] failed", job.kind, job.id, exc_info=error)
            record.abort_reason = f"internal error: {type(error).__name__}: {error} (see the server's log)"
        if record.made:
            self._in_background(self._end_with_destination(job, record))
        else:
            self._end(job, record)

    async def _end_with_destination(self, job: Job, record: _Record) -> None:
        """End a job whose destination goes with it if it failed.

        Who is told that it has ended well relies on what it made: so that is noted first, since a start destroys what jobs have made that
        were cut off.
        """
        if not record.abort_reason:
            try:
                await self._note(replace(record, ended=time.time_ns()))
            except (StoreError, OSError, sqlite3.Error) as error:
                record.abort_reason = f"its end could not be noted: {error}"
        if record.abort_reason:
            await self._destroy_destination(record)
        self._end(job, record)

    def _end(self, job: Job, record: _Record) -> None:
        record.ended = time.time_ns()
        outcome = record.kind, bool(record.abort_reason)
        self.ended[outcome] = self.ended.get(outcome, 0) + 1
        del self._running[job.id]
        job._task = job._requests = None  # what they were given goes with them
        self._hold(job, -job._names)
        self._finished[job.id] = job
        self._note(record, self._forget_old())

    async def _undo(self, record: _Record) -> None:
        await self._destroy_destination(record)
        self._note(record)

    async def _destroy_destination(self, record: _Record) -> None:
        made = self._store.bucket(record.destination) if record.destination is not None else None
        if made is None or made.bid != record.made:
            return
        try:
            await undo_copies(self._store, made, record.started)
        except BucketGone:  # the user was faster
            pass
        except Exception:
            logger.exception(
                "%s, left over by job %s[%s], could not be destroyed", made.id.cname, record.kind, record.id
            )

    def _in_background(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(work)
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    def _forget_old(self) -> list[str]:
        """Drop the oldest records while there are too many; their ids."""
        dropped: list[str] = []
        limit = time.time_ns() - round(self._kept_for * SECOND)
        while len(self._finished) > _RECORDS_KEPT:
            oldest = next(iter(self._finished))
            if self._finished[oldest].ended > limit and len(self._finished) <= _RECORDS_MAX:
                break
            del self._finished[oldest]
            dropped.append(oldest)
        return dropped

    def forget(self, job_id: str) -> None:
        """Drop the record of a job that has ended: what it found out is not kept either."""
        if self._finished.pop(job_id, None) is not None:
            self._submit(lambda tx: drop_records(tx, [job_id]), f"of job {job_id}")

    def _note(self, record: _Record, dropped: Sequence[str] = ()) -> asyncio.Future[None]:
        """Write the job's record, and remove those of others; queued at once, so that what the job does comes after it."""

        def change(tx: Transaction) -> None:
            keep_record(tx, record.id, record.ended, msgspec.json.encode(record))
            drop_records(tx, dropped)

        return self._submit(change, f"of job {record.kind}[{record.id}]")

    def _submit(self, change: Callable[[Transaction], None], of_job: str) -> asyncio.Future[None]:
        def noted(future: asyncio.Future[None]) -> None:
            self._keeping.discard(future)
            error = None if future.cancelled() else future.exception()
            if error is not None:  # the job does its work all the same; only its history is incomplete
                logger.error("the record %s could not be kept", of_job, exc_info=error)

        future = self._store.catalog.submit(change)
        self._keeping.add(future)
        future.add_done_callback(noted)
        return future

    def abort(self, job: Job) -> None:
        """Tell a running job to stop; it ends soon after. One that has ended is left as it is."""
        if job.running and job._task is not None:
            job._record.abort_reason = USER_ABORT
            job._task.cancel()

    async def close(self) -> None:
        """Stop what runs, and keep its records."""
        tasks = []
        for job in self._running.values():
            if job._task is not None:
                if job._requests is not None and not job._requests.pending:
                    job._requests.close()
                else:
                    job._record.abort_reason = job._record.abort_reason or "the server was stopped"
                    job._task.cancel()
                tasks.append(job._task)
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._kept()


def too_many(what: str) -> ApiError:
    """The refusal of one more job than may run."""
    return ApiError(429, f"{what}: try again when some have ended", headers={"Retry-After": "1"})


def _ref(bucket: BucketId | None) -> PrintedBucket:
    if bucket is None:
        return _NO_BUCKET
    return PrintedBucket(bucket.name, bucket.provider, NamespaceRef(bucket.uuid, bucket.namespace))
