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
    from collections.abc import Callable

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

    def rows(self, bid: int, bounds: Bounds, columns: str, limit: int) -> list[Row]:
        """Up to `limit` rows `(name, *columns)` in order (blocking: call it in `run`). `columns` is SQL written in this project."""
        low = max(bounds.start, bounds.prefix)
        inclusive = bounds.inclusive or low != bounds.start
        high = successor(bounds.prefix)
        sql = f"SELECT name{columns} FROM object WHERE bucket = ? AND name {'>=' if inclusive else '>'} ?"  # noqa: S608 (own columns)
        values: tuple[object, ...] = (bid, low)
        if high is not None:
            sql, values = sql + " AND name < ?", (*values, high)
        db = self._catalog.thread_reader()
        return db.execute(sql + " ORDER BY name LIMIT ?", (*values, limit)).fetchall()

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
