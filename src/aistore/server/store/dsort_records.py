"""What is told of dSort jobs, in the catalog: what it holds is their registry's business."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from aistore.server.store.catalog import Catalog, Transaction

__all__ = ["drop_infos", "keep_info", "load_infos"]

_PREFIX: Final = "dsort/"
_BEHIND: Final = "dsort0"


def load_infos(catalog: Catalog) -> list[str]:
    """All that is told, in no order."""
    rows = catalog.read("SELECT value FROM meta WHERE key >= ? AND key < ?", (_PREFIX, _BEHIND))
    return [value for (value,) in rows]


def keep_info(catalog: Catalog, job_id: str, info: str) -> asyncio.Future[None]:
    """Write or replace what is told of a job."""
    return catalog.set_meta({_PREFIX + job_id: info})


def drop_infos(catalog: Catalog, job_ids: Iterable[str]) -> asyncio.Future[None]:
    """Forget jobs."""
    keys = [(_PREFIX + one,) for one in job_ids]

    def change(tx: Transaction) -> None:
        tx.executemany("DELETE FROM meta WHERE key = ?", keys)

    return catalog.submit(change)
