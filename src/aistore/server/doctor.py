"""The doctor of a data folder that nobody serves: the scrub, and what it cannot do itself, a catalog that is damaged.

    with Patient(path) as patient:
        findings = patient.examine(full=True, repair=False)

A served folder is examined by a job of its server (`jobs/scrubbing.py`), with the same scrub.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

from aistore.server.backends.base import SOURCE
from aistore.server.folder import LOCK, FolderError, FolderInUseError, find_server, lock_file
from aistore.server.store.aside import Aside
from aistore.server.store.catalog import Transaction
from aistore.server.store.errors import StoreCorrupt
from aistore.server.store.findings import Findings, Pace, Problem
from aistore.server.store.schema import BACKUP, CATALOG, CATALOG_LOCK, CATALOG_VERSION, connect, create_or_check
from aistore.server.store.scrub import Documents, Scrub, open_for_scrub
from aistore.server.store.scrub_files import backup_damage
from aistore.server.store.sync import sync_file, sync_folder
from aistore.wire.props import BucketProps, pack_native, unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

__all__ = ["DOCUMENTS", "Patient"]

_OF_THE_LOG: Final = (f"{CATALOG}-wal", f"{CATALOG}-shm")


def _read_props(data: bytes) -> BucketProps:
    return unpack(data, BucketProps)


def _make_props(number: int) -> bytes:
    return pack_native(BucketProps(), number)


DOCUMENTS: Final = Documents(_read_props, _make_props, SOURCE)


class Patient:
    """A data folder, locked against servers. Raises `FolderError`, or `FolderInUseError` if one runs."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._catalog = data_dir / CATALOG
        if not (self._catalog.exists() or (data_dir / "content").is_dir()):
            raise FolderError(f"{data_dir} is no data folder: it has no {CATALOG} and no content")
        self._fds: list[int] = []
        fd = lock_file(data_dir / LOCK)
        if fd is None:
            running = find_server(data_dir)
            raise FolderInUseError(data_dir, running.pid if running else None, running.url if running else "")
        self._fds.append(fd)
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps({"pid": os.getpid(), "url": ""}).encode() + b"\n", 0)
            self._fds.append(os.open(data_dir / CATALOG_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            try:
                fcntl.flock(self._fds[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FolderError(f"processes of an earlier server on {data_dir} still answer: try again") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Patient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        if self._fds:
            os.ftruncate(self._fds[0], 0)
        for fd in reversed(self._fds):
            os.close(fd)
        self._fds.clear()

    def examine(
        self, *, full: bool, repair: bool, pace: Pace | None = None, findings: Findings | None = None
    ) -> Findings:
        """Look at everything; with `repair` mend what can be. Raises `StoreCorrupt` if the catalog is of a format that this version cannot use.

        `findings` is what is filled, for those who watch.
        """
        findings = findings or Findings(full, repair)
        if (damage := self._damage()) and not self._go_back(findings, damage):
            findings.seconds = time.monotonic() - findings.started
            return findings
        self._check_format(repair=repair)
        with closing(open_for_scrub(self._catalog)) as db, closing(connect(self._catalog, "strict")) as writer:
            scrub = Scrub(
                self.data_dir, findings, pace or Pace(), DOCUMENTS, lambda change: _commit(writer, change), alone=True
            )
            scrub.run(db)
        return findings

    def _check_format(self, *, repair: bool) -> None:
        with closing(sqlite3.connect(f"file:{self._catalog}?mode=ro", uri=True)) as db:
            found = db.execute("PRAGMA user_version").fetchone()[0]
        if found < CATALOG_VERSION and not repair:
            raise StoreCorrupt(
                f"{self.data_dir} was written by an older version (format {found}, this one writes {CATALOG_VERSION}):"
                " a start of the server, or --repair, brings it up to date"
            )
        create_or_check(self._catalog, "strict")

    # -- a catalog that cannot be used -------------------------------------------------------------------------

    def _damage(self) -> str:
        """Why the catalog cannot be used; empty if it can."""
        if not self._catalog.exists():
            return "it is missing"
        try:
            with closing(connect(self._catalog, "strict", readonly=True)) as db:
                found = [str(row[0]) for row in db.execute("PRAGMA quick_check(3)")]
                if found == ["ok"]:
                    db.execute("SELECT count(*) FROM bucket").fetchone()
        except sqlite3.DatabaseError as error:
            return str(error)
        return "" if found == ["ok"] else "; ".join(found)

    def _go_back(self, findings: Findings, damage: str) -> bool:
        """Put the copy in the catalog's place; False if that is not wanted, or not possible."""
        backup = self.data_dir / BACKUP
        remedy, possible = self._way_back(backup)
        problem = Problem("catalog-damaged", str(self._catalog), damage, remedy)
        if not (findings.repair and possible):
            findings.add(problem, "found")
            return False
        changed = _when_changed(backup)
        aside = Aside(self.data_dir)
        fresh = self._catalog.with_name(f"{CATALOG}.new")
        shutil.copyfile(backup, fresh)
        fd = os.open(fresh, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fchmod(fd, 0o600)
            sync_file(fd)
        finally:
            os.close(fd)
        # The log goes first: played into the copy, it would damage that as well.
        for name in (*_OF_THE_LOG, CATALOG):
            aside.move(self.data_dir / name)
        fresh.replace(self._catalog)
        sync_folder(self.data_dir)
        findings.add(problem, "repaired")
        findings.notes.append(
            f"the catalog is that of {changed}: what was stored, changed or deleted since then is as it was at that time, or lost."
            f" Content of that time which was deleted since is gone; content that came since lies in {aside.folder}, without its names"
            " (files of some kilobytes lay in the catalog itself). The damaged catalog is there too"
        )
        return True

    def _way_back(self, backup: Path) -> tuple[str, bool]:
        """What repair does about a damaged catalog, and whether it can."""
        if not backup.exists():
            text = f"there is no copy of it ({BACKUP}): content still lies in {self.data_dir / 'content'}, without its names"
            return text, False
        if backup_damage(backup):
            return f"the copy of it ({backup}) is damaged as well", False
        return (
            f"go back to the copy of {_when_changed(backup)}; what came since then is lost, or keeps its content only",
            True,
        )


def _when_changed(path: Path) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(path.stat().st_mtime))


def _commit(db: sqlite3.Connection, change: Callable[[Transaction], object]) -> object:
    """Make one change of the catalog."""
    db.execute("BEGIN IMMEDIATE")
    try:
        tx = Transaction(db)
        made = change(tx)
        tx.write_usage()
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            if db.in_transaction:
                db.execute("ROLLBACK")
        raise
    return made
