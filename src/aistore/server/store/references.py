"""How many refer to which content: the last reference that goes takes the content with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.server.store.catalog import STORED
from aistore.server.store.damage import drop_mark
from aistore.server.store.member_pages import drop_members
from aistore.server.store.pieces import drop_sums, keep_sums
from aistore.server.store.schema import LAYOUT_CHUNKED, LAYOUT_INLINE

if TYPE_CHECKING:
    from aistore.server.store.catalog import Transaction
    from aistore.server.store.pieces import PieceSums

__all__ = ["add_file", "add_reference", "add_small", "drop_reference", "grow_file"]


def add_small(tx: Transaction, data: bytes) -> int:
    """Store content in the catalog, with one reference; its id."""
    content = tx.execute("INSERT INTO small (data) VALUES (?)", (data,)).lastrowid
    assert content is not None
    tx.count(STORED, 1, len(data))
    return content


def add_file(tx: Transaction, content: int, size: int, sums: PieceSums | None = None) -> None:
    """Note a content file, with one reference, and the sums of its pieces."""
    tx.execute("INSERT INTO file (id, size) VALUES (?, ?)", (content, size))
    keep_sums(tx, content, sums, size)
    tx.count(STORED, 1, size)


def grow_file(tx: Transaction, content: int, size: int) -> None:
    """Count `size` bytes more (or less) in a content file."""
    tx.execute("UPDATE file SET size = size + ? WHERE id = ?", (size, content))
    tx.count(STORED, 0, size)


def add_reference(tx: Transaction, layout: int, content: int) -> None:
    """One reference more."""
    if layout == LAYOUT_INLINE:
        tx.execute("INSERT INTO shared VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET others = others + 1", (content,))
    else:
        tx.execute("UPDATE file SET refs = refs + 1 WHERE id = ?", (content,))


def drop_reference(tx: Transaction, layout: int, content: int) -> bool:
    """One reference less; True if a file became garbage, which is unlinked after the commit."""
    if layout == LAYOUT_INLINE:
        _drop_small(tx, content)
        return False
    gone = tx.execute("DELETE FROM file WHERE id = ? AND refs <= 1 RETURNING size", (content,)).fetchall()
    if not gone:
        tx.execute("UPDATE file SET refs = refs - 1 WHERE id = ?", (content,))
        return False
    tx.execute("INSERT INTO garbage (id) VALUES (?)", (content,))
    tx.count(STORED, -1, -gone[0][0])
    if layout == LAYOUT_CHUNKED:
        tx.execute("DELETE FROM chunks WHERE content = ?", (content,))
    drop_members(tx, layout, content)
    drop_sums(tx, content)
    drop_mark(tx, layout, content)
    return True


def _drop_small(tx: Transaction, content: int) -> None:
    # Nearly all content has one reference, and no row in `shared`.
    if tx.execute("UPDATE shared SET others = others - 1 WHERE id = ?", (content,)).rowcount:
        tx.execute("DELETE FROM shared WHERE id = ? AND others = 0", (content,))
        return
    gone = tx.execute("DELETE FROM small WHERE id = ? RETURNING length(data)", (content,)).fetchall()
    if gone:
        tx.count(STORED, -1, -gone[0][0])
    drop_mark(tx, LAYOUT_INLINE, content)  # the next content may have its number
