"""Records of jobs in the catalog: what they hold is the registry's business."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aistore.server.store.catalog import Catalog, Transaction

__all__ = ["drop_records", "keep_record", "load_records"]


def load_records(catalog: Catalog) -> list[bytes]:
    """All records: those of finished jobs in the order in which they ended, then those of jobs that had not."""
    rows = catalog.read("SELECT record FROM job ORDER BY finished = 0, finished")
    return [record for (record,) in rows]


def keep_record(tx: Transaction, job_id: str, ended: int, record: bytes) -> None:
    """Write or replace a record; `ended` is in Unix nanoseconds, 0 for a job that runs."""
    tx.execute("INSERT OR REPLACE INTO job VALUES (?, ?, ?)", (job_id, ended, record))


def drop_records(tx: Transaction, job_ids: Iterable[str]) -> None:
    """Forget records."""
    tx.executemany("DELETE FROM job WHERE id = ?", [(one,) for one in job_ids])
