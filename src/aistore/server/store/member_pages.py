"""Members of archives in the catalog, kept with the content that they are in.

What a page holds is the business of whoever keeps it: here it is bytes under the first member's name. All pages come before the row that
says that they are all there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

    from aistore.server.store.catalog import Transaction

    Read = Callable[[str, tuple[object, ...]], sqlite3.Cursor]

__all__ = ["Key", "MemberPages", "drop_members", "keep_end", "keep_pages"]

Key = tuple[int, int, int]
"""Layout and number of the content, and the format that it is read as."""


class MemberPages:
    """Pages of one content's members; `read` runs a query in the thread that uses them."""

    def __init__(self, read: Read, key: Key) -> None:
        self._read = read
        self.key = key

    def damage(self) -> str | None:
        """What is wrong with the archive behind its members; None unless all its pages are kept."""
        row = self._read(
            "SELECT damage FROM archive WHERE layout = ? AND content = ? AND format = ?", self.key
        ).fetchone()
        return row[0] if row is not None else None

    def page(self, name: bytes) -> bytes | None:
        """The page that has this name, if any has."""
        row = self._read(
            "SELECT members FROM archive_page WHERE layout = ? AND content = ? AND format = ? AND first <= ?"
            " ORDER BY first DESC LIMIT 1",
            (*self.key, name),
        ).fetchone()
        return row[0] if row is not None else None

    def after(self, name: bytes) -> Iterator[bytes]:
        """The pages whose names all come after this one, in order."""
        rows = self._read(
            "SELECT members FROM archive_page WHERE layout = ? AND content = ? AND format = ? AND first > ? ORDER BY first",
            (*self.key, name),
        )
        return (page for (page,) in rows)


def keep_pages(tx: Transaction, key: Key, pages: Iterable[tuple[bytes, bytes]]) -> bool:
    """Keep pages under the first names in them; False if the content is gone."""
    # What is kept for content that is gone already would stay for ever.
    if not _exists(tx, key):
        return False
    tx.executemany(
        "INSERT OR REPLACE INTO archive_page VALUES (?, ?, ?, ?, ?)", [(*key, first, page) for first, page in pages]
    )
    return True


def keep_end(tx: Transaction, key: Key, damage: str) -> None:
    """Note that all pages are there, and what is wrong with the archive."""
    if _exists(tx, key):
        tx.execute("INSERT OR REPLACE INTO archive VALUES (?, ?, ?, ?)", (*key, damage))


def drop_members(tx: Transaction, layout: int, content: int) -> None:
    """Forget the members of content that goes."""
    tx.execute("DELETE FROM archive WHERE layout = ? AND content = ?", (layout, content))
    tx.execute("DELETE FROM archive_page WHERE layout = ? AND content = ?", (layout, content))


def _exists(tx: Transaction, key: Key) -> bool:
    return tx.execute("SELECT 1 FROM file WHERE id = ?", (key[1],)).fetchone() is not None
