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

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id or 'not started'}>"
