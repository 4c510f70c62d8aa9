"""The scrub of a folder that is served: the job `scrub`, one at a time.

It works in a thread of its own, at half of one core's time and a bounded rate of reading, so that clients do not suffer. What mends a
problem is a change of the catalog as any other.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.server.store.content import finished
from aistore.server.store.errors import StoreError
from aistore.server.store.findings import Findings, FindingsDocument, Pace, ScrubStopped
from aistore.server.store.records import Records

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.server.jobs.registry import Job
    from aistore.server.store.catalog import Transaction
    from aistore.server.store.scrub import Documents
    from aistore.server.store.store import Store

__all__ = ["Scrubs"]

logger = logging.getLogger(__name__)

_SHARE: Final = 0.5
_RATE: Final = 200 << 20  # bytes of content a second
_COUNT_EVERY: Final = 0.2
_KEPT: Final = 8  # of the latest scrubs it is remembered what they found


class Scrubs:
    """The scrubs of a server: the one that runs, and what the latest ones found."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._records = Records(store.catalog, "scrub")
        self._running: dict[str, Findings] = {}
        self._over: dict[str, FindingsDocument] = {}
        self._number = 0
        for text in self._records.load():
            number, job_id, found = msgspec.json.decode(text, type=tuple[int, str, FindingsDocument])
            self._over[job_id] = found
            self._number = number

    @property
    def runs(self) -> bool:
        """Whether one is under way: two would mend the same counts twice."""
        return bool(self._running)

    def find(self, job_id: str) -> FindingsDocument | None:
        """What a scrub has found, so far or in the end."""
        running = self._running.get(job_id)
        return running.document() if running is not None else self._over.get(job_id)

    async def run(self, job: Job, documents: Documents, *, full: bool, repair: bool) -> None:
        """Do the job. What is wrong and was not mended are its errors."""
        findings = self._running[job.id] = Findings(full, repair)
        try:
            await self._run(job, findings, documents)
        finally:
            del self._running[job.id]
            self._over[job.id] = findings.document()
            await self._keep(job.id)

    async def _run(self, job: Job, findings: Findings, documents: Documents) -> None:
        stop = threading.Event()
        pace = Pace(_SHARE, _RATE, stop.wait)
        loop = asyncio.get_running_loop()
        opened: list[sqlite3.Connection] = []

        def commit(change: Callable[[Transaction], object]) -> object:
            return asyncio.run_coroutine_threadsafe(self._commit(change), loop).result()

        def work() -> None:
            from aistore.server.store.scrub import Scrub, open_for_scrub

            scrub = Scrub(self._store.root, findings, pace, documents, commit, alone=False)
            with closing(open_for_scrub(self._store.catalog.path)) as db:
                opened.append(db)
                try:
                    scrub.run(db)
                finally:
                    opened.clear()

        with ThreadPoolExecutor(1, "scrub") as thread:
            future = loop.run_in_executor(thread, work)
            counter = asyncio.ensure_future(_count(job, findings))
            try:
                await asyncio.shield(future)
            except asyncio.CancelledError:
                stop.set()
                for db in opened:
                    db.interrupt()  # a check of the whole catalog is one statement
                with suppress(ScrubStopped, sqlite3.OperationalError):
                    await finished(future)
                raise
            except sqlite3.Error as error:
                raise StoreError(f"the catalog could not be read: {error}") from error
            finally:
                stop.set()
                counter.cancel()
                await asyncio.gather(counter, return_exceptions=True)
        for problem, state in findings.problems:
            if state != "repaired":
                job.failed(f"{problem.where}: {problem.text}")

    async def _commit(self, change: Callable[[Transaction], object]) -> object:
        made = await self._store.catalog.submit(change)
        self._store.clear_cache()
        self._store.verifier.damage.load()
        self._store.content.remove_garbage()
        return made

    async def _keep(self, job_id: str) -> None:
        self._number += 1
        text = msgspec.json.encode((self._number, job_id, self._over[job_id])).decode()
        try:
            await self._records.keep(f"{self._number:012}", text)
            if self._number > _KEPT:
                await self._records.drop([f"{self._number - _KEPT:012}"])
        except (StoreError, sqlite3.Error) as error:
            logger.warning("what scrub[%s] found could not be kept: %s", job_id, error)
        while len(self._over) > _KEPT:
            del self._over[next(iter(self._over))]


async def _count(job: Job, findings: Findings) -> None:
    """Tell how far it is in the job's counters."""
    objects = size = 0
    try:
        while True:
            await asyncio.sleep(_COUNT_EVERY)
            job.done(findings.objects - objects, findings.bytes - size)
            objects, size = findings.objects, findings.bytes
    finally:
        job.done(findings.objects - objects, findings.bytes - size)
