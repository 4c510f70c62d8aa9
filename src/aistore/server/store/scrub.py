"""The scrub: everything in a data folder against everything else, with or without repair.

One implementation for a folder that nobody serves and for one that is served. It blocks, and runs in a thread beside a server. What it
finds is told one by one; what mends a problem is one change of the catalog, and files are moved before or after that so that whatever
is cut off between the two is found by the next scrub.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aistore.server.store.aside import Aside
from aistore.server.store.findings import Problem
from aistore.server.store.schema import CATALOG, connect
from aistore.server.store.scrub_catalog import CatalogScrub
from aistore.server.store.scrub_content import ContentScrub
from aistore.server.store.scrub_files import FileScrub, backup_problems

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from aistore.server.store.catalog import Transaction
    from aistore.server.store.findings import Findings, Pace, State

    Commit = Callable[[Callable[[Transaction], object]], object]

__all__ = ["Documents", "Scrub", "open_for_scrub"]


class Documents(NamedTuple):
    """What the store keeps and does not understand itself."""

    read_props: Callable[[bytes], object]
    """Decodes a bucket's properties, or raises."""
    make_props: Callable[[int], bytes]
    """Properties of a new bucket of this number."""
    source_key: str
    """The custom key of objects that can be fetched again."""


def open_for_scrub(path: Path) -> sqlite3.Connection:
    """A connection that reads the catalog whatever names are in it, and sorts on the disk."""
    db = connect(path, "strict", readonly=True)
    db.execute("PRAGMA temp_store=FILE")
    db.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    return db


class Scrub:
    """One scrub of a data folder. `commit` makes a change of the catalog and waits for it; `alone` says that nobody else uses the folder."""

    def __init__(
        self,
        root: Path,
        findings: Findings,
        pace: Pace,
        documents: Documents,
        commit: Commit,
        *,
        alone: bool,
    ) -> None:
        self._root = root
        self.findings = findings
        self._pace = pace
        self._documents = documents
        self._commit = commit
        self._alone = alone

    def run(self, db: sqlite3.Connection) -> None:
        """Look at everything (blocking); `db` comes from `open_for_scrub`. Raises `ScrubStopped`."""
        aside = Aside(self._root)
        catalog = CatalogScrub(db, aside, self._pace, self._documents)
        findings = self.findings
        damage = catalog.integrity(full=findings.full)
        for text in damage:
            self._tell(Problem("catalog-damaged", str(self._root / CATALOG), text))
        if damage:
            return
        for problem in catalog.all():
            self._tell(problem)
        files = FileScrub(self._root, db, aside, self._pace, catalog.dangling, alone=self._alone)
        for problem in files.all():
            self._tell(problem)
        content = ContentScrub(
            self._root, db, catalog, files.bad, findings, self._pace, self._documents.source_key, self._commit
        )
        for problem in content.all():
            self._tell(problem)
        for problem in backup_problems(self._root):
            self._tell(problem)
        findings.notes += files.notes()
        if content.summed:
            findings.notes.append(f"{content.summed} objects had no sums of their pieces: they were made")
        if content.unsummed:
            findings.notes.append(
                f"{content.unsummed} objects have no sums of their pieces, so ranges of them are not compared: repair makes the sums"
            )
        findings.end()

    def _tell(self, problem: Problem) -> None:
        state: State = "found"
        if problem.fix is None and problem.after is None:
            state = "contained" if problem.contained else "found"
        elif self.findings.repair and self._repair(problem):
            state = "contained" if problem.contained else "repaired"
        self.findings.add(problem, state)

    def _repair(self, problem: Problem) -> bool:
        try:
            if problem.before is not None:
                problem.before()
            if problem.fix is not None and self._commit(problem.fix) is False:
                return False
            if problem.after is not None:
                problem.after()
        except OSError as error:
            self.findings.notes.append(f"{problem.where}: {error}")
            return False
        return True
