"""What a job has done so far, and how that is told (protocol/40 B6)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.wire.dsort import Creation, Extraction, JobInfo, Metrics, Sorting
from aistore.wire.snaps import NamespaceRef, PrintedBucket
from aistore.wire.values import format_time

if TYPE_CHECKING:
    from aistore.wire.names import BucketId

__all__ = ["Phase", "Progress"]

_TEXTS_MAX: Final = 100  # warnings that are kept; what comes after them is counted


class Phase:
    """One phase; times in Unix nanoseconds, 0 for what is not yet."""

    def __init__(self) -> None:
        self.started = self.ended = 0

    def start(self) -> None:
        """It begins."""
        self.started = time.time_ns()

    def end(self) -> None:
        """It is over."""
        self.ended = max(time.time_ns(), self.started + 1)

    @property
    def elapsed(self) -> int:
        """Nanoseconds since its start, to its end if there was one."""
        return (self.ended or time.time_ns()) - self.started if self.started else 0


class Progress:
    """Counters of one job; whoever does the work counts on it."""

    def __init__(self, job_id: str, source: BucketId, target: BucketId, description: str) -> None:
        self.id = job_id
        self.description = description
        self._source, self._target = _printed(source), _printed(target)
        self.started, self.ended = time.time_ns(), 0
        self.extraction, self.sorting, self.creation = Phase(), Phase(), Phase()
        self.named = 0
        """Input shards that the request names."""
        self.shards = self.members = self.size = 0
        """Input shards read, their members, and bytes of content of those."""
        self.on_disk = self.on_disk_size = 0
        """Shards that were decompressed or copied into a file, and what they take there."""
        self.to_create = self.created = 0
        self._error = ""
        self._warnings: list[str] = []
        self._more_warnings = 0

    def warn(self, text: str) -> None:
        """Note what the user should know."""
        if len(self._warnings) < _TEXTS_MAX:
            self._warnings.append(text)
        else:
            self._more_warnings += 1

    def finish(self, error: str = "") -> None:
        """The job is over; with an error it was aborted. Whoever sees the last phase finished finds the job over, too."""
        self._error = error
        if not error:
            self.creation.end()
        self.ended = time.time_ns()

    def info(self) -> JobInfo:
        """All of it as one target tells it."""
        extraction, sorting, creation = self.extraction, self.sorting, self.creation
        warnings = self._warnings + ([f"and {self._more_warnings} more"] if self._more_warnings else [])
        metrics = Metrics(
            local_extraction=Extraction(
                total_count=str(self.named),
                extracted_count=str(self.shards),
                extracted_size=str(self.size),
                extracted_record_count=str(self.members),
                extracted_to_disk_count=str(self.on_disk),
                extracted_to_disk_size=str(self.on_disk_size),
            ),
            meta_sorting=Sorting(),
            shard_creation=Creation(to_create=str(self.to_create), created_count=str(self.created)),
            description=self.description or msgspec.UNSET,
            warnings=warnings or msgspec.UNSET,
            errors=[self._error] if self._error else msgspec.UNSET,
            aborted=bool(self._error),
            archived=bool(self.ended),
        )
        for phase, shown in (
            (extraction, metrics.local_extraction),
            (sorting, metrics.meta_sorting),
            (creation, metrics.shard_creation),
        ):
            shown.started_time = format_time(phase.started)
            shown.end_time = format_time(phase.ended)
            shown.elapsed = phase.elapsed
            shown.finished = bool(phase.ended)
            shown.running = bool(phase.started and not phase.ended and not self.ended)
        return JobInfo(
            id=self.id,
            src_bck=self._source,
            dst_bck=self._target,
            started_time=format_time(self.started),
            finish_time=format_time(self.ended),
            started_meta_sorting=extraction.elapsed or msgspec.UNSET,
            started_shard_creation=sorting.elapsed or msgspec.UNSET,
            finished_shard_creation=creation.elapsed or msgspec.UNSET,
            objects=str(self.shards),
            bytes=str(self.size),
            metrics=metrics,
            aborted=bool(self._error),
            archived=bool(self.ended),
        )


def _printed(bucket: BucketId) -> PrintedBucket:
    return PrintedBucket(bucket.name, bucket.provider, NamespaceRef(bucket.uuid, bucket.namespace))
