"""Whether content is what was stored: every object's bytes against its checksum.

Objects are gone through by bucket and name, some hundred rows at a time: nothing is held while files are read. Content that objects
share is read once, as far as that can be remembered. What differs is looked up once more, since it may have been replaced meanwhile.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.server.store.content import content_path
from aistore.server.store.damage import drop_mark, mark, place_of
from aistore.server.store.findings import Problem
from aistore.server.store.page_cache import in_memory
from aistore.server.store.pieces import PieceSums, compare_sums, drop_sums, keep_sums
from aistore.server.store.references import drop_reference
from aistore.server.store.schema import LAYOUT_INLINE
from aistore.server.store.scrub_catalog import as_bytes, is_text, printable
from aistore.server.store.verifying import difference
from aistore.wire.checksum import DIGITS, digest, new_hasher

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from aistore.server.store.catalog import Transaction
    from aistore.server.store.findings import Findings, Pace
    from aistore.server.store.scrub import Commit
    from aistore.server.store.scrub_catalog import CatalogScrub

__all__ = ["ContentScrub"]

_PAGE: Final = 200  # with up to 8 KiB of content each
_PIECE: Final = 1 << 20
_REMEMBERED: Final = 100_000
_ROWS: Final = (
    "SELECT bucket, name, size, layout, content, checksum_type, checksum, custom, data FROM object"
    " LEFT JOIN small ON layout = 0 AND small.id = content WHERE (bucket, name) > (?, {name}) ORDER BY bucket, name LIMIT ?"
)


class _Row(NamedTuple):
    bucket: int
    name: str
    size: int
    layout: int
    content: int
    kind: str
    checksum: str
    custom: str | None
    data: bytes | None


class _Read(NamedTuple):
    """What reading content gave."""

    checksum: str
    """Empty for type `none`."""
    difference: str | None
    """How its pieces differ from their sums; None if it has none."""
    sums: PieceSums | None
    """Those of what is there, where others are kept."""


class ContentScrub:
    """Reads all content. `source_key` tells objects that can be fetched again by their custom metadata."""

    def __init__(
        self,
        root: Path,
        db: sqlite3.Connection,
        catalog: CatalogScrub,
        bad: dict[int, str],
        findings: Findings,
        pace: Pace,
        source_key: str,
        commit: Commit,
    ) -> None:
        self._content = root / "content"
        self._commit = commit
        self._db = db
        self._catalog = catalog
        self._bad = bad
        self._told: set[int] = set()
        self._findings = findings
        self._pace = pace
        self._source = f'"{source_key}":'
        self._seen: OrderedDict[tuple[int, str], _Read] = OrderedDict()
        self._marked: set[tuple[int, int]] = set()
        self._good: _Read | None = None  # of the present object, if its content is what its checksum says
        self.summed = self.unsummed = 0
        """Objects whose content is good, and that had no sums of its pieces: for which they were made, and others."""

    def all(self) -> Iterator[Problem]:
        """Go through all objects."""
        self._marked = {
            (layout, content) for layout, content in self._db.execute("SELECT layout, content FROM damaged")
        }
        last: tuple[int, str] = (-1, "")
        while rows := [_Row(*row) for row in self._db.execute(*_named(_ROWS, *last, _PAGE)).fetchall()]:
            last = rows[-1].bucket, rows[-1].name
            for row in rows:
                yield from self._object(row)
        for content in self._bad.keys() - self._told:
            if self._db.execute("SELECT 1 FROM upload_file WHERE id = ?", (content,)).fetchone():
                yield Problem("content-missing", "an upload in parts", self._bad[content])

    def _object(self, row: _Row) -> Iterator[Problem]:
        findings = self._findings
        findings.objects += 1
        self._good = None
        is_marked = place_of(row.layout, row.content) in self._marked
        wrong = self._wrong(row, hashes=findings.full or is_marked)
        self._pace.step()
        if wrong:
            if self._is_still(row):
                yield self._damaged(row, printable(wrong))
            return
        if is_marked:
            yield self._good_again(row)
        good = self._good
        if good is None or good.sums is None or not self._is_still(row):
            return
        change = partial(_sums_anew, row=row, sums=good.sums)
        if good.difference:
            what = f"its content is good, and is not what the sums of its pieces say ({good.difference})"
            yield Problem("sums", self._where(row), what, "make them anew", change)
        elif findings.repair:
            self._commit(change)
            self.summed += 1
        else:
            self.unsummed += 1

    def _wrong(self, row: _Row, *, hashes: bool) -> str:
        """What is wrong with an object's content; empty if nothing is."""
        if row.layout == LAYOUT_INLINE and row.data is None:
            return "its content is missing from the catalog"
        if row.layout == LAYOUT_INLINE and row.data is not None and len(row.data) != row.size:
            return f"its content has {len(row.data)} bytes, not {row.size}"
        if row.layout != LAYOUT_INLINE and (bad := self._bad.get(row.content)):
            self._told.add(row.content)
            return bad
        if row.layout != LAYOUT_INLINE and row.content in self._catalog.dangling:
            return "its content is missing from the catalog"
        if not hashes:
            return ""
        if not (row.kind in DIGITS or (row.kind == "none" and not row.checksum)):
            return f"its checksum is of unknown type {row.kind!r}"
        has_sum = row.kind != "none" and row.checksum != ""
        try:
            read = self._computed(row) if has_sum or row.layout != LAYOUT_INLINE else _Read("", None, None)
        except FileNotFoundError as error:
            return f"its file {error.filename} is missing"
        except OSError as error:
            return f"its file cannot be read: {error.strerror}"
        if not has_sum and read.difference is None:
            self._findings.unverifiable += 1
            self._findings.unverifiable_bytes += row.size
        if has_sum and read.checksum != row.checksum:
            where = f", {read.difference}" if read.difference else ""
            return difference(row.kind, row.checksum, read.checksum) + where
        if not has_sum:
            return read.difference or ""
        self._good = read
        return ""

    def _computed(self, row: _Row) -> _Read:
        """Read the content. Raises `OSError`."""
        if row.layout == LAYOUT_INLINE:
            assert row.data is not None
            self._findings.bytes += row.size
            return _Read(digest(row.kind, row.data), None, None)
        known = self._seen.get((row.content, row.kind))
        if known is not None:
            return known
        fd = os.open(content_path(self._content, row.content), os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            if size != row.size:
                raise OSError(0, f"it has {size} bytes, not {row.size}")
            read = self._hash(fd, row)
        finally:
            os.close(fd)
        if self._db.execute("SELECT 1 FROM file WHERE id = ? AND refs > 1", (row.content,)).fetchone():
            self._seen[row.content, row.kind] = read._replace(sums=None)
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        return read

    def _hash(self, fd: int, row: _Row) -> _Read:
        hasher, sums = new_hasher(row.kind), PieceSums()
        cold = not in_memory(fd, 0, row.size)
        done = 0
        while done < row.size:
            piece = os.pread(fd, min(_PIECE, row.size - done), done)
            if not piece:
                raise OSError(0, f"it ends {row.size - done} bytes early")
            if hasher is not None:
                hasher.update(piece)
            sums.update(piece)
            if cold and hasattr(os, "posix_fadvise"):  # what clients read stays in memory, what only we did makes way
                os.posix_fadvise(fd, done, len(piece), os.POSIX_FADV_DONTNEED)
            done += len(piece)
            self._findings.bytes += len(piece)
            self._pace.step(len(piece))
        differs = compare_sums(self._db, row.content, sums)
        return _Read(hasher.hexdigest() if hasher is not None else "", differs, None if differs == "" else sums)

    def _is_still(self, row: _Row) -> bool:
        sql = "SELECT size, layout, content, checksum_type, checksum FROM object WHERE bucket = ? AND name = {name}"
        now = self._db.execute(*_named(sql, row.bucket, row.name)).fetchone()
        return bool(now == (row.size, row.layout, row.content, row.kind, row.checksum))

    # -- what to do --------------------------------------------------------------------------------------------

    def _where(self, row: _Row) -> str:
        return f"{self._catalog.bucket_name(row.bucket)}/{printable(row.name)}"

    def _damaged(self, row: _Row, wrong: str) -> Problem:
        kind = "content-missing" if "missing" in wrong or "No such file" in wrong else "content-damaged"
        if row.custom and self._source in row.custom:
            return Problem(kind, self._where(row), wrong, "drop it from the cache, to be fetched again",
                           lambda tx: _evict(tx, row))  # fmt: skip

        def fix(tx: Transaction) -> None:
            sql = "SELECT layout, content FROM object WHERE bucket = ? AND name = {name}"
            if tx.execute(*_named(sql, row.bucket, row.name)).fetchone() == (row.layout, row.content):
                mark(tx, row.layout, row.content, wrong)

        if place_of(row.layout, row.content) in self._marked:
            return Problem(kind, self._where(row), wrong, "it answers an error", contained=True)
        remedy = "have it answer an error, until it is overwritten or deleted"
        if kind == "content-damaged" and row.layout != LAYOUT_INLINE:
            remedy += f"; what there is lies in {content_path(self._content, row.content)}"
        return Problem(kind, self._where(row), wrong, remedy, fix, contained=True)

    def _good_again(self, row: _Row) -> Problem:
        return Problem(
            "marked",
            self._where(row),
            "was found damaged, and is good now",
            "have it answer again",
            lambda tx: drop_mark(tx, row.layout, row.content),
        )


def _named(sql: str, bucket: int, name: str, *more: object) -> tuple[str, tuple[object, ...]]:
    """A statement about a name, whatever its bytes are, and its values: SQLite takes those that are no UTF-8 as a BLOB only."""
    if isinstance(name, str) and not is_text(name):
        return sql.format(name="CAST(? AS TEXT)"), (bucket, as_bytes(name), *more)
    return sql.format(name="?"), (bucket, name, *more)


def _sums_anew(tx: Transaction, row: _Row, sums: PieceSums) -> None:
    if tx.execute("SELECT 1 FROM file WHERE id = ? AND size = ?", (row.content, row.size)).fetchone():
        drop_sums(tx, row.content)
        keep_sums(tx, row.content, sums, row.size)


def _evict(tx: Transaction, row: _Row) -> None:
    sql = "DELETE FROM object WHERE bucket = ? AND name = {name} AND content = ? AND layout = ?"
    gone = tx.execute(*_named(sql, row.bucket, row.name, row.content, row.layout))
    if gone.rowcount:
        tx.count(row.bucket, -1, -row.size)
        drop_reference(tx, row.layout, row.content)
