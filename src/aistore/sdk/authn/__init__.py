"""Users, roles, clusters and tokens of an AuthN server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.lazy import lazily

if TYPE_CHECKING:
    from aistore.sdk.authn.authn_client import AuthNClient
    from aistore.sdk.authn.cluster_manager import ClusterManager

__all__ = ["AuthNClient", "ClusterManager"]

_HOME = {
    "AuthNClient": "aistore.sdk.authn.authn_client",
    "ClusterManager": "aistore.sdk.authn.cluster_manager",
}

__getattr__ = lazily(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
