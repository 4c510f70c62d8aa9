"""The cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls import cluster, jobs
from aistore.sdk.enums import LogSeverity, NodeFilter
from aistore.sdk.provider import Provider

if TYPE_CHECKING:
    from aistore.sdk.request_client import RequestClient
    from aistore.sdk.types import BucketModel, ETLInfo, JobStatus, Smap

__all__ = ["Cluster"]


class Cluster:
    """The cluster that a client talks to: its map, its buckets, its jobs, its nodes. Making one sends nothing."""

    __slots__ = ("_client",)

    def __init__(self, client: RequestClient) -> None:
        self._client = client

    @property
    def client(self) -> RequestClient:
        """Client that makes the requests."""
        return self._client

    def get_info(self) -> Smap:
        """The cluster map: gateways and targets."""
        return self._client.run(cluster.smap())

    def get_primary_url(self) -> str:
        """URL of the primary gateway."""
        return self._client.run(cluster.primary_url())

    def get_uuid(self) -> str:
        """Id of the cluster, which never changes."""
        return self.get_info().uuid

    def is_ready(self) -> bool:
        """Whether the cluster is up; False as well if it cannot be reached."""
        return self._client.run(cluster.is_ready())

    def list_buckets(self, provider: str | Provider = Provider.AIS) -> list[BucketModel]:
        """Buckets of a provider, or of all with an empty one. Raises `InvalidBckProvider`."""
        from aistore.calls.buckets import list_buckets

        return self._client.run(list_buckets(provider))

    def list_jobs_status(self, job_kind: str = "", target_id: str = "") -> list[JobStatus]:
        """State of all jobs, or those of a kind, that the cluster remembers; `err` is empty there, ask the job itself."""
        return self._client.run(jobs.list_status(job_kind, target_id))

    def list_running_jobs(self, job_kind: str = "", target_id: str = "") -> list[str]:
        """Running jobs, each as `kind[id]`."""
        return self._client.run(jobs.list_running(job_kind, target_id))

    def list_etls(self, stages: list[str] | None = None) -> list[ETLInfo]:
        """ETLs in the given stages (see `etl_const`), by default those that run."""
        from aistore.calls.etl import list_etls

        return self._client.run(list_etls(stages))

    def get_performance(self) -> dict[str, object]:
        """State and statistics of every target by its id, as the target tells them (protocol/00 13.2)."""
        return self._client.run(cluster.performance())

    def get_node_log(self, node_id: str, severity: LogSeverity = LogSeverity.INFO) -> str:
        """The current log of a node."""
        return self._client.run(cluster.node_log(node_id, severity)).decode("utf-8", "replace")

    def get_node_log_archive(self, node_id: str, severity: LogSeverity = LogSeverity.INFO) -> bytes:
        """All logs of a node, rotated ones too, as a TAR.GZ."""
        return self._client.run(cluster.node_log(node_id, severity, archive=True))

    def get_cluster_logs(
        self, severity: LogSeverity = LogSeverity.INFO, role: NodeFilter = NodeFilter.TARGET
    ) -> dict[str, str]:
        """The current logs of all targets, all gateways, or both, by node id."""
        return self._client.run(cluster.cluster_logs(severity, role))

    def __repr__(self) -> str:
        return f"<Cluster {self._client.base_url}>"
