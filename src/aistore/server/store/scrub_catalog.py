"""Whether the catalog agrees with itself: rows that can be read, references that lead somewhere, counts that are true.

Each check reads one state of the catalog (one read transaction), and goes through it in order of content or of buckets, so that memory
stays bounded. Counts are mended by their differences, which stay what they are while others write.
"""

from __future__ import annotations

import json
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.server.store.catalog import STORED
from aistore.server.store.damage import drop_mark
from aistore.server.store.findings import Problem
from aistore.server.store.pieces import drop_sums, summed_contents
from aistore.server.store.references import drop_reference
from aistore.server.store.schema import LAYOUT_CHUNKED, LAYOUT_FILE, LAYOUT_INLINE
from aistore.wire.checksum import DIGITS
from aistore.wire.names import BucketId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aistore.server.store.aside import Aside
    from aistore.server.store.catalog import Transaction
    from aistore.server.store.findings import Pace
    from aistore.server.store.scrub import Documents

    Change = Callable[[Transaction], object]

__all__ = ["CatalogScrub", "as_bytes", "is_text", "printable"]

_ERRORS_MAX: Final = 100
_LAYOUTS: Final = frozenset((LAYOUT_INLINE, LAYOUT_FILE, LAYOUT_CHUNKED))


class _Counted(NamedTuple):
    """Content with the number of references that it says, and that it has."""

    id: int
    says: int | None
    size: int | None
    has: int


class CatalogScrub:
    """The checks of one catalog. `db` is a connection of its own; names come from it with `surrogateescape`."""

    def __init__(self, db: sqlite3.Connection, aside: Aside, pace: Pace, documents: Documents) -> None:
        self._db = db
        self._aside = aside
        self._pace = pace
        self._documents = documents
        self._buckets: dict[int, str] = {}
        self.dangling: set[int] = set()
        """Content files that objects refer to, and that the catalog does not know."""

    def bucket_name(self, bid: int) -> str:
        """How a bucket is printed."""
        if not self._buckets:
            rows = self._db.execute("SELECT id, provider, uuid, namespace, name FROM bucket")
            for number, provider, uuid, namespace, name in rows:
                self._buckets[number] = printable(BucketId(provider, uuid, namespace, name).cname)
        return self._buckets.get(bid, f"bucket {bid}")

    def all(self) -> Iterator[Problem]:
        """All checks, one after the other."""
        for check in (
            self._bucket_rows,
            self._object_rows,
            self._job_records,
            self._file_references,
            self._small_references,
            self._totals,
            self._uploads,
            self._leftovers,
            self._marks,
        ):
            self._db.execute("BEGIN")
            try:
                yield from check()
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    # -- the database ------------------------------------------------------------------------------------------

    def integrity(self, *, full: bool) -> list[str]:
        """What SQLite finds wrong with the file; empty if nothing."""
        try:
            check = "integrity_check" if full else "quick_check"
            found = [row[0] for row in self._db.execute(f"PRAGMA {check}({_ERRORS_MAX})")]
            found += [f"foreign key of {row[0]}" for row in self._db.execute("PRAGMA foreign_key_check")]
        except sqlite3.DatabaseError as error:
            return [str(error)]
        return [] if found == ["ok"] else [one for one in found if one != "ok"]

    # -- rows --------------------------------------------------------------------------------------------------

    def _bucket_rows(self) -> Iterator[Problem]:
        for bid, props in self._db.execute("SELECT id, props FROM bucket"):
            try:
                self._documents.read_props(props)
            except Exception as error:
                yield Problem(
                    "unreadable",
                    self.bucket_name(bid),
                    f"its properties cannot be read: {type(error).__name__}: {error}",
                )

    def _object_rows(self) -> Iterator[Problem]:
        sql = "SELECT bucket, name, size, layout, checksum_type, checksum, version, custom FROM object"
        for bid, name, size, layout, kind, checksum, version, custom in self._db.execute(sql):
            self._pace.step()
            where = f"{self.bucket_name(bid)}/{printable(name)}"
            if not (isinstance(size, int) and size >= 0 and layout in _LAYOUTS and isinstance(version, str)):
                yield Problem(
                    "unreadable", where, f"its row cannot be: size {size!r}, layout {layout!r}, version {version!r}"
                )
            elif not isinstance(checksum, str) or (kind != "none" and len(checksum) != DIGITS.get(kind, -1)):
                yield Problem("unreadable", where, f"its checksum cannot be: {kind!r} {checksum!r}")
            if not is_text(name):
                yield Problem("unreadable", where, "its name is not text")
            if custom and not _is_pairs(custom):
                yield self._bad_custom(bid, name, custom)

    def _bad_custom(self, bid: int, name: str, custom: str) -> Problem:
        def fix(tx: Transaction) -> None:
            tx.execute(
                "UPDATE object SET custom = NULL WHERE bucket = ? AND CAST(name AS BLOB) = ? AND CAST(custom AS BLOB) = ?",
                (bid, as_bytes(name), as_bytes(custom)),
            )

        return Problem(
            "unreadable",
            f"{self.bucket_name(bid)}/{printable(name)}",
            "its custom metadata cannot be read",
            f"put the metadata aside in {self._aside.folder}, and leave the object without",
            fix,
            before=lambda: self._aside.keep(f"custom-{bid}", as_bytes(name) + b"\n" + as_bytes(custom)),
        )

    def _job_records(self) -> Iterator[Problem]:
        for job, record in self._db.execute("SELECT id, record FROM job"):
            try:
                json.loads(record)
            except ValueError:
                yield Problem(
                    "unreadable",
                    f"job {job}",
                    "its record cannot be read",
                    "drop the record",
                    _sql("DELETE FROM job WHERE id = ?", job),
                )

    # -- references --------------------------------------------------------------------------------------------

    def _file_references(self) -> Iterator[Problem]:
        wanted = self._db.execute(
            "SELECT content, count(*) FROM ("
            "SELECT content FROM object WHERE layout != 0 UNION ALL"
            " SELECT f.id FROM upload_file f JOIN upload u ON u.id = f.upload"
            ") GROUP BY content ORDER BY content"
        )
        there = self._db.execute("SELECT id, refs, size FROM file ORDER BY id")
        for one in _merged(there, wanted):
            self._pace.step()
            if one.says is None:
                if len(self.dangling) < 1_000_000:
                    self.dangling.add(one.id)
            elif one.has == 0:
                yield self._unreferenced_file(one)
            elif one.has != one.says:
                yield self._count_of_file(one)

    def _count_of_file(self, one: _Counted) -> Problem:
        difference = one.has - (one.says or 0)
        return Problem(
            "count",
            f"content {one.id:016x}",
            f"objects that refer to it: {one.has}; the catalog says {one.says}",
            "correct the count",
            _sql("UPDATE file SET refs = refs + ? WHERE id = ?", difference, one.id),
        )

    def _unreferenced_file(self, one: _Counted) -> Problem:
        def fix(tx: Transaction) -> None:
            if not tx.execute("DELETE FROM file WHERE id = ? AND refs = ?", (one.id, one.says)).rowcount:
                return
            tx.count(STORED, -1, -(one.size or 0))
            tx.execute("DELETE FROM chunks WHERE content = ?", (one.id,))
            drop_mark(tx, LAYOUT_FILE, one.id)
            drop_sums(tx, one.id)

        return Problem(
            "orphan",
            f"content {one.id:016x}",
            f"{one.size} bytes in a file that no object refers to, though the catalog says {one.says}",
            "forget it; its file is then one that nothing refers to",
            fix,
        )

    def _small_references(self) -> Iterator[Problem]:
        wanted = self._db.execute(
            "SELECT content, count(*) FROM object WHERE layout = 0 GROUP BY content ORDER BY content"
        )
        there = self._db.execute(
            "SELECT id, 1 + coalesce(others, 0), length(data) FROM small LEFT JOIN shared USING (id) ORDER BY id"
        )
        for one in _merged(there, wanted):
            self._pace.step()
            if one.says is None:
                continue  # told of its objects, when they are read
            if one.has == 0:
                yield self._unreferenced_small(one)
            elif one.has != one.says:
                yield self._count_of_small(one)
        for (content,) in self._db.execute("SELECT id FROM shared EXCEPT SELECT id FROM small"):
            yield Problem(
                "count",
                f"content {content} of the catalog",
                "is counted as shared, and is not there",
                "drop the count",
                _sql(
                    "DELETE FROM shared WHERE id = ? AND id NOT IN (SELECT id FROM small WHERE id = shared.id)", content
                ),
            )

    def _count_of_small(self, one: _Counted) -> Problem:
        difference = one.has - (one.says or 0)

        def fix(tx: Transaction) -> None:
            tx.execute(
                "INSERT INTO shared VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET others = others + ?",
                (one.id, difference, difference),
            )
            tx.execute("DELETE FROM shared WHERE id = ? AND others <= 0", (one.id,))

        return Problem(
            "count",
            f"content {one.id} of the catalog",
            f"objects that refer to it: {one.has}; the catalog says {one.says}",
            "correct the count",
            fix,
        )

    def _unreferenced_small(self, one: _Counted) -> Problem:
        def before() -> None:
            row = self._db.execute("SELECT data FROM small WHERE id = ?", (one.id,)).fetchone()
            if row is not None:
                self._aside.keep(f"small-{one.id}", row[0])

        def fix(tx: Transaction) -> None:
            if tx.execute("DELETE FROM small WHERE id = ?", (one.id,)).rowcount:
                tx.execute("DELETE FROM shared WHERE id = ?", (one.id,))
                tx.count(STORED, -1, -(one.size or 0))
                drop_mark(tx, LAYOUT_INLINE, one.id)

        return Problem(
            "orphan",
            f"content {one.id} of the catalog",
            f"{one.size} bytes that no object refers to",
            f"put it aside in {self._aside.folder}",
            fix,
            before=before,
        )

    # -- totals ------------------------------------------------------------------------------------------------

    def _totals(self) -> Iterator[Problem]:
        true = {
            bid: (count, size)
            for bid, count, size in self._db.execute("SELECT bucket, count(*), sum(size) FROM object GROUP BY bucket")
        }
        sizes = "SELECT size FROM file UNION ALL SELECT length(data) FROM small"
        true[STORED] = self._db.execute(f"SELECT count(*), coalesce(sum(size), 0) FROM ({sizes})").fetchone()  # noqa: S608 (constants)
        says = {bid: (count, size) for bid, count, size in self._db.execute("SELECT bucket, objects, bytes FROM usage")}
        for bid in sorted(true.keys() | says.keys()):
            is_true, told = true.get(bid, (0, 0)), says.get(bid, (0, 0))
            if is_true != told:
                objects, size = is_true[0] - told[0], is_true[1] - told[1]
                yield Problem(
                    "count",
                    "what is stored" if bid == STORED else self.bucket_name(bid),
                    f"holds {is_true[0]} objects of {is_true[1]} bytes, the catalog says {told[0]} of {told[1]}",
                    "correct the count",
                    partial(_count, bid, objects, size),
                )

    # -- what belongs to nothing -------------------------------------------------------------------------------

    def _uploads(self) -> Iterator[Problem]:
        lost = "SELECT DISTINCT upload FROM upload_file UNION SELECT upload FROM part EXCEPT SELECT id FROM upload"
        for (upload,) in self._db.execute(lost):
            yield Problem(
                "orphan",
                f"upload {upload}",
                "has files or parts, and is not there",
                "drop what is left of it",
                partial(_drop_rest, upload=upload),
            )
        none = "SELECT u.id FROM upload u LEFT JOIN bucket b ON b.id = u.bucket WHERE b.id IS NULL AND u.bucket NOT IN (SELECT bucket FROM dropped)"
        for (upload,) in self._db.execute(none):
            yield Problem(
                "orphan",
                f"upload {upload}",
                "is in a bucket that is not there",
                "drop it",
                partial(_drop_rest, upload=upload),
            )

    def _leftovers(self) -> Iterator[Problem]:
        sql = (
            "SELECT DISTINCT bucket FROM object WHERE bucket NOT IN (SELECT id FROM bucket)"
            " AND bucket NOT IN (SELECT bucket FROM dropped)"
        )
        for (bid,) in self._db.execute(sql):
            yield Problem(
                "orphan",
                f"bucket {bid}",
                "has objects, and is not there",
                "make a bucket of it again, called lost-and-found",
                partial(self._name_bucket, bid=bid),
            )
        for table in ("archive", "archive_page"):
            gone = f"SELECT DISTINCT layout, content FROM {table} t WHERE NOT EXISTS (SELECT 1 FROM file WHERE id = t.content)"  # noqa: S608 (constants)
            for layout, content in self._db.execute(gone):
                yield Problem(
                    "orphan",
                    f"index of archive {content:016x}",
                    "is of content that is gone",
                    "drop it",
                    _sql(f"DELETE FROM {table} WHERE layout = ? AND content = ?", layout, content),  # noqa: S608 (constants)
                )
        for content in summed_contents(self._db):
            if self._db.execute("SELECT 1 FROM file WHERE id = ?", (content,)).fetchone() is None:
                yield Problem(
                    "orphan",
                    f"sums of content {content:016x}",
                    "are of content that is gone",
                    "drop them",
                    partial(_drop_sums_of_nothing, content=content),
                )
        for (content,) in self._db.execute(
            "SELECT content FROM chunks WHERE content NOT IN (SELECT content FROM object WHERE layout = 2)"
        ):
            yield Problem(
                "orphan",
                f"parts of content {content:016x}",
                "belong to no object that was uploaded in parts",
                "forget them",
                _sql("DELETE FROM chunks WHERE content = ?", content),
            )
        for (content,) in self._db.execute("SELECT id FROM garbage WHERE id IN (SELECT id FROM file)"):
            yield Problem(
                "count",
                f"content {content:016x}",
                "is to be removed, though objects refer to it",
                "keep it",
                _sql("DELETE FROM garbage WHERE id = ?", content),
            )

    def _name_bucket(self, tx: Transaction, bid: int) -> None:
        there = "SELECT 1 FROM bucket WHERE id = ? UNION ALL SELECT 1 FROM dropped WHERE bucket = ?"
        if tx.execute(there, (bid, bid)).fetchone():
            return
        name = f"lost-and-found-{bid}-{time.time_ns():x}"
        tx.execute("INSERT INTO bucket VALUES (?, 'ais', '', '', ?, ?)", (bid, name, self._documents.make_props(bid)))

    def _marks(self) -> Iterator[Problem]:
        sql = (
            "SELECT layout, content FROM damaged d WHERE NOT EXISTS (SELECT 1 FROM file WHERE d.layout = 1 AND id = d.content)"
            " AND NOT EXISTS (SELECT 1 FROM small WHERE d.layout = 0 AND id = d.content)"
            " AND NOT EXISTS (SELECT 1 FROM object o WHERE o.content = d.content AND (o.layout = 0) = (d.layout = 0))"
        )
        for layout, content in self._db.execute(sql):
            yield Problem(
                "orphan",
                f"mark of content {content:016x}",
                "is of content that is gone",
                "drop it",
                partial(drop_mark, layout=layout, content=content),
            )


def _merged(there: Iterator[tuple[int, int, int]], wanted: Iterator[tuple[int, int]]) -> Iterator[_Counted]:
    """What there is and what is wanted, both in order of content, side by side."""
    have, want = next(there, None), next(wanted, None)
    while have is not None or want is not None:
        if want is None or (have is not None and have[0] < want[0]):
            assert have is not None
            yield _Counted(have[0], have[1], have[2], 0)
            have = next(there, None)
        elif have is None or want[0] < have[0]:
            yield _Counted(want[0], None, None, want[1])
            want = next(wanted, None)
        else:
            yield _Counted(have[0], have[1], have[2], want[1])
            have, want = next(there, None), next(wanted, None)


def _sql(sql: str, *values: object) -> Change:
    """One statement as a change."""
    return lambda tx: tx.execute(sql, values)


def _count(bid: int, objects: int, size: int, tx: Transaction) -> None:
    tx.count(bid, objects, size)


def _drop_rest(tx: Transaction, upload: str) -> None:
    for (file,) in tx.execute("DELETE FROM upload_file WHERE upload = ? RETURNING id", (upload,)).fetchall():
        drop_reference(tx, LAYOUT_FILE, file)
    tx.execute("DELETE FROM part WHERE upload = ?", (upload,))
    tx.execute("DELETE FROM upload WHERE id = ?", (upload,))


def _drop_sums_of_nothing(tx: Transaction, content: int) -> None:
    if tx.execute("SELECT 1 FROM file WHERE id = ?", (content,)).fetchone() is None:
        drop_sums(tx, content)


def is_text(name: object) -> bool:
    """Whether a name is one: bytes that have changed may be no UTF-8, or no text at all."""
    if not isinstance(name, str):
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(name: object) -> str:
    """A name as it can be printed and sent, with the bytes that are no UTF-8 as `\\xff`."""
    data = name if isinstance(name, bytes) else as_bytes(str(name))
    return data.decode("utf-8", "backslashreplace")


def _is_pairs(text: str) -> bool:
    try:
        pairs = json.loads(text)
    except ValueError:
        return False
    return isinstance(pairs, dict) and all(isinstance(value, str) for value in pairs.values())


def as_bytes(text: str) -> bytes:
    """Text as it lies in the catalog, whatever its bytes are."""
    return text.encode("utf-8", "surrogateescape")
