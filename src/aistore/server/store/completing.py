"""The end of an upload in parts: whether they are complete, where their bytes belong, and the object that they become."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.server.store.assembling import Piece
from aistore.server.store.errors import PartsRefused, UploadGone
from aistore.server.store.pieces import keep_sums
from aistore.server.store.references import add_file, drop_reference, grow_file
from aistore.server.store.rows import INSERT_OBJECT, LOOKUP_PLAIN, ObjectRow, encode_pairs, next_version
from aistore.server.store.schema import LAYOUT_CHUNKED, LAYOUT_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aistore.server.store.catalog import Transaction
    from aistore.server.store.content import Upload
    from aistore.server.store.pieces import PieceSums
    from aistore.server.store.rows import Bucket
    from aistore.server.store.store import Store

__all__ = [
    "PARTS",
    "Part",
    "PartsChanged",
    "check_numbers",
    "drop_upload",
    "drop_uploads",
    "file_to_keep",
    "own_file",
    "pieces_of",
    "put_row",
    "require_upload",
]

PARTS: Final = "SELECT number, file, start, size, tag, sum FROM part WHERE upload = ? ORDER BY number"
"""The parts of an upload."""


class Part(NamedTuple):
    """A part that is there."""

    number: int
    file: int
    start: int
    size: int
    tag: str = ""
    """Its entity tag for clients of S3, if one of these sent it."""
    sum: bytes = b""
    """XXH3 of its bytes; empty if a version before stored it."""


class PartsChanged(Exception):
    """Other parts came while they were brought together."""


def check_numbers(parts: Sequence[Part], numbers: Sequence[int] | None) -> None:
    """Raise `PartsRefused` unless the parts are complete, and `numbers` are theirs, in the words of protocol/20 15.3."""
    if not parts:
        raise PartsRefused("no chunks")
    count = len(parts)
    for i, part in enumerate(parts):
        if part.number != i + 1:
            raise PartsRefused(f"chunk at ({i}) has invalid number {part.number} (count={count})")
    if numbers is None:
        raise PartsRefused("nil parts list")
    if len(numbers) != count:
        raise PartsRefused(f"partial completion is not allowed: requested {len(numbers)} parts, have {count}")
    for i, number in enumerate(sorted(numbers)):
        if number != i + 1:
            raise PartsRefused(f"parts must be exactly 1..{count}: got {number} at position {i}")


def drop_uploads(tx: Transaction, bucket: int, limit: int) -> bool:
    """Drop some uploads of a bucket; False if there were none."""
    found = tx.execute("SELECT id FROM upload WHERE bucket = ? LIMIT ?", (bucket, limit)).fetchall()
    for (upload_id,) in found:
        drop_upload(tx, upload_id)
    return bool(found)


def drop_upload(tx: Transaction, upload_id: str) -> None:
    """Drop an upload with the files that it still has."""
    for (file,) in tx.execute("DELETE FROM upload_file WHERE upload = ? RETURNING id", (upload_id,)).fetchall():
        drop_reference(tx, LAYOUT_FILE, file)
    tx.execute("DELETE FROM part WHERE upload = ?", (upload_id,))
    tx.execute("DELETE FROM upload WHERE id = ?", (upload_id,))


def require_upload(tx: Transaction, upload_id: str) -> int:
    """When an upload was started. Raises `UploadGone`."""
    row = tx.execute("SELECT started FROM upload WHERE id = ?", (upload_id,)).fetchone()
    if row is None:
        raise UploadGone(upload_id)
    started: int = row[0]
    return started


def pieces_of(parts: Iterable[Part]) -> list[Piece]:
    """Where the bytes of the parts are, and where they belong."""
    pieces: list[Piece] = []
    place = 0
    for part in parts:
        pieces.append(Piece(part.file, part.start, place, part.size, part.sum))
        place += part.size
    return pieces


def file_to_keep(pieces: Sequence[Piece]) -> int | None:
    """The file that has most bytes where they belong, and nothing where something else belongs; None if there is none."""
    right: dict[int, int] = {}
    for piece in pieces:
        right[piece.file] = right.get(piece.file, 0) + piece.size
    for piece in pieces:
        if piece.start != piece.place:
            right.pop(piece.file, None)
    return max(right, key=right.__getitem__, default=None)


def own_file(tx: Transaction, file: int, made: Upload | None, parts: Sequence[Part], sums: PieceSums) -> None:
    """Take the file, which holds all parts now, from the upload; or note a new one."""
    size = sum(part.size for part in parts)
    if made is not None:
        add_file(tx, file, size, sums)
        tx.after(made.settle)
    else:
        tx.execute("DELETE FROM upload_file WHERE id = ?", (file,))
        grow_file(tx, file, size - tx.execute("SELECT size FROM file WHERE id = ?", (file,)).fetchone()[0])
        keep_sums(tx, file, sums, size)
    tx.execute("INSERT INTO chunks VALUES (?, ?, ?)", (file, len(parts), max(part.size for part in parts)))


def put_row(
    tx: Transaction, store: Store, bucket: Bucket, name: str, content: tuple[int, int], checksum: tuple[str, str], started: int,
    *, custom: Mapping[str, str] | None, counted_from: str, versioned: bool,
) -> ObjectRow:  # fmt: skip
    """Make a file the object's content; the object's custom pairs go (protocol/20 15.3). The version goes on from `counted_from`, if that is given."""
    file, size = content
    old = tx.execute(LOOKUP_PLAIN, (bucket.bid, name)).fetchone()
    before = counted_from or (old[5] if old is not None else "")
    pairs = dict(custom) if custom else None
    version = next_version(before, pairs) if versioned else before
    text = encode_pairs(pairs)
    row = ObjectRow(bucket.bid, name, size, LAYOUT_CHUNKED, file, *checksum, version, started, time.time_ns(), text)
    tx.execute(
        INSERT_OBJECT,
        (row.bid, name, size, row.layout, file, *checksum, version, row.atime, row.mtime, text),
    )
    store.count_change(tx, bucket, old, size)
    tx.after(lambda: store.forget(bucket, [name]))
    return row
