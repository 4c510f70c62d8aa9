"""Calls on jobs: start, stop, look, wait (protocol/30)."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from aistore.calls.query import encode_query
from aistore.calls.steps import Sleep
from aistore.transport.request import Request
from aistore.wire import actions, params, whats
from aistore.wire.kinds import IDLE_KINDS, QUICK_SCRUB, SCRUB
from aistore.wire.messages import encode_action
from aistore.wire.values import SECOND, ZERO_TIME, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aistore.calls.bucket_ref import BucketRef
    from aistore.calls.steps import Steps
    from aistore.sdk.types import AggregatedJobSnap, JobSnap, JobStatus
    from aistore.sdk.wait_result import WaitResult

__all__ = [
    "abort",
    "details",
    "findings",
    "list_running",
    "list_status",
    "poll",
    "poll_interval",
    "start",
    "start_scrub",
    "status",
    "total_time",
    "wait",
    "wait_for_idle",
    "wait_single_node",
    "within_timeframe",
]

# Kinds that run on one target: there is no record of the cluster's, and one finished snapshot is enough.
_ONE_TARGET = frozenset({actions.BLOB_DOWNLOAD, "resilver"})
# Jobs are often over in no time: the first polls come quickly.
_FIRST_INTERVAL = 0.05

logger = logging.getLogger("aistore.sdk.job")

T = TypeVar("T")


def _document(job_id: str, kind: str, daemon_id: str = "", buckets: Sequence[BucketRef] = ()) -> dict[str, object]:
    return {
        "ID": job_id,
        "Kind": kind,
        "DaemonID": daemon_id,
        "Bck": buckets[0].document if len(buckets) == 1 else None,
        "Buckets": [ref.document for ref in buckets] if len(buckets) > 1 else None,
    }


def _ask(what: str, document: dict[str, object]) -> Request:
    import msgspec

    return Request("GET", "cluster", f"{params.WHAT}={what}", body=msgspec.json.encode(document))


def start(kind: str, daemon_id: str = "", force: bool = False, buckets: Sequence[BucketRef] = ()) -> Steps[str]:
    """Start a job of a kind, on a node or on buckets if the kind wants that; returns its id."""
    document = _document("", kind, daemon_id, buckets)
    if force:
        document["Force"] = True
    query = encode_query({params.FORCE: "true"} if force else None)
    answer = yield Request("PUT", "cluster", query, body=encode_action(actions.START, value=document))
    return answer.content.decode()


def start_scrub(*, quick: bool, repair: bool) -> Steps[str]:
    """Start a scrub of the data folder, which only this package's server has; returns its id."""
    document: dict[str, object] = {"Kind": SCRUB, "Force": repair, "Flags": QUICK_SCRUB if quick else 0}
    answer = yield Request("PUT", "cluster", body=encode_action(actions.START, value=document))
    return answer.content.decode()


def findings(job_id: str) -> Steps[dict[str, object] | None]:
    """What a scrub has found so far; None if nothing is known of it, and of a job of another kind."""
    import msgspec

    from aistore.sdk.errors import AISError

    try:
        answer = yield _ask(whats.JOB_SNAPSHOTS, _document(job_id, SCRUB))
    except AISError as error:
        if error.status_code == 404:
            return None
        raise
    snapshots = msgspec.json.decode(answer.content, type=dict[str, list[dict[str, object]]])
    told = [one["ext"] for of_target in snapshots.values() for one in of_target if one.get("ext")]
    return msgspec.convert(told[0], dict[str, object]) if told else None


def abort(job_id: str, kind: str) -> Steps[None]:
    """Abort a job, or all of a kind."""
    if not job_id and not kind:
        raise ValueError("Cannot abort a job without an id or kind")
    yield Request("PUT", "cluster", body=encode_action(actions.STOP, value=_document(job_id, kind)))


def status(job_id: str, kind: str) -> Steps[JobStatus]:
    """State of a job in the whole cluster."""
    from aistore.sdk.types import JobStatus

    if not job_id:
        raise ValueError("Cannot query status on a job without an assigned ID")
    answer = yield _ask(whats.JOB_STATUS, _document(job_id, kind))
    return JobStatus.model_validate_json(answer.content)


def details(job_id: str, kind: str) -> Steps[AggregatedJobSnap]:
    """Snapshots of a job, of the jobs of a kind, or of all, by target."""
    from aistore.sdk.types import AggregatedJobSnap

    answer = yield _ask(whats.JOB_SNAPSHOTS, _document(job_id, kind))
    return AggregatedJobSnap.model_validate_json(answer.content)


def list_status(kind: str, target_id: str) -> Steps[list[JobStatus]]:
    """State of all jobs, or those of a kind, that the cluster remembers."""
    from pydantic import TypeAdapter

    from aistore.sdk.types import JobStatus

    answer = yield _ask(whats.ALL_JOB_STATUSES, {"kind": kind, "node": target_id, "show_active": False})
    listed = TypeAdapter(list[JobStatus] | None).validate_json(answer.content)
    return listed or []


def list_running(kind: str, target_id: str) -> Steps[list[str]]:
    """Running jobs, each as `kind[id]`."""
    import msgspec

    answer = yield _ask(whats.RUNNING_JOBS, {"kind": kind, "node": target_id, "show_active": True})
    listed = msgspec.json.decode(answer.content, type=list[str] | None)
    return listed or []


def within_timeframe(job_id: str, kind: str, start: datetime, end: datetime | None) -> Steps[list[JobSnap]]:
    """Snapshots of jobs that started at `start` or later and, if `end` is given, had ended by then or still run.

    Both times must have a zone. Raises `JobInfoNotFound` if there are none.
    """
    found = yield from details(job_id, kind)
    first = _nanoseconds(start)
    last = None if end is None else _nanoseconds(end)
    chosen = [
        snap
        for snap in found.list_snapshots()
        if (snap.id == job_id or snap.kind == kind)
        and snap.start_time
        and parse_time(snap.start_time) >= first
        and (last is None or (bool(snap.end_time) and parse_time(snap.end_time) <= last))
    ]
    if not chosen:
        from aistore.sdk.errors import JobInfoNotFound

        raise JobInfoNotFound("No relevant job info found")
    return chosen


def _nanoseconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone: pass datetime.now(timezone.utc) or the like")
    return round(moment.timestamp() * SECOND)


def total_time(job_id: str, kind: str) -> Steps[timedelta | None]:
    """From the first start to the last end over all targets; None while one still runs, or without snapshots."""
    found = yield from details(job_id, kind)
    snaps = found.list_snapshots()
    if not snaps or any(snap.end_time in ("", ZERO_TIME) for snap in snaps):
        return None
    try:
        began = min(parse_time(snap.start_time) for snap in snaps)
        ended = max(parse_time(snap.end_time) for snap in snaps)
    except ValueError as error:
        logger.error("job %r: %s", job_id, error)  # noqa: TRY400  what the server sent is told, not where it was read
        return None
    return timedelta(microseconds=(ended - began) / 1000)


# -- waiting --


def poll_interval(timeout: float) -> float:
    """Seconds between two looks at a job that is waited for at most `timeout` seconds (protocol/30 14.1)."""
    return max(timeout / 64, min(timeout / 8, 1.0), 0.1)


def wait(job_id: str, kind: str, timeout: float, verbose: bool) -> Steps[WaitResult]:
    """Wait until a job is done; what that means depends on its kind, which the cluster tells if it is not given.

    Raises `Timeout`, and `JobInfoNotFound` if the cluster knows no kind. A job that failed is a result, not an error.
    """
    if not kind and job_id:
        found = yield from _not_repeated_after(time.monotonic() + timeout, details(job_id, ""))
        kind = next((snap.kind for snap in found.list_snapshots() if snap.kind), "")
        if not kind:
            from aistore.sdk.errors import JobInfoNotFound

            raise JobInfoNotFound(f"no kind of job {job_id!r}")
    if kind in IDLE_KINDS:
        return (yield from wait_for_idle(job_id, kind, timeout, verbose))
    if kind in _ONE_TARGET:
        return (yield from wait_single_node(job_id, kind, timeout, verbose))

    def look() -> Steps[WaitResult | None]:
        from aistore.sdk.wait_result import WaitResult

        found = yield from status(job_id, kind)
        return WaitResult.from_status(job_id, found) if found.end_time else None

    return (yield from poll(job_id, timeout, verbose, look))


def wait_for_idle(job_id: str, kind: str, timeout: float, verbose: bool) -> Steps[WaitResult]:
    """Wait until a job is idle on all targets, twice in a row, or was aborted on one."""
    seen_idle = 0

    def done(found: AggregatedJobSnap) -> bool:
        nonlocal seen_idle
        if found.any_aborted():
            return True
        seen_idle = seen_idle + 1 if found.all_idle() else 0
        # Kinds that end by themselves are idle only when they have: one look is enough.
        return seen_idle >= (2 if kind in IDLE_KINDS or not kind else 1)

    return (yield from poll(job_id, timeout, verbose, lambda: _look_at_snapshots(job_id, kind, done)))


def wait_single_node(job_id: str, kind: str, timeout: float, verbose: bool) -> Steps[WaitResult]:
    """Wait until a job has finished on one target."""
    return (
        yield from poll(
            job_id, timeout, verbose, lambda: _look_at_snapshots(job_id, kind, lambda found: found.any_finished())
        )
    )


def _look_at_snapshots(job_id: str, kind: str, done: Callable[[AggregatedJobSnap], bool]) -> Steps[WaitResult | None]:
    from aistore.sdk.wait_result import WaitResult

    found = yield from details(job_id, kind)
    snaps = found.list_snapshots()
    return WaitResult.from_snapshots(job_id, snaps) if snaps and done(found) else None


def poll(job_id: str, timeout: float, verbose: bool, look: Callable[[], Steps[WaitResult | None]]) -> Steps[WaitResult]:
    """Have a look now and then until that gives a result. Raises `Timeout` after so many seconds; a look that fails then is not repeated."""
    slowest = poll_interval(timeout)
    interval = min(_FIRST_INTERVAL, slowest)
    deadline = time.monotonic() + timeout
    if verbose:
        logger.info("Waiting for job '%s', at most %s s", job_id, timeout)
    while True:
        result = yield from _not_repeated_after(deadline, look())
        if result is not None:
            if verbose and result.success:
                logger.info("Job '%s' is done", job_id)
            elif verbose:
                logger.error("Job '%s' failed: %s", job_id, result.error)
            return result
        left = deadline - time.monotonic()
        if left <= 0:
            from aistore.sdk.errors import Timeout

            if verbose:
                logger.error("Job '%s' is not done after %s s", job_id, timeout)
            raise Timeout(f"job '{job_id}'", f"after {timeout}s")
        yield Sleep(min(interval, left))
        interval = min(interval * 1.5, slowest)


def _not_repeated_after(deadline: float, steps: Steps[T]) -> Steps[T]:
    try:
        step = next(steps)
        while True:
            if isinstance(step, Request):
                step.until = deadline
            try:
                answer = yield step
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
