"""Scans over a bucket's names in byte order, in threads of their own.

A page is one range scan on a read-only connection: its cost depends on its own length only. Two threads are enough for the disk and
bound what the connections' caches hold.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from aistore.server.store.catalog import Catalog

__all__ = ["Bounds", "Row", "Scanner", "successor"]

T = TypeVar("T")
Row = tuple[Any, ...]
"""A name, and the columns asked for as SQLite gives them."""

_CHUNK: Final = 256  # rows looked at before a virtual directory is skipped by a new seek


def successor(prefix: str) -> str | None:
    """The least name greater than every name with this prefix; None if there is none."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            # UTF-8 keeps the order of code points; surrogates have no UTF-8.
            return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = prefix[:-1]
    return None


class Bounds(NamedTuple):
    """Names with `prefix`, from `start` on (itself included if `inclusive`)."""

    prefix: str = ""
    start: str = ""
    inclusive: bool = True


def _range(bid: int, bounds: Bounds) -> tuple[str, tuple[object, ...]]:
    """A condition on bucket and name, and its values."""
    low = max(bounds.start, bounds.prefix)
    sql = f"bucket = ? AND name {'>=' if bounds.inclusive or low != bounds.start else '>'} ?"
    high = successor(bounds.prefix)
    return (sql, (bid, low)) if high is None else (sql + " AND name < ?", (bid, low, high))


_CONTENTS: Final = "SELECT name, size, layout, content, atime, data, checksum_type, checksum FROM object LEFT JOIN small ON layout = 0 AND small.id = content WHERE "


class Scanner:
    """Reads names and other columns of a bucket's objects."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._threads = ThreadPoolExecutor(2, "scan")

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run `work` in a scanning thread."""
        return asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """Wait for what runs."""
        self._threads.shutdown(wait=True)

    def reader(self) -> sqlite3.Connection:
        """The connection of the calling scanning thread, for other queries (in `run`)."""
        return self._catalog.thread_reader()

    def exists(self, bid: int, name: str) -> bool:
        """Whether there is an object of this name (in `run`)."""
        return (
            self.reader().execute("SELECT 1 FROM object WHERE bucket = ? AND name = ?", (bid, name)).fetchone()
            is not None
        )

    def totals(self, bid: int, prefix: str) -> tuple[int, int, int, int]:
        """Number of the objects with a prefix, their bytes, the smallest and the largest size (in `run`)."""
        chosen, values = _range(bid, Bounds(prefix))
        sql = (
            "SELECT count(*), coalesce(sum(size), 0), coalesce(min(size), 0), coalesce(max(size), 0) FROM object WHERE "
        )
        found: tuple[int, int, int, int] = self.reader().execute(sql + chosen, values).fetchone()
        return found

    def contents(self, bid: int, bounds: Bounds, limit: int) -> list[Row]:
        """Up to `limit` objects in order, as `(name, size, layout, content, atime, data, checksum type, checksum)` (in `run`).

        `data` is content that lives in the catalog.
        """
        chosen, values = _range(bid, bounds)
        return self.reader().execute(f"{_CONTENTS}{chosen} ORDER BY name LIMIT ?", (*values, limit)).fetchall()

    def contents_of(self, bid: int, names: Iterable[str]) -> list[Row]:
        """As `contents`, of the named objects that are there."""
        db = self.reader()
        found = (db.execute(_CONTENTS + "bucket = ? AND name = ?", (bid, name)).fetchone() for name in names)
        return [row for row in found if row is not None]

    def rows(self, bid: int, bounds: Bounds, columns: str, limit: int) -> list[Row]:
        """Up to `limit` rows `(name, *columns)` in order (blocking: call it in `run`). `columns` is SQL written in this project."""
        chosen, values = _range(bid, bounds)
        sql = f"SELECT name{columns} FROM object WHERE {chosen} ORDER BY name LIMIT ?"  # noqa: S608 (own columns)
        return self.reader().execute(sql, (*values, limit)).fetchall()

    def rows_of_level(self, bid: int, bounds: Bounds, columns: str, limit: int, delimiter: str = "/") -> list[Row]:
        """As `rows`, without descending: what lies behind a `delimiter` after the prefix becomes one row `(directory/,)`.

        Directories are skipped by seeking behind them, so the cost is that of what is returned.
        """
        depth = len(bounds.prefix)
        out: list[Row] = []
        while len(out) < limit:
            chunk = self.rows(bid, bounds, columns, min(_CHUNK, limit - len(out)))
            if not chunk:
                break
            behind: str | None = ""
            for row in chunk:
                slash = row[0].find(delimiter, depth)
                if slash < 0:
                    out.append(row)
                    behind = ""
                elif not behind or row[0] >= behind:
                    directory = row[0][: slash + len(delimiter)]
                    out.append((directory,))
                    behind = successor(directory)
            if behind is None:  # nothing sorts behind what starts with U+10FFFF only
                break
            bounds = bounds._replace(start=behind or chunk[-1][0], inclusive=bool(behind))
        return out
