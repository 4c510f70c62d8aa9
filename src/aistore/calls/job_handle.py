"""What a job knows without asking the cluster, in both faces."""

from __future__ import annotations

__all__ = ["WAIT", "JobHandle"]

WAIT = 300
"""Seconds that are waited for a job unless another time is given."""


class JobHandle:
    """Id and kind of a job."""

    __slots__ = ("_id", "_kind")

    def __init__(self, job_id: str, job_kind: str) -> None:
        self._id = job_id
        self._kind = job_kind

    @property
    def job_id(self) -> str:
        """Its id; empty for all jobs."""
        return self._id

    @property
    def job_kind(self) -> str:
        """Its kind; empty for all kinds."""
        return self._kind

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id or 'any'} of kind {self._kind or 'any'}>"
