"""Users, roles, clusters and tokens of an AuthN server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.lazy import lazily

if TYPE_CHECKING:
    from aistore.sdk.authn.authn_client import AuthNClient
    from aistore.sdk.authn.cluster_manager import ClusterManager

__all__ = ["AuthNClient", "ClusterManager"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AuthNClient": "aistore.sdk.authn.authn_client",
        "ClusterManager": "aistore.sdk.authn.cluster_manager",
    },
)
