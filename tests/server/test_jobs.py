from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from aistore.server.jobs import registry as jobs
from aistore.server.jobs.registry import Job, JobRegistry
from aistore.server.limits import NodeLimits
from aistore.server.store.store import Store
from aistore.wire.errors import ApiError
from aistore.wire.names import BucketId
from waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

BUCKET = BucketId("ais", "", "", "b")
OTHER = BucketId("ais", "", "", "other")


def with_registry(
    folder: Path,
    test: Callable[[JobRegistry], Awaitable[None]],
    *,
    lives_for: float = 60.0,
    kept_for: float = 3600.0,
) -> None:
    async def run() -> None:
        store = Store(folder, "relaxed")
        await store.open()
        registry = JobRegistry(store, at_once=NodeLimits.jobs, lives_for=lives_for, kept_for=kept_for)
        await test(registry)
        await registry.close()
        await store.close()

    asyncio.run(run())


async def ended(job: Job) -> None:
    if job._task is not None:
        await asyncio.wait([job._task])


async def nothing(job: Job) -> None:
    """A job without work."""


async def forever(job: Job) -> None:
    """A job that has to be stopped."""
    await asyncio.Event().wait()


def test_counters_and_errors_show_in_status_and_snapshot(tmp_path: Path) -> None:
    async def test(registry: JobRegistry) -> None:
        async def work(job: Job) -> None:
            job.done(2, 12)
            job.failed("first")
            job.failed("second")

        job = registry.start("delete-listrange", work, bucket=BUCKET, control="list:[a b]")
        assert registry.find(job.id) is job
        assert job.running
        assert job.snapshot().end_time == "0001-01-01T00:00:00Z"
        assert job.status().end_time == 0
        await ended(job)
        snapshot = job.snapshot()
        assert (snapshot.stats.loc_objs, snapshot.stats.loc_bytes) == ("2", "12")
        assert snapshot.err == "first (and 1 more error)"
        assert (snapshot.aborted, snapshot.is_idle, snapshot.bck.name, snapshot.ctlmsg) == (
            False,
            True,
            "b",
            "list:[a b]",
        )
        status = job.status()
        assert status.err == "first (and 1 more error)"
        assert status.end_time == job.ended > 0
        assert job.snapshot(counted=False).stats.loc_objs == "0"

    with_registry(tmp_path, test)


def test_abort_ends_a_running_job_and_leaves_a_finished_one(tmp_path: Path) -> None:
    async def test(registry: JobRegistry) -> None:
        running, finished = registry.start("lru", forever), registry.start("lru", nothing)
        await ended(finished)
        registry.abort(finished)
        registry.abort(running)
        await ended(running)
        assert finished.status().aborted is False
        assert (running.status().aborted, running.status().err) == (True, "user abort")
        assert running.snapshot().abort_err == "user abort"
        assert running.ended

    with_registry(tmp_path, test)


def test_a_job_that_fails_ends_aborted_with_the_reason(tmp_path: Path) -> None:
    async def test(registry: JobRegistry) -> None:
        async def refused(job: Job) -> None:
            raise ApiError(507, "out of space: disk")

        job = registry.start("lru", refused)
        await ended(job)
        assert (job.status().aborted, job.status().err) == (True, "out of space: disk")

    with_registry(tmp_path, test)


def test_select_by_kind_bucket_and_state(tmp_path: Path) -> None:
    async def test(registry: JobRegistry) -> None:
        lru = registry.start("lru", nothing)
        here = registry.start("delete-listrange", nothing, bucket=BUCKET)
        there = registry.start("delete-listrange", forever, bucket=OTHER)
        await ended(lru)
        await ended(here)
        assert set(registry.select("delete-listrange")) == {here, there}
        assert registry.select(running=True) == [there]
        # Only kinds that are bound to a bucket are restricted by one.
        assert set(registry.select(bucket=BUCKET)) == {lru, here}

    with_registry(tmp_path, test)


def test_history_survives_a_restart(tmp_path: Path) -> None:
    known: list[str] = []

    async def first(registry: JobRegistry) -> None:
        job = registry.start("delete-listrange", nothing, bucket=BUCKET)
        await ended(job)
        known.append(job.id)
        known.append(registry.start("lru", forever).id)

    async def second(registry: JobRegistry) -> None:
        finished, stopped = (registry.find(one) for one in known)
        assert finished is not None
        assert stopped is not None
        assert finished.concerns(BUCKET)
        assert not finished.aborted
        assert stopped.status().err == "the server was stopped"

    with_registry(tmp_path, first)
    with_registry(tmp_path, second)


def test_old_records_go_when_there_are_many(tmp_path: Path) -> None:
    """However fast they come: their number is bounded, in memory and in the catalog."""

    async def test(registry: JobRegistry) -> None:
        jobs = []
        for _ in range(1100):
            jobs.append(registry.start("lru", nothing))
            await ended(jobs[-1])
        await asyncio.sleep(0)
        assert [job.id for job in registry.select("lru")] == [job.id for job in reversed(jobs[-1024:])]
        assert registry.find(jobs[0].id) is None
        await asyncio.gather(*registry._keeping)
        assert registry._store.catalog.read("SELECT count(*) FROM job").fetchone() == (1024,)

    with_registry(tmp_path, test, kept_for=0)


def test_records_of_the_last_hour_stay_however_many_there_are(tmp_path: Path) -> None:
    async def test(registry: JobRegistry) -> None:
        first = registry.start("lru", nothing)
        for _ in range(1100):
            await ended(registry.start("lru", nothing))
        assert registry.find(first.id) is first

    with_registry(tmp_path, test)


def test_too_many_at_once_are_refused(tmp_path: Path) -> None:
    async def test(registry: JobRegistry) -> None:
        running = [registry.start("lru", forever) for _ in range(1024)]
        with pytest.raises(ApiError, match="1024 jobs are running") as refused:
            registry.start("lru", forever)
        assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
        registry.abort(running[7])
        await ended(running[7])
        job = registry.join("copy-bck", forever, bucket=BUCKET)
        for _ in range(1023):
            registry.join("copy-bck", forever, bucket=BUCKET)
        with pytest.raises(ApiError, match="1024 requests wait"):
            registry.join("copy-bck", forever, bucket=BUCKET)
        registry.abort(job)

    with_registry(tmp_path, test)


def test_names_that_jobs_hold_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_NAMES_MAX", 1300)
    names = ["a"] * 8  # 520 bytes

    async def test(registry: JobRegistry) -> None:
        worked_on = asyncio.Event()

        async def work(_: Job) -> None:
            worked_on.set()

        deleting = registry.start("delete-listrange", forever, names=names)
        for starts in (registry.start, registry.join):
            with pytest.raises(ApiError, match="lists of names") as refused:
                starts("copy-listrange", work, bucket=BUCKET, names=names)
            assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
        registry.start("delete-listrange", forever, names=["a"])
        registry.abort(deleting)
        await ended(deleting)
        copying = registry.join("copy-listrange", work, bucket=BUCKET, names=names)
        registry.join("copy-listrange", forever, bucket=BUCKET)
        await worked_on.wait()
        await asyncio.sleep(0)  # it is over
        registry.join("copy-listrange", work, bucket=BUCKET, names=names)
        with pytest.raises(ApiError, match="lists of names"):
            registry.start("delete-listrange", work, names=names)
        registry.abort(copying)  # with what waits for it
        await ended(copying)
        registry.start("delete-listrange", work, names=names)

    with_registry(tmp_path, test)


def test_requests_join_the_job_of_an_idle_kind(tmp_path: Path) -> None:
    async def test(registry: JobRegistry) -> None:
        order: list[int] = []
        may_go_on, over = asyncio.Event(), asyncio.Event()

        async def first(job: Job) -> None:
            await may_go_on.wait()
            order.append(1)
            job.done(1, 10)

        async def second(job: Job) -> None:
            order.append(2)
            job.done(1, 5)
            over.set()

        job = registry.join("archive", first, bucket=BUCKET, control="first")
        assert registry.join("archive", second, bucket=BUCKET, control="second") is job
        # Another destination is another job.
        other = registry.join("archive", nothing, bucket=BUCKET, source=BUCKET, destination=OTHER)
        assert other is not job
        snapshot = job.snapshot()
        assert (snapshot.is_idle, snapshot.ctlmsg) == (False, "second")
        may_go_on.set()
        await over.wait()
        await asyncio.sleep(0)
        assert order == [1, 2]
        # It lives on: just done is not idle yet.
        snapshot = job.snapshot()
        assert (snapshot.stats.loc_objs, snapshot.stats.loc_bytes, snapshot.is_idle) == ("2", "15", False)
        assert job._requests is not None
        job._requests._quiet_since -= 10
        assert job.snapshot().is_idle
        assert job.running

    with_registry(tmp_path, test)


def test_a_request_that_fails_does_not_end_a_job_of_an_idle_kind(tmp_path: Path) -> None:
    async def test(registry: JobRegistry) -> None:
        async def refused(job: Job) -> None:
            raise ApiError(400, "nothing to do")

        done = asyncio.Event()

        async def last(job: Job) -> None:
            done.set()

        job = registry.join("archive", refused, bucket=BUCKET)
        registry.join("archive", last, bucket=BUCKET)
        await asyncio.wait_for(done.wait(), DEADLINE)
        assert job.running
        assert job.status().err == "nothing to do"

    with_registry(tmp_path, test)


def test_a_job_of_an_idle_kind_ends_by_itself_and_the_next_request_starts_another(tmp_path: Path) -> None:
    async def test(registry: JobRegistry) -> None:
        job = registry.join("archive", nothing, bucket=BUCKET)
        await ended(job)
        assert (job.aborted, job.status().err) == (False, "")
        assert registry.join("archive", nothing, bucket=BUCKET) is not job

    with_registry(tmp_path, test, lives_for=0.01)


def test_an_abort_at_the_moment_of_a_request_is_not_lost(tmp_path: Path) -> None:
    async def test(registry: JobRegistry) -> None:
        ran: list[Job] = []

        async def late(job: Job) -> None:
            ran.append(job)

        done = asyncio.Event()

        async def first(job: Job) -> None:
            done.set()

        job = registry.join("archive", first, bucket=BUCKET)
        await done.wait()
        await asyncio.sleep(0)  # it waits for the next request
        assert registry.join("archive", late, bucket=BUCKET) is job
        registry.abort(job)
        await ended(job)
        assert (job.aborted, ran) == (True, [])

    with_registry(tmp_path, test)


def test_abort_drops_the_requests_that_wait(tmp_path: Path) -> None:
    async def test(registry: JobRegistry) -> None:
        ran: list[Job] = []

        async def late(job: Job) -> None:
            ran.append(job)

        job = registry.join("archive", forever, bucket=BUCKET)
        registry.join("archive", late, bucket=BUCKET)
        registry.abort(job)
        assert registry.join("archive", nothing, bucket=BUCKET) is not job
        await ended(job)
        assert job.status().err == "user abort"
        assert ran == []

    with_registry(tmp_path, test)


def test_an_idle_job_is_not_aborted_by_the_end_of_the_server(tmp_path: Path) -> None:
    known: list[str] = []

    async def first(registry: JobRegistry) -> None:
        done = asyncio.Event()

        async def work(job: Job) -> None:
            done.set()

        known.append(registry.join("archive", work, bucket=BUCKET).id)
        known.append(registry.join("archive", forever, bucket=OTHER).id)
        await done.wait()
        await asyncio.sleep(0)

    async def second(registry: JobRegistry) -> None:
        idle, busy = (registry.find(one) for one in known)
        assert idle is not None
        assert busy is not None
        assert (idle.aborted, idle.status().err) == (False, "")
        assert busy.status().err == "the server was stopped"

    with_registry(tmp_path, first)
    with_registry(tmp_path, second)


def test_a_job_that_gives_up_ends_aborted_when_its_requests_are_done(tmp_path: Path) -> None:
    async def test(registry: JobRegistry) -> None:
        async def hopeless(job: Job) -> None:
            job.give_up("no hope")

        async def last(job: Job) -> None:
            job.done(1, 1)

        job = registry.join("archive", hopeless, bucket=BUCKET)
        assert registry.join("archive", last, bucket=BUCKET) is job
        await ended(job)
        assert (job.status().aborted, job.status().err, job.snapshot().stats.loc_objs) == (True, "no hope", "1")
        assert registry.join("archive", nothing, bucket=BUCKET) is not job

    with_registry(tmp_path, test)
