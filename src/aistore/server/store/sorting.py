"""Sorting more than fits in memory: by name, in a database that lies in an unlinked file and so is gone with its process."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from aistore.server.store.content import full_or
from aistore.server.store.errors import StoreFull
from aistore.server.store.work import KEPT
from aistore.wire.ids import new_letters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["Sorter"]

_CACHE_KIB: Final = 8192
_ROWS: Final = 1000


class Sorter:
    """Collects values by name, and gives them back in byte order of the names. All methods block; use it in one thread at a time."""

    def __init__(self, folder: Path) -> None:
        """Make the file in `folder`, which is made too. Raises `StoreFull`."""
        path = folder / f"{KEPT}{new_letters()}"  # should its name stay, the next start removes it
        try:
            folder.mkdir(exist_ok=True)
            path.touch(0o600)
        except OSError as error:
            raise full_or(error) from error
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode=OFF")
            self._db.execute("PRAGMA synchronous=OFF")
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            self._db.execute("CREATE TABLE value (name TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID")
            self._db.execute("BEGIN")
            path.unlink()
        except BaseException:
            self._db.close()
            path.unlink(missing_ok=True)
            raise
        self.size = 0
        """Bytes of names and values so far."""

    def add(self, values: Iterable[tuple[str, bytes]]) -> None:
        """Collect values; a later one of the same name counts. Raises `StoreFull`."""
        taken = list(values)
        self.size += sum(len(name) + len(data) for name, data in taken)
        try:
            self._db.executemany("INSERT OR REPLACE INTO value VALUES (?, ?)", taken)
        except sqlite3.OperationalError as error:
            raise StoreFull(f"no room to sort {self.size} bytes: {error}") from error

    def some(self) -> Iterator[list[tuple[str, bytes]]]:
        """All values in order, many at a time."""
        cursor = self._db.execute("SELECT name, data FROM value ORDER BY name")
        while rows := cursor.fetchmany(_ROWS):
            yield rows

    def close(self) -> None:
        """Forget all."""
        self._db.close()
