"""How many refer to which content: the last reference that goes takes the content with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from aistore.server.store.catalog import STORED
from aistore.server.store.schema import LAYOUT_FILE, LAYOUT_INLINE, LAYOUT_PARTS

if TYPE_CHECKING:
    from aistore.server.store.catalog import Transaction

__all__ = ["add_file", "add_parts", "add_reference", "add_small", "drop_reference", "files_of", "unpack_files"]

Files = list[tuple[int, int]]
"""Content files in their order: id and bytes of each."""

_decode_files = msgspec.msgpack.Decoder(Files).decode


def add_small(tx: Transaction, data: bytes) -> int:
    """Store content in the catalog, with one reference; its id."""
    content = tx.execute("INSERT INTO small (data) VALUES (?)", (data,)).lastrowid
    assert content is not None
    tx.count(STORED, 1, len(data))
    return content


def add_file(tx: Transaction, content: int, size: int) -> None:
    """Note a finished content file, with one reference."""
    tx.execute("INSERT INTO file (id, size) VALUES (?, ?)", (content, size))
    tx.count(STORED, 1, size)


def add_parts(tx: Transaction, files: Files) -> int:
    """Note content that consists of several files, with one reference; its id. Those to the files are now its own."""
    content = tx.execute("INSERT INTO parts (files) VALUES (?)", (msgspec.msgpack.encode(files),)).lastrowid
    assert content is not None
    return content


def unpack_files(packed: bytes) -> Files:
    """The files of content that consists of several, from its row."""
    return _decode_files(packed)


def files_of(tx: Transaction, content: int) -> Files:
    """The files of content that consists of several."""
    return unpack_files(tx.execute("SELECT files FROM parts WHERE id = ?", (content,)).fetchone()[0])


def add_reference(tx: Transaction, layout: int, content: int) -> None:
    """One reference more."""
    if layout == LAYOUT_INLINE:
        tx.execute("INSERT INTO shared VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET others = others + 1", (content,))
    elif layout == LAYOUT_FILE:
        tx.execute("UPDATE file SET refs = refs + 1 WHERE id = ?", (content,))
    else:
        tx.execute("UPDATE parts SET refs = refs + 1 WHERE id = ?", (content,))


def drop_reference(tx: Transaction, layout: int, content: int) -> bool:
    """One reference less; True if files became garbage, which is unlinked after the commit."""
    if layout == LAYOUT_INLINE:
        _drop_small(tx, content)
        return False
    if layout == LAYOUT_FILE:
        return drop_file(tx, content)
    return _drop_parts(tx, content)


def _drop_small(tx: Transaction, content: int) -> None:
    # Nearly all content has one reference, and no row in `shared`.
    if tx.execute("UPDATE shared SET others = others - 1 WHERE id = ?", (content,)).rowcount:
        tx.execute("DELETE FROM shared WHERE id = ? AND others = 0", (content,))
        return
    gone = tx.execute("DELETE FROM small WHERE id = ? RETURNING length(data)", (content,)).fetchall()
    if gone:
        tx.count(STORED, -1, -gone[0][0])


def drop_file(tx: Transaction, content: int, guard: int | None = None) -> bool:
    """One reference to a content file less; True if that was the last."""
    gone = tx.execute("DELETE FROM file WHERE id = ? AND refs <= 1 RETURNING size", (content,)).fetchall()
    if not gone:
        tx.execute("UPDATE file SET refs = refs - 1 WHERE id = ?", (content,))
        return False
    tx.execute("INSERT INTO garbage VALUES (?, ?)", (content, guard))
    tx.count(STORED, -1, -gone[0][0])
    _drop_members(tx, LAYOUT_FILE, content)
    return True


def _drop_parts(tx: Transaction, content: int) -> bool:
    gone = tx.execute("DELETE FROM parts WHERE id = ? AND refs <= 1 RETURNING files", (content,)).fetchall()
    if not gone:
        tx.execute("UPDATE parts SET refs = refs - 1 WHERE id = ?", (content,))
        return False
    files = unpack_files(gone[0][0])
    for file, _ in files:
        drop_file(tx, file, files[0][0])
    _drop_members(tx, LAYOUT_PARTS, content)
    return True


def _drop_members(tx: Transaction, layout: int, content: int) -> None:
    """What is known of an archive's members goes with its content."""
    tx.execute("DELETE FROM archive WHERE layout = ? AND content = ?", (layout, content))
    tx.execute("DELETE FROM archive_page WHERE layout = ? AND content = ?", (layout, content))
