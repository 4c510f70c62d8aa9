"""The cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls import cluster, jobs
from aistore.sdk.enums import LogSeverity, NodeFilter
from aistore.sdk.provider import Provider

if TYPE_CHECKING:
    from aistore.aio.requests import AsyncRequestClient
    from aistore.sdk.types import BucketModel, ETLInfo, JobStatus, Smap

__all__ = ["AsyncCluster"]


class AsyncCluster:
    """The cluster that a client talks to: its map, its buckets, its jobs, its nodes."""

    __slots__ = ("_client",)

    def __init__(self, client: AsyncRequestClient) -> None:
        self._client = client

    @property
    def client(self) -> AsyncRequestClient:
        """Client that makes the requests."""
        return self._client

    async def get_info(self) -> Smap:
        """The cluster map: gateways and targets."""
        return await self._client.run(cluster.smap())

    async def get_primary_url(self) -> str:
        """URL of the primary gateway."""
        return await self._client.run(cluster.primary_url())

    async def get_uuid(self) -> str:
        """Id of the cluster, which never changes."""
        return (await self.get_info()).uuid

    async def is_ready(self) -> bool:
        """Whether the cluster is up; False as well if it cannot be reached."""
        return await self._client.run(cluster.is_ready())

    async def list_buckets(self, provider: str | Provider = Provider.AIS) -> list[BucketModel]:
        """Buckets of a provider, or of all with an empty one. Raises `InvalidBckProvider`."""
        from aistore.calls.buckets import list_buckets

        return await self._client.run(list_buckets(provider))

    async def list_jobs_status(self, job_kind: str = "", target_id: str = "") -> list[JobStatus]:
        """State of all jobs, or those of a kind, that the cluster remembers; `err` is empty there, ask the job itself."""
        return await self._client.run(jobs.list_status(job_kind, target_id))

    async def list_running_jobs(self, job_kind: str = "", target_id: str = "") -> list[str]:
        """Running jobs, each as `kind[id]`."""
        return await self._client.run(jobs.list_running(job_kind, target_id))

    async def list_etls(self, stages: list[str] | None = None) -> list[ETLInfo]:
        """ETLs in the given stages (see `etl_const`), by default those that run."""
        from aistore.calls.etl import list_etls

        return await self._client.run(list_etls(stages))

    async def get_performance(self) -> dict[str, object]:
        """State and statistics of every target by its id, as the target tells them (protocol/00 13.2)."""
        return await self._client.run(cluster.performance())

    async def get_node_log(self, node_id: str, severity: LogSeverity = LogSeverity.INFO) -> str:
        """The current log of a node."""
        return (await self._client.run(cluster.node_log(node_id, severity))).decode("utf-8", "replace")

    async def get_node_log_archive(self, node_id: str, severity: LogSeverity = LogSeverity.INFO) -> bytes:
        """All logs of a node, rotated ones too, as a TAR.GZ."""
        return await self._client.run(cluster.node_log(node_id, severity, archive=True))

    async def get_cluster_logs(
        self, severity: LogSeverity = LogSeverity.INFO, role: NodeFilter = NodeFilter.TARGET
    ) -> dict[str, str]:
        """The current logs of all targets, all gateways, or both, by node id."""
        return await self._client.run(cluster.cluster_logs(severity, role))

    def __repr__(self) -> str:
        return f"<AsyncCluster {self._client.endpoint}>"
