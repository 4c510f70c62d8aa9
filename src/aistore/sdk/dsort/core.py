"""dSort jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aistore.calls import dsort
from aistore.calls.dsort_handle import DsortHandle
from aistore.calls.job_handle import WAIT

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from aistore.sdk.dsort.framework import DsortFramework
    from aistore.sdk.dsort.types import JobInfo
    from aistore.sdk.request_client import RequestClient
    from aistore.sdk.wait_result import WaitResult

__all__ = ["Dsort"]


class Dsort(DsortHandle):
    """A dSort job: it regroups and reorders the members of shards into new shards. Making one sends nothing."""

    __slots__ = ("_client",)

    def __init__(self, client: RequestClient, dsort_id: str = "") -> None:
        super().__init__(dsort_id)
        self._client = client

    def start(self, spec: str | os.PathLike[str] | DsortFramework | Mapping[str, Any]) -> str:
        """Start the job that a framework, a JSON or YAML file, or a mapping describes; returns its id, which is this object's then.

        A file's specification, and a mapping, is sent as it is: it may say more than a framework can. Raises ValueError for anything else,
        and `AISError` for what the cluster refuses.
        """
        self._id = self._client.run(dsort.start(spec, lambda: self._client.base_url))
        return self._id

    def wait(self, timeout: float = WAIT, verbose: bool = True) -> WaitResult:
        """Wait until it is done, `timeout` seconds at most.

        A job that failed or was aborted is no error: look at the result. Raises `Timeout`, and as all that follows ValueError before it
        was started. `verbose` logs what happens, and what the job warns of.
        """
        return self._client.run(dsort.wait(self._started_id, timeout, verbose))

    def get_job_info(self) -> dict[str, JobInfo]:
        """State and metrics, by target."""
        return self._client.run(dsort.job_info(self._started_id))

    def list_jobs(self, regex: str = "", only_active: bool = False) -> list[JobInfo]:
        """All dSort jobs of the cluster, over all targets: those whose description matches `regex`, and that run if `only_active`."""
        return self._client.run(dsort.list_jobs(regex, only_active))

    def abort(self) -> None:
        """Abort it. Shards that it has written stay."""
        self._client.run(dsort.abort(self._started_id))

    def remove(self) -> None:
        """Have the cluster forget it; it must be over."""
        self._client.run(dsort.remove(self._started_id))
