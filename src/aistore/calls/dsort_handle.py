"""What a dSort job knows without asking the cluster, in both faces."""

from __future__ import annotations

__all__ = ["DsortHandle"]


class DsortHandle:
    """Id of a job."""

    __slots__ = ("_id",)

    def __init__(self, dsort_id: str) -> None:
        self._id = dsort_id

    @property
    def dsort_id(self) -> str:
        """Its id; empty before it was started."""
        return self._id

    @property
    def _started_id(self) -> str:
        """Its id. Raises ValueError before it was started: without an id a cluster speaks of all jobs."""
        if not self._id:
            raise ValueError(
                "this dSort job was not started: call start() before, or give client.dsort() the id of one"
            )
        return self._id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id or 'not started'}>"
