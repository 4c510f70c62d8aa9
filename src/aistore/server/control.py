"""What a node holds beside its store: configuration, jobs, scans of the catalog, archives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aistore.server.archive.archives import Archives
from aistore.server.config import ConfigKeeper
from aistore.server.dsort.registry import Sorts
from aistore.server.jobs.registry import JobRegistry
from aistore.server.jobs.scrubbing import Scrubs
from aistore.server.jobs.summary import Summaries
from aistore.server.store.scan import Scanner

if TYPE_CHECKING:
    from aistore.server.limits import NodeLimits
    from aistore.server.store.store import Store

__all__ = ["Control"]


class Control:
    """State of one node beside its store."""

    def __init__(self, store: Store, limits: NodeLimits) -> None:
        self.config = ConfigKeeper(store)
        self.jobs = JobRegistry(store, at_once=limits.jobs)
        self.sorts = Sorts(store)
        self.scrubs = Scrubs(store)
        self.scanner = Scanner(store.catalog)
        self.archives = Archives(store)
        self.summaries = Summaries(store, self.scanner, self.jobs, at_once=max(1, limits.jobs // 4))
        self.props_lock = asyncio.Lock()
        """Held while a bucket's properties are read, changed and written."""

    async def close(self) -> None:
        """Stop the jobs, and what scans and reads."""
        await self.jobs.close()
        await self.sorts.close()
        await self.archives.close()
        self.scanner.close()
