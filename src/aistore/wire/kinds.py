"""The kinds of jobs (protocol/30 2), as data."""

from __future__ import annotations

from typing import Literal, NamedTuple

# what the generic start call does with a kind
Start = Literal["yes", "own-call", "unsupported", "driven-by-puts"]


class Kind(NamedTuple):
    """One kind: `scope` is G (cluster), B (bucket), GB (bucket or all), T (target)."""

    name: str
    display: str
    scope: Literal["G", "B", "GB", "T"]
    start: Start = "unsupported"
    idle: bool = False


SCRUB = "scrub"
QUICK_SCRUB = 1
"""Flag of a start: content is not read."""

_TABLE = (
    Kind("election", "elect-primary", "G"),
    Kind("rebalance", "rebalance", "G", "yes"),
    Kind("etl-inline", "etl-inline", "G"),
    Kind("lru", "lru-eviction", "GB", "yes"),
    Kind("cleanup-store", "cleanup", "GB", "yes"),
    Kind("summary-bck", "summary", "GB"),
    Kind("summary-shard", "shard-summary", "B"),
    Kind("resilver", "resilver", "T", "yes"),
    Kind("rechunk", "rechunk", "B", "yes"),
    Kind("index-shard", "shard-index", "B"),
    Kind("ec-get", "ec-get", "B", idle=True),
    Kind("ec-put", "ec-put", "B", idle=True),
    Kind("ec-resp", "ec-resp", "B", idle=True),
    Kind("put-copies", "put-copies", "B", "driven-by-puts", idle=True),
    Kind("archive", "archive", "B", idle=True),
    Kind("copy-listrange", "copy-objects", "B", idle=True),
    Kind("etl-listrange", "etl-objects", "B", idle=True),
    Kind("blob-download", "blob-download", "B", "yes"),
    Kind("download", "download", "G", "own-call", idle=True),
    Kind("dsort", "dsort", "B"),
    Kind("promote", "promote-files", "B"),
    Kind("evict-listrange", "evict-objects", "B", "own-call"),
    Kind("evict-remote-bck", "evict-remote-bucket", "B"),
    Kind("delete-listrange", "delete-objects", "B", "own-call"),
    Kind("prefetch-listrange", "prefetch-objects", "B", "yes"),
    Kind("ec-encode", "ec-bucket", "B", "own-call"),
    Kind("make-n-copies", "mirror", "B", "own-call"),
    Kind("move-bck", "rename-bucket", "B"),
    Kind("copy-bck", "copy-bucket", "B"),
    Kind("etl-bck", "etl-bucket", "B"),
    Kind("list", "list", "B", idle=True),
    Kind("get-batch", "get-batch", "GB", idle=True),
    Kind("create-inventory", "create-inventory", "B"),
    Kind("load-lom-cache", "warm-up-metadata", "B", "yes"),
    Kind(SCRUB, SCRUB, "G", "yes"),  # ours: the reference has none
)

KINDS = {kind.name: kind for kind in _TABLE}
_BY_DISPLAY = {kind.display: kind for kind in _TABLE}

# Kinds that stay alive for further requests after their work is done.
IDLE_KINDS = frozenset(kind.name for kind in _TABLE if kind.idle)


def find_kind(text: str) -> Kind | None:
    """The kind of this name or display name."""
    return KINDS.get(text) or _BY_DISPLAY.get(text)
