"""Messages of dSort: the specification of a job, and what is told of it (protocol/40 B3, B6)."""

from __future__ import annotations

from typing import Final

import msgspec

from aistore.wire.messages import BucketMessage  # noqa: TC001 (msgspec reads the annotations)
from aistore.wire.snaps import PrintedBucket  # noqa: TC001 (as above)
from aistore.wire.values import ZERO_TIME

ALPHANUMERIC: Final = "alphanumeric"
CONTENT: Final = "content"
MD5: Final = "md5"
NONE: Final = "none"
SHUFFLE: Final = "shuffle"
KINDS: Final = (ALPHANUMERIC, MD5, SHUFFLE, CONTENT, NONE)
"""Orders of records; the empty text is the first of them."""

INT: Final = "int"
FLOAT: Final = "float"
STRING: Final = "string"
KEY_TYPES: Final = (INT, FLOAT, STRING)
"""Types of the key of a sort by content."""

IGNORE: Final = "ignore"
WARN: Final = "warn"
ABORT: Final = "abort"
REACTIONS: Final = (IGNORE, WARN, ABORT)

SECTION: Final = "distributed_sort"
"""The section of the cluster's configuration."""

# What no time was ever below: counters that have not counted show it.
_NO_MINIMUM: Final = str((1 << 63) - 1)


class Selection(msgspec.Struct):
    """Input shards: a list of names, or a template."""

    template: str = ""
    objnames: list[str] = []


class Algorithm(msgspec.Struct):
    """How records are ordered; `extension` and `content_key_type` are for a sort by content only."""

    kind: str = ""
    decreasing: bool = False
    seed: str = ""
    extension: str = ""
    content_key_type: str = ""


class Reactions(msgspec.Struct, kw_only=True):
    """What happens in case of ...: `ignore`, `warn` or `abort`; empty for what the cluster's configuration says."""

    duplicated_records: str = ""
    missing_shards: str = ""
    ekm_malformed_line: str = ""
    ekm_missing_key: str = ""


class Specification(msgspec.Struct, kw_only=True):
    """What a client asks for; unknown keys are ignored."""

    input_bck: BucketMessage | None = None
    input_format: Selection | None = None
    input_extension: str = ""
    output_bck: BucketMessage | None = None
    output_format: str = ""
    output_extension: str = ""
    output_shard_size: str = ""
    algorithm: Algorithm = msgspec.field(default_factory=Algorithm)
    description: str = ""
    ekm_file: str = ""
    ekm_file_sep: str = ""
    max_mem_usage: str = ""
    extract_concurrency_max_limit: int = 0
    create_concurrency_max_limit: int = 0
    dsorter_type: str = ""
    dry_run: bool = False
    config: Reactions = msgspec.field(default_factory=Reactions, name="Config")


class TransferStats(msgspec.Struct):
    """Times of what targets send one another: here nothing."""

    total_ms: str = "0"
    count: str = "0"
    min_ms: str = _NO_MINIMUM
    max_ms: str = "0"
    avg_ms: str = "0"


class Phase(msgspec.Struct, kw_only=True):
    """State of a phase; `elapsed` in nanoseconds."""

    started_time: str = ZERO_TIME
    end_time: str = ZERO_TIME
    elapsed: int = 0
    running: bool = False
    finished: bool = False


class Extraction(Phase, kw_only=True):
    """Reading the input shards; counters are decimal numbers inside strings, here and below."""

    total_count: str = "0"
    extracted_count: str = "0"
    extracted_size: str = "0"
    extracted_record_count: str = "0"
    extracted_to_disk_count: str = "0"
    extracted_to_disk_size: str = "0"


class Sorting(Phase, kw_only=True):
    """Putting records in order."""

    sent_stats: TransferStats = msgspec.field(default_factory=TransferStats)
    recv_stats: TransferStats = msgspec.field(default_factory=TransferStats)


class Creation(Phase, kw_only=True):
    """Writing the output shards."""

    to_create: str = "0"
    created_count: str = "0"
    moved_shard_count: str = "0"


class Metrics(msgspec.Struct, kw_only=True, omit_defaults=False):
    """The phases of a job on one target, and what went wrong."""

    local_extraction: Extraction = msgspec.field(default_factory=Extraction)
    meta_sorting: Sorting = msgspec.field(default_factory=Sorting)
    shard_creation: Creation = msgspec.field(default_factory=Creation)
    description: str | msgspec.UnsetType = msgspec.UNSET
    warnings: list[str] | msgspec.UnsetType = msgspec.UNSET
    errors: list[str] | msgspec.UnsetType = msgspec.UNSET
    aborted: bool = False
    archived: bool = False


class JobInfo(msgspec.Struct, kw_only=True):
    """What is told of a job on one target. The three durations are those of extraction, sorting and creation (nanoseconds)."""

    id: str
    src_bck: PrintedBucket = msgspec.field(name="src-bck")
    dst_bck: PrintedBucket = msgspec.field(name="dst-bck")
    started_time: str = ZERO_TIME
    finish_time: str = ZERO_TIME
    started_meta_sorting: int | msgspec.UnsetType = msgspec.UNSET
    started_shard_creation: int | msgspec.UnsetType = msgspec.UNSET
    finished_shard_creation: int | msgspec.UnsetType = msgspec.UNSET
    objects: str = msgspec.field(default="0", name="loc-objs")
    bytes: str = msgspec.field(default="0", name="loc-bytes")
    metrics: Metrics = msgspec.field(default_factory=Metrics, name="Metrics")
    aborted: bool = False
    archived: bool = False
