"""dSort: regroup and reorder the members of shards into new shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.lazy import lazily

if TYPE_CHECKING:
    from aistore.sdk.dsort.core import Dsort
    from aistore.sdk.dsort.ekm import ExternalKeyMap
    from aistore.sdk.dsort.framework import DsortAlgorithm, DsortFramework, DsortShardsGroup

__all__ = ["Dsort", "DsortAlgorithm", "DsortFramework", "DsortShardsGroup", "ExternalKeyMap"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Dsort": "aistore.sdk.dsort.core",
        "DsortAlgorithm": "aistore.sdk.dsort.framework",
        "DsortFramework": "aistore.sdk.dsort.framework",
        "DsortShardsGroup": "aistore.sdk.dsort.framework",
        "ExternalKeyMap": "aistore.sdk.dsort.ekm",
    },
)
