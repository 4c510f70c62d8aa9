"""How a job ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from aistore.wire.values import ZERO_TIME, parse_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aistore.sdk.types import JobSnap, JobStatus

__all__ = ["WaitResult", "moment"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass
class WaitResult:
    """Result of waiting for a job; true if it succeeded. `end_time` is in UTC, None if not all targets have finished."""

    job_id: str
    success: bool
    error: str | None = None
    end_time: datetime | None = None

    def __bool__(self) -> bool:
        return self.success

    @classmethod
    def from_status(cls, job_id: str, status: JobStatus) -> WaitResult:
        """Result of a job that its status says is over."""
        error = status.err or ("aborted" if status.aborted else "")
        return cls(job_id, not error, error, moment(status.end_time))

    @classmethod
    def from_snapshots(cls, job_id: str, snapshots: Sequence[JobSnap]) -> WaitResult:
        """Result of a job that its snapshots say is over, or idle."""
        failed = [snap for snap in snapshots if snap.aborted or snap.abort_err]
        error = next((snap.abort_err for snap in failed if snap.abort_err), "aborted") if failed else None
        ended = [snap.end_time for snap in snapshots]
        end_time = None
        if ended and not any(text in ("", ZERO_TIME) for text in ended):
            end_time = moment(max(map(parse_time, ended)))
        return cls(job_id, not failed, error, end_time)


def moment(nanoseconds: int) -> datetime:
    """The moment of Unix nanoseconds, in UTC."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
