"""Whether the files of a data folder are those that the catalog knows, and what else lies there.

Others may work on the folder meanwhile. Rows go before their files do, and files come before their rows; so what is missing is looked for
once more in the catalog, and what nobody knows is one only in blocks that are closed.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.server.store.catalog import STORED
from aistore.server.store.content import block_of, content_path, ids_of, is_content
from aistore.server.store.findings import Problem
from aistore.server.store.multipart import KEPT_SECONDS
from aistore.server.store.schema import BACKUP
from aistore.server.store.work import KEPT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aistore.server.store.aside import Aside
    from aistore.server.store.catalog import Transaction
    from aistore.server.store.findings import Pace

__all__ = ["FileScrub", "backup_damage", "backup_problems"]

_OTHERS: Final = 0o077
_LOW: Final = 256 << 20  # bytes free below which uploads may soon be refused
_NS: Final = 1_000_000_000
_BAD_MAX: Final = 200_000


class _Row(NamedTuple):
    size: int
    growing: bool
    """Whether it is a file of an upload in parts, whose size changes."""


class FileScrub:
    """The checks of the files; `alone` says that nobody else uses the folder."""

    def __init__(
        self, root: Path, db: sqlite3.Connection, aside: Aside, pace: Pace, dangling: set[int], *, alone: bool
    ) -> None:
        self._root = root
        self._content = root / "content"
        self._db = db
        self._aside = aside
        self._pace = pace
        self._dangling = dangling
        self._alone = alone
        self.bad: dict[int, str] = {}
        """What is wrong with content files."""

    def all(self) -> Iterator[Problem]:
        """All checks, one after the other."""
        yield from self._blocks()
        yield from self._missing_blocks()
        yield from self._work()
        yield from self._uploads()
        yield from self._folder()

    # -- content -----------------------------------------------------------------------------------------------

    def _blocks(self) -> Iterator[Problem]:
        """The folders that are there."""
        if not self._content.is_dir():
            return
        for folder in sorted(self._content.iterdir()):
            self._pace.step()
            if not (folder.is_dir() and len(folder.name) == 8 and _is_hex(folder.name)):
                yield self._stranger(folder)
                continue
            yield from self._block(int(folder.name, 16), folder)

    def _block(self, block: int, folder: Path) -> Iterator[Problem]:
        found: dict[int, os.stat_result] = {}
        strangers: list[Path] = []
        rows = self._rows(block)
        with suppress(FileNotFoundError):
            for entry in os.scandir(folder):
                if not is_content(entry.name):
                    strangers.append(folder / entry.name)
                    continue
                with suppress(FileNotFoundError):
                    found[int(entry.name, 16)] = entry.stat(follow_symlinks=False)
        for path in strangers:
            yield self._stranger(path)
        for content, row in rows.items():
            yield from self._file(content, row, found.get(content))
        for content in found.keys() - rows.keys():
            if self._nobody_knows(content, block):
                yield self._adopted(content, found[content]) or self._orphan(content, found[content].st_size)

    def _missing_blocks(self) -> Iterator[Problem]:
        """Content whose whole folder is gone."""
        start = 0
        while True:
            found = self._db.execute("SELECT min(id) FROM file WHERE id >= ?", (start,)).fetchone()[0]
            if found is None:
                return
            block = block_of(found)
            self._pace.step()
            if not (self._content / f"{block:08x}").is_dir():
                for content, row in self._rows(block).items():
                    yield from self._file(content, row, None)
            start = ids_of(block).stop

    def _rows(self, block: int) -> dict[int, _Row]:
        ids = ids_of(block)
        sql = "SELECT id, size, id IN (SELECT id FROM upload_file) FROM file WHERE id >= ? AND id < ?"
        return {one: _Row(size, bool(growing)) for one, size, growing in self._db.execute(sql, (ids.start, ids.stop))}

    def _file(self, content: int, row: _Row, status: os.stat_result | None) -> Iterator[Problem]:
        if status is None:
            if self._is_still(content, row):
                self._is_bad(content, f"its file {content_path(self._content, content)} is missing")
            return
        if not stat.S_ISREG(status.st_mode):
            self._is_bad(content, f"{content_path(self._content, content)} is no file")
        elif status.st_size != row.size and not row.growing and self._is_still(content, row):
            self._is_bad(content, f"its file has {status.st_size} bytes, not {row.size}")
        if status.st_mode & _OTHERS:
            yield _open_to_others(content_path(self._content, content), status.st_mode)

    def _is_still(self, content: int, row: _Row) -> bool:
        sql = "SELECT size, id IN (SELECT id FROM upload_file) FROM file WHERE id = ?"
        now = self._db.execute(sql, (content,)).fetchone()
        return now is not None and _Row(now[0], bool(now[1])) == row

    def _is_bad(self, content: int, what: str) -> None:
        """Content that cannot be read any more; of which objects it is, is told when they are gone through."""
        if len(self.bad) < _BAD_MAX:
            self.bad[content] = what

    def _nobody_knows(self, content: int, block: int) -> bool:
        """Whether no row has to do with a file, nor can one be about to."""
        if not self._alone:
            opened = self._db.execute("SELECT open FROM block WHERE id = ?", (block,)).fetchone()
            if opened is None or opened[0]:
                return False
        for table in ("file", "garbage"):
            if self._db.execute(f"SELECT 1 FROM {table} WHERE id = ?", (content,)).fetchone():  # noqa: S608 (constants)
                return False
        return content_path(self._content, content).exists()

    def _adopted(self, content: int, status: os.stat_result) -> Problem | None:
        """A file that the catalog has lost, while its objects are there."""
        if content not in self._dangling:
            return None
        sql = "SELECT count(*) FROM object WHERE layout != 0 AND content = ? AND size = ?"
        count = self._db.execute(sql, (content, status.st_size)).fetchone()[0]
        if not count:
            return None

        def fix(tx: Transaction) -> None:
            tx.execute("INSERT OR IGNORE INTO file (id, refs, size) VALUES (?, ?, ?)", (content, count, status.st_size))
            tx.count(STORED, 1, status.st_size)

        self._dangling.discard(content)
        return Problem(
            "count", f"content {content:016x}", "objects refer to it, its file is there, and the catalog does not know it",
            "note it in the catalog", fix,
        )  # fmt: skip

    def _orphan(self, content: int, size: int) -> Problem:
        path = content_path(self._content, content)
        return Problem(
            "orphan",
            str(path),
            f"{size} bytes that nothing refers to",
            f"move it to {self._aside.folder}",
            after=lambda: self._aside.move(path),
        )

    def _stranger(self, path: Path) -> Problem:
        return Problem("stranger", str(path), "is none of the store's", f"move it to {self._aside.folder}",
                       after=lambda: self._aside.move(path))  # fmt: skip

    # -- work under way ----------------------------------------------------------------------------------------

    def _work(self) -> Iterator[Problem]:
        folder, limit = self._root / "work", time.time() - KEPT_SECONDS
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            with suppress(FileNotFoundError):
                status = path.stat()
                stale = status.st_mtime < limit and not path.name.startswith(KEPT)
                left = self._alone and (path.name.startswith(KEPT) or status.st_nlink > 1)
                if stale or left:
                    what = "an append session that nobody went on with for a day" if stale else "left over by a crash"
                    yield Problem(
                        "leftover", str(path), f"{what}, {status.st_size} bytes", "remove it", after=_remover(path)
                    )

    def _uploads(self) -> Iterator[Problem]:
        limit = time.time_ns() - round(KEPT_SECONDS * _NS)
        for upload, name in self._db.execute("SELECT id, name FROM upload WHERE changed < ?", (limit,)).fetchall():
            yield Problem(
                "leftover",
                f"upload {upload}",
                f"of {name!r} in parts: nobody went on with it for a day (the server removes it within the hour)",
            )

    # -- the folder --------------------------------------------------------------------------------------------

    def _folder(self) -> Iterator[Problem]:
        for path in sorted(self._root.iterdir()):
            with suppress(FileNotFoundError):
                status = path.lstat()
                if self._alone and path.name.endswith((".part", ".new")):
                    yield Problem("leftover", str(path), "left over by a crash", "remove it", after=_remover(path))
                elif status.st_mode & _OTHERS and not stat.S_ISLNK(status.st_mode):
                    yield _open_to_others(path, status.st_mode)
        if self._alone and (etl := self._root / "etl").is_dir():
            for path in sorted(etl.glob("*/objects/*")):
                yield Problem("leftover", str(path), "left over by an ETL", "remove it", after=_remover(path))

    def notes(self) -> list[str]:
        """What is no problem, but worth knowing."""
        found = []
        disk = os.statvfs(self._root)
        if disk.f_bavail * disk.f_frsize < _LOW:
            found.append(f"only {disk.f_bavail * disk.f_frsize >> 20} MiB of the disk are free")
        if not (self._root / "reserve").exists():
            found.append("no room is held back for a full disk (file reserve): the server does so when there is room")
        backup = self._root / BACKUP
        if backup.exists():
            hours = (time.time() - backup.stat().st_mtime) / 3600
            found.append(f"the copy of the catalog is {hours:.1f} hours old")
        else:
            found.append(f"there is no copy of the catalog ({BACKUP}) yet: a server in strict mode makes one each hour")
        return found


def backup_damage(backup: Path) -> str:
    """Why the copy of the catalog, which is there, could not be used; empty if it could."""
    try:
        with closing(sqlite3.connect(f"file:{backup}?mode=ro&immutable=1", uri=True)) as db:
            found = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if found == "ok" else found


def backup_problems(root: Path) -> Iterator[Problem]:
    """Whether the copy of the catalog could be used."""
    backup = root / BACKUP
    if backup.exists() and (damage := backup_damage(backup)):
        yield Problem(
            "backup",
            str(backup),
            f"the copy of the catalog is damaged: {damage}",
            "remove it: the server makes a new one",
            after=_remover(backup),
        )


def _remover(path: Path) -> Callable[[], object]:
    return lambda: path.unlink(missing_ok=True)


def _open_to_others(path: Path, mode: int) -> Problem:
    return Problem(
        "mode",
        str(path),
        f"others than the owner may use it (mode {stat.S_IMODE(mode):o})",
        "take that from them",
        after=lambda: path.chmod(stat.S_IMODE(mode) & ~_OTHERS),
    )


def _is_hex(text: str) -> bool:
    return set(text) <= set("0123456789abcdef")
