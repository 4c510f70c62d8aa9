"""What a node holds for its control calls: configuration, jobs, scans of the catalog."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aistore.server.config import ConfigKeeper
from aistore.server.jobs.registry import JobRegistry
from aistore.server.store.scan import Scanner

if TYPE_CHECKING:
    from aistore.server.store.store import Store

__all__ = ["Control"]


class Control:
    """State of the control calls of one node."""

    def __init__(self, store: Store) -> None:
        self.config = ConfigKeeper(store)
        self.jobs = JobRegistry(store)
        self.scanner = Scanner(store.catalog)
        self.props_lock = asyncio.Lock()
        """Held while a bucket's properties are read, changed and written."""

    async def close(self) -> None:
        """Stop the jobs and what scans."""
        await self.jobs.close()
        self.scanner.close()
