"""Jobs: what the cluster does in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls import jobs
from aistore.calls.job_handle import WAIT, JobHandle

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from aistore.sdk.bucket import Bucket
    from aistore.sdk.request_client import RequestClient
    from aistore.sdk.types import AggregatedJobSnap, JobSnap, JobStatus
    from aistore.sdk.wait_result import WaitResult

__all__ = ["Job"]


class Job(JobHandle):
    """A job by its id, the jobs of a kind, or all of them. Making one sends nothing."""

    __slots__ = ("_client",)

    def __init__(self, client: RequestClient, job_id: str = "", job_kind: str = "") -> None:
        super().__init__(job_id, job_kind)
        self._client = client

    def status(self) -> JobStatus:
        """Its state in the whole cluster. Raises ValueError without an id."""
        return self._client.run(jobs.status(self._id, self._kind))

    def wait(self, timeout: float = WAIT, verbose: bool = True) -> WaitResult:
        """Wait until it is done, `timeout` seconds at most; which means finished or idle, depending on its kind.

        A job that failed or was aborted is no error: look at the result. Raises `Timeout`. `verbose` logs what happens.
        """
        return self._client.run(jobs.wait(self._id, self._kind, timeout, verbose))

    def wait_for_idle(self, timeout: float = WAIT, verbose: bool = True) -> WaitResult:
        """Wait until it is idle on all targets, as `wait` does."""
        return self._client.run(jobs.wait_for_idle(self._id, self._kind, timeout, verbose))

    def wait_single_node(self, timeout: float = WAIT, verbose: bool = True) -> WaitResult:
        """Wait until it has finished on one target, as `wait` does: for jobs that run on one."""
        return self._client.run(jobs.wait_single_node(self._id, self._kind, timeout, verbose))

    def start(self, daemon_id: str = "", force: bool = False, buckets: list[Bucket] | None = None) -> str:
        """Start a job of this kind, on a node (`daemon_id`) or for buckets if the kind wants that; returns its id."""
        refs = [bucket.ref for bucket in buckets or ()]
        return self._client.run(jobs.start(self._kind, daemon_id, force, refs))

    def abort(self) -> None:
        """Abort it, or all jobs of its kind. Raises ValueError if it has neither id nor kind."""
        self._client.run(jobs.abort(self._id, self._kind))

    def get_details(self) -> AggregatedJobSnap:
        """Its snapshots, by target."""
        return self._client.run(jobs.details(self._id, self._kind))

    def findings(self) -> dict[str, object] | None:
        """What a job of kind `scrub` has found so far: problems, counts, notes. None for other jobs, and for one that was forgotten."""
        return self._client.run(jobs.findings(self._id))

    def get_within_timeframe(self, start_time: datetime, end_time: datetime | None = None) -> list[JobSnap]:
        """Snapshots of this job, and of others of its kind, that started at `start_time` or later and ended by `end_time`, if given.

        Times need a zone. Raises `JobInfoNotFound` if there are none.
        """
        return self._client.run(jobs.within_timeframe(self._id, self._kind, start_time, end_time))

    def get_total_time(self) -> timedelta | None:
        """From its first start to its last end over all targets; None while it runs."""
        return self._client.run(jobs.total_time(self._id, self._kind))
