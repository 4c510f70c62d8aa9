"""Clusters that an AuthN server knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls import authn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aistore.sdk.authn.types import ClusterInfo, ClusterList
    from aistore.sdk.request_client import RequestClient

__all__ = ["ClusterManager"]


class ClusterManager:
    """Registers clusters, whose buckets roles are about. Making one sends nothing."""

    __slots__ = ("_client",)

    def __init__(self, client: RequestClient) -> None:
        self._client = client

    @property
    def client(self) -> RequestClient:
        """Client that makes the requests."""
        return self._client

    def list(self) -> ClusterList:
        """All registered clusters."""
        return self._client.run(authn.clusters())

    def get(self, cluster_id: str | None = None, cluster_alias: str | None = None) -> ClusterInfo:
        """One cluster, by its id or its alias. Raises ValueError without either, `ErrClusterNotFound`."""
        return self._client.run(authn.get_cluster(cluster_id, cluster_alias))

    def register(self, cluster_alias: str, urls: Sequence[str]) -> ClusterInfo:
        """Register a cluster; its id is asked at the first URL, with the token of this client.

        Raises ValueError if that cannot be had, `ErrClusterAlreadyRegistered`; `AuthNError` if the cluster does not accept the server's tokens.
        """
        return self._client.run(authn.register_cluster(cluster_alias, urls))

    def update(
        self, cluster_id: str, cluster_alias: str | None = None, urls: Sequence[str] | None = None
    ) -> ClusterInfo:
        """Give a cluster another alias or other URLs. Raises ValueError if nothing is to change, `ErrClusterNotFound`."""
        return self._client.run(authn.update_cluster(cluster_id, cluster_alias, urls))

    def delete(self, cluster_id: str | None = None, cluster_alias: str | None = None) -> None:
        """Forget a cluster, by its id or its alias; its roles stay. Raises ValueError without either, `ErrClusterNotFound`."""
        self._client.run(authn.delete_cluster(cluster_id, cluster_alias))
