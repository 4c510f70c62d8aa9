"""What is told of dSort jobs, of those too that are over (protocol/40 B2, B6)."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from aistore.server.jobs.registry import CUT_OFF
from aistore.server.store.records import Records
from aistore.wire.dsort import JobInfo
from aistore.wire.values import SECOND, format_time, parse_time

if TYPE_CHECKING:
    from aistore.server.dsort.progress import Progress
    from aistore.server.store.store import Store

__all__ = ["Sorts"]

logger = logging.getLogger(__name__)

# Those that are over are kept for a day, or until there are very many of them.
_KEPT_FOR: Final = 24 * 3600 * SECOND
_KEPT: Final = 1024
_KEPT_MAX: Final = 16_384


class Sorts:
    """All dSort jobs of the cluster; they belong to the gateway."""

    def __init__(self, store: Store) -> None:
        self._records = Records(store.catalog, "dsort")
        self._running: dict[str, Progress] = {}
        self._keeping: set[asyncio.Future[None]] = set()
        found = [msgspec.json.decode(text, type=JobInfo) for text in self._records.load()]
        self._over = {info.id: info for info in sorted(found, key=_ended)}
        for info in found:
            if not info.archived:  # the process that ran it was killed
                self._keep(_cut_off(info), write=store.primary)

    def start(self, progress: Progress) -> asyncio.Future[None]:
        """A job has started; done when that is noted."""
        self._running[progress.id] = progress
        return self._records.keep(progress.id, _encoded(progress.info()))

    def end(self, progress: Progress, error: str) -> None:
        """A job is over, with an error if it was aborted."""
        del self._running[progress.id]
        progress.finish(error)
        self._keep(progress.info(), write=True)
        self._forget_old()

    def find(self, job_id: str) -> JobInfo | None:
        """What is told of a job."""
        running = self._running.get(job_id)
        return running.info() if running is not None else self._over.get(job_id)

    def all(self) -> list[JobInfo]:
        """All jobs, those that run first."""
        return [*(one.info() for one in self._running.values()), *reversed(self._over.values())]

    def runs(self, job_id: str) -> bool:
        """Whether a job is not over."""
        return job_id in self._running

    async def remove(self, job_id: str) -> None:
        """Forget a job that is over."""
        del self._over[job_id]
        await self._records.drop([job_id])

    async def close(self) -> None:
        """Wait until all is noted."""
        await asyncio.gather(*self._keeping, return_exceptions=True)

    def _keep(self, info: JobInfo, *, write: bool) -> None:
        self._over[info.id] = info
        if write:
            self._in_background(self._records.keep(info.id, _encoded(info)))

    def _forget_old(self) -> None:
        limit = time.time_ns() - _KEPT_FOR
        dropped = []
        for info in list(self._over.values())[: max(len(self._over) - _KEPT, 0)]:
            if _ended(info) > limit and len(self._over) <= _KEPT_MAX:
                break
            del self._over[info.id]
            dropped.append(info.id)
        if dropped:
            self._in_background(self._records.drop(dropped))

    def _in_background(self, future: asyncio.Future[None]) -> None:
        def done(future: asyncio.Future[None]) -> None:
            self._keeping.discard(future)
            error = None if future.cancelled() else future.exception()
            if error is not None:
                logger.error("what is told of dSort jobs could not be kept", exc_info=error)

        self._keeping.add(future)
        future.add_done_callback(done)


def _encoded(info: JobInfo) -> str:
    return msgspec.json.encode(info).decode()


def _ended(info: JobInfo) -> int:
    return parse_time(info.finish_time)


def _cut_off(info: JobInfo) -> JobInfo:
    metrics = replace(info.metrics, aborted=True, archived=True, errors=[CUT_OFF])
    return replace(info, metrics=metrics, finish_time=format_time(time.time_ns()), aborted=True, archived=True)
