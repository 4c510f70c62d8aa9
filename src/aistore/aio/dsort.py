"""dSort jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aistore.calls import dsort
from aistore.calls.dsort_handle import DsortHandle
from aistore.calls.job_handle import WAIT

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from aistore.aio.requests import AsyncRequestClient
    from aistore.sdk.dsort.framework import DsortFramework
    from aistore.sdk.dsort.types import JobInfo
    from aistore.sdk.wait_result import WaitResult

__all__ = ["AsyncDsort"]


class AsyncDsort(DsortHandle):
    """A dSort job: it regroups and reorders the members of shards into new shards."""

    __slots__ = ("_client",)

    def __init__(self, client: AsyncRequestClient, dsort_id: str = "") -> None:
        super().__init__(dsort_id)
        self._client = client

    async def start(self, spec: str | os.PathLike[str] | DsortFramework | Mapping[str, Any]) -> str:
        """Start the job that a framework, a JSON or YAML file, or a mapping describes; see `aistore.sdk.dsort.Dsort.start`."""
        self._id = await self._client.run(dsort.start(spec, lambda: self._client.base_url))
        return self._id

    async def wait(self, timeout: float = WAIT, verbose: bool = True) -> WaitResult:
        """Wait until it is done, `timeout` seconds at most.

        A job that failed or was aborted is no error: look at the result. Raises `Timeout`, and as all that follows ValueError before it
        was started. `verbose` logs what happens, and what the job warns of.
        """
        return await self._client.run(dsort.wait(self._started_id, timeout, verbose))

    async def get_job_info(self) -> dict[str, JobInfo]:
        """State and metrics, by target."""
        return await self._client.run(dsort.job_info(self._started_id))

    async def list_jobs(self, regex: str = "", only_active: bool = False) -> list[JobInfo]:
        """All dSort jobs of the cluster, over all targets: those whose description matches `regex`, and that run if `only_active`."""
        return await self._client.run(dsort.list_jobs(regex, only_active))

    async def abort(self) -> None:
        """Abort it. Shards that it has written stay."""
        await self._client.run(dsort.abort(self._started_id))

    async def remove(self) -> None:
        """Have the cluster forget it; it must be over."""
        await self._client.run(dsort.remove(self._started_id))
