from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aistore.server.jobs.registry import Job, JobRegistry
from aistore.server.store.store import Store
from aistore.wire.errors import ApiError
from aistore.wire.names import BucketId

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

BUCKET = BucketId("ais", "", "", "b")
OTHER = BucketId("ais", "", "", "other")


def with_registry(folder: Path, test: Callable[[JobRegistry], Awaitable[None]]) -> None:
    async def run() -> None:
        store = Store(folder, "relaxed")
        await store.open()
        registry = JobRegistry(store)
        await test(registry)
        await registry.close()
        await store.close()

    asyncio.run(run())


async def ended(job: Job) -> None:
    assert job._task is not None
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
    async def test(registry: JobRegistry) -> None:
        old = registry.start("lru", nothing)
        await ended(old)
        old._record.ended -= 2 * 3600 * 10**9
        for _ in range(1024):
            registry.start("lru", nothing)
        last = registry.start("lru", nothing)
        await ended(last)
        assert registry.find(old.id) is None
        assert len(registry.select("lru")) == 1025

    with_registry(tmp_path, test)
