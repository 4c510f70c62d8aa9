"""What a server tells about jobs: status records and snapshots (protocol/30 7, 10)."""

from __future__ import annotations

import msgspec

from aistore.wire.values import ZERO_TIME


class NamespaceRef(msgspec.Struct):
    uuid: str = ""
    name: str = ""


class PrintedBucket(msgspec.Struct):
    """A bucket as servers print it, its namespace always an object."""

    name: str = ""
    provider: str = ""
    namespace: NamespaceRef = msgspec.field(default_factory=NamespaceRef)


class JobStatus(msgspec.Struct):
    """Status record of one job; `end_time` in Unix nanoseconds, 0 while it runs."""

    kind: str
    uuid: str
    err: str = ""
    end_time: int = 0
    aborted: bool = False


class JobStats(msgspec.Struct):
    """Counters, decimal numbers inside strings."""

    loc_objs: str = msgspec.field(default="0", name="loc-objs")
    loc_bytes: str = msgspec.field(default="0", name="loc-bytes")
    out_objs: str = msgspec.field(default="0", name="out-objs")
    out_bytes: str = msgspec.field(default="0", name="out-bytes")
    in_objs: str = msgspec.field(default="0", name="in-objs")
    in_bytes: str = msgspec.field(default="0", name="in-bytes")


class JobSnapshot(msgspec.Struct, kw_only=True):
    """Snapshot of one job on one target; an unfinished one has the zero end time."""

    ext: object = None
    start_time: str = msgspec.field(default=ZERO_TIME, name="start-time")
    end_time: str = msgspec.field(default=ZERO_TIME, name="end-time")
    bck: PrintedBucket = msgspec.field(default_factory=PrintedBucket)
    src_bck: PrintedBucket = msgspec.field(default_factory=PrintedBucket, name="src-bck")
    dst_bck: PrintedBucket = msgspec.field(default_factory=PrintedBucket, name="dst-bck")
    id: str
    kind: str
    ctlmsg: str | msgspec.UnsetType = msgspec.UNSET
    abort_err: str = msgspec.field(default="", name="abort-err")
    err: str = ""
    glob_id: str = msgspec.field(default="0", name="glob.id")
    stats: JobStats = msgspec.field(default_factory=JobStats)
    aborted: bool = False
    is_idle: bool = False


def fold_errors(first: str, count: int) -> str:
    """One text for `count` errors, the first of which is `first`."""
    if count < 2:
        return first if count else ""
    return f"{first} (and {count - 1} more error{'s' if count > 2 else ''})"
