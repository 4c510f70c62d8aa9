"""Kinds of jobs (protocol/30 2)."""

from __future__ import annotations

from aistore.wire import actions, kinds

XACT_KIND_REBALANCE = "rebalance"
XACT_KIND_RESILVER = "resilver"
XACT_KIND_ELECTION = "election"
XACT_KIND_LRU = "lru"
XACT_KIND_STORE_CLEANUP = "cleanup-store"
XACT_KIND_SUMMARY_BCK = actions.SUMMARY
XACT_KIND_SUMMARY_SHARD = actions.SUMMARY_SHARD
XACT_KIND_RECHUNK = actions.RECHUNK
XACT_KIND_INDEX_SHARD = actions.INDEX_SHARD
XACT_KIND_EC_GET = "ec-get"
XACT_KIND_EC_PUT = "ec-put"
XACT_KIND_EC_RESP = "ec-resp"
XACT_KIND_EC_ENCODE = actions.EC_ENCODE
XACT_KIND_PUT_COPIES = "put-copies"
XACT_KIND_MAKE_NCOPIES = actions.MAKE_COPIES
XACT_KIND_ARCHIVE = actions.ARCHIVE
XACT_KIND_COPY_OBJECTS = actions.COPY_OBJECTS
XACT_KIND_ETL_OBJECTS = actions.TRANSFORM_OBJECTS
XACT_KIND_DELETE_OBJECTS = actions.DELETE_OBJECTS
XACT_KIND_EVICT_OBJECTS = actions.EVICT_OBJECTS
XACT_KIND_PREFETCH_OBJECTS = actions.PREFETCH_OBJECTS
XACT_KIND_BLOB_DL = actions.BLOB_DOWNLOAD
XACT_KIND_DOWNLOAD = "download"
XACT_KIND_DSORT = "dsort"
XACT_KIND_PROMOTE = actions.PROMOTE
XACT_KIND_MOVE_BCK = actions.MOVE_BUCKET
XACT_KIND_COPY_BCK = actions.COPY_BUCKET
XACT_KIND_ETL_BCK = actions.TRANSFORM_BUCKET
XACT_KIND_ETL_INLINE = "etl-inline"
XACT_KIND_EVICT_REMOTE_BCK = actions.EVICT_BUCKET
XACT_KIND_LIST = actions.LIST
XACT_KIND_GET_BATCH = "get-batch"
XACT_KIND_CREATE_NBI = actions.CREATE_INVENTORY
XACT_KIND_LOAD_LOM_CACHE = "load-lom-cache"

KNOWN_KINDS = frozenset(kinds.KINDS)

IDLE_KINDS = kinds.IDLE_KINDS
"""Kinds that stay alive, idle, after their work is done: for those, done means idle."""


def idles_before_finishing(kind: str) -> bool:
    """Whether jobs of this kind turn idle before they finish; false for kinds unknown here."""
    return kind in IDLE_KINDS


def is_valid_kind(kind: str) -> bool:
    """Whether `kind` is known to this version; a server may know more."""
    return kind in KNOWN_KINDS
