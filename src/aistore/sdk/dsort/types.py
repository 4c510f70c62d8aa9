"""What is told of dSort jobs (protocol/40 B6). Counters are decimal numbers inside strings, durations nanoseconds."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from aistore.sdk.types import BucketModel  # noqa: TC001  pydantic evaluates it

__all__ = [
    "DetailedStats",
    "DsortMetrics",
    "JobInfo",
    "LocalExtraction",
    "MetaSorting",
    "PhaseInfo",
    "ShardCreation",
    "ThroughputStats",
    "TimeStats",
]


class TimeStats(BaseModel):
    """Times of something that happens many times, in milliseconds."""

    total_ms: str
    count: str
    min_ms: str
    max_ms: str
    avg_ms: str


class ThroughputStats(BaseModel):
    """Bytes per second of something that happens many times."""

    total: str
    count: str
    min_throughput: str
    max_throughput: str
    avg_throughput: str


class DetailedStats(TimeStats, ThroughputStats):
    """Times and throughput."""


class PhaseInfo(BaseModel):
    """State of a phase; neither running nor finished before its start."""

    started_time: str
    end_time: str
    elapsed: int
    running: bool
    finished: bool


class LocalExtraction(PhaseInfo):
    """Reading the input shards: how many are named, were read, and what was in them."""

    total_count: str
    extracted_count: str
    extracted_size: str
    extracted_record_count: str
    extracted_to_disk_count: str
    extracted_to_disk_size: str
    single_shard_stats: DetailedStats | None = None


class MetaSorting(PhaseInfo):
    """Putting records in order."""

    sent_stats: TimeStats | None = None
    recv_stats: TimeStats | None = None


class ShardCreation(PhaseInfo):
    """Writing the output shards."""

    to_create: str
    created_count: str
    moved_shard_count: str
    req_stats: TimeStats | None = None
    resp_stats: TimeStats | None = None
    local_send_stats: DetailedStats | None = None
    local_recv_stats: DetailedStats | None = None
    single_shard_stats: DetailedStats | None = None


class DsortMetrics(BaseModel):
    """The phases of a job on one target, and what went wrong."""

    local_extraction: LocalExtraction
    meta_sorting: MetaSorting
    shard_creation: ShardCreation
    aborted: bool | None = None
    archived: bool | None = None
    description: str | None = None
    warnings: list[str] | None = None
    errors: list[str] | None = None
    extended: bool | None = None


class JobInfo(BaseModel):
    """A job on one target; `archived` says that it is over. The durations are those of the three phases."""

    model_config = ConfigDict(populate_by_name=True)

    id: str
    src_bck: BucketModel = Field(alias="src-bck")
    dst_bck: BucketModel = Field(alias="dst-bck")
    started_time: str | None = None
    finish_time: str | None = None
    extracted_duration: int | None = Field(alias="started_meta_sorting", default=None)
    sorting_duration: int | None = Field(alias="started_shard_creation", default=None)
    creation_duration: int | None = Field(alias="finished_shard_creation", default=None)
    objects: str = Field(alias="loc-objs")
    bytes: str = Field(alias="loc-bytes")
    metrics: DsortMetrics = Field(alias="Metrics")
    aborted: bool
    archived: bool
