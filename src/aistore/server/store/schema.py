"""The catalog's tables, and how a data folder is created, recognised and opened."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

from aistore.server.store.durability import Durability
from aistore.server.store.errors import StoreCorrupt, StoreFull

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "BACKUP",
    "BUSY_TIMEOUT",
    "CATALOG",
    "CATALOG_LOCK",
    "CATALOG_VERSION",
    "INLINE_MAX",
    "LAYOUT_CHUNKED",
    "LAYOUT_FILE",
    "LAYOUT_INLINE",
    "Durability",
    "connect",
    "create_or_check",
    "telling_of_damage",
]


CATALOG: Final = "catalog.db"
BACKUP: Final = "catalog.backup.db"
"""The copy of the catalog that upkeep makes."""
CATALOG_LOCK: Final = "catalog.lock"
"""Held, shared, by each process that has the store open."""

CATALOG_VERSION: Final = 8
"""Version of the catalog's format. A folder with a newer one is refused, an older one is migrated."""

_ROOM_OF_A_FULL_DISK: Final = 1 << 20

BUSY_TIMEOUT: Final = 30_000
"""Milliseconds that a writer waits for those of other processes."""

INLINE_MAX: Final = 8 * 1024
"""Content of up to this many bytes lives in the catalog (table `small`), larger content in a file."""

LAYOUT_INLINE: Final = 0
LAYOUT_FILE: Final = 1
LAYOUT_CHUNKED: Final = 2
"""A file, as in `LAYOUT_FILE`, of an object that was uploaded in parts (table `chunks`)."""

# Object rows hold no content: a listing is a scan of this table, and content in its rows would cut its rate to a third.
# Rows are keyed by bucket *id*, so that renaming a bucket is one row and dropping one is immediate (its rows are purged later).
_FORMAT_1: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE bucket (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    provider TEXT NOT NULL, uuid TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    props BLOB NOT NULL,
    UNIQUE (provider, uuid, namespace, name)
);
CREATE TABLE usage (bucket INTEGER PRIMARY KEY, objects INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE object (
    bucket INTEGER NOT NULL, name TEXT NOT NULL,
    size INTEGER NOT NULL, layout INTEGER NOT NULL, content INTEGER NOT NULL,
    checksum_type TEXT NOT NULL, checksum TEXT NOT NULL,
    version TEXT NOT NULL, atime INTEGER NOT NULL, mtime INTEGER NOT NULL, custom TEXT,
    PRIMARY KEY (bucket, name)
) WITHOUT ROWID;
CREATE TABLE small (id INTEGER PRIMARY KEY, refs INTEGER NOT NULL DEFAULT 1, data BLOB NOT NULL);
CREATE TABLE file (id INTEGER PRIMARY KEY, refs INTEGER NOT NULL DEFAULT 1, size INTEGER NOT NULL);
CREATE TABLE block (id INTEGER PRIMARY KEY, open INTEGER NOT NULL DEFAULT 1);
CREATE INDEX open_block ON block (id) WHERE open = 1;
CREATE TABLE garbage (id INTEGER PRIMARY KEY);
CREATE TABLE dropped (bucket INTEGER PRIMARY KEY);
CREATE TABLE job (id TEXT PRIMARY KEY, finished INTEGER NOT NULL, record BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX job_finished ON job (finished);
"""

# Content in the catalog has a row in `shared` if more than one object refers to it, with the number of the others: a count beside the
# content would have all of it written again whenever it is copied. `usage` of bucket 0 is what is stored: content that objects share counts once there.
_FORMAT_2: Final = """
CREATE TABLE shared (id INTEGER PRIMARY KEY, others INTEGER NOT NULL);
INSERT INTO shared SELECT id, refs - 1 FROM small WHERE refs > 1;
ALTER TABLE small DROP COLUMN refs;
INSERT INTO usage SELECT 0, n, bytes FROM (
    SELECT count(*) AS n, sum(size) AS bytes FROM (SELECT size FROM file UNION ALL SELECT length(data) FROM small)
) WHERE n > 0;
"""

# Members of archives, by the content that they are in and the format that it was read as: some in each row of `archive_page`, sorted,
# under the first one's name. A row of `archive` says that they are all there, and what is wrong with the archive behind them.
_FORMAT_3: Final = """
CREATE TABLE archive (
    layout INTEGER NOT NULL, content INTEGER NOT NULL, format INTEGER NOT NULL, damage TEXT NOT NULL,
    PRIMARY KEY (layout, content, format)
) WITHOUT ROWID;
CREATE TABLE archive_page (
    layout INTEGER NOT NULL, content INTEGER NOT NULL, format INTEGER NOT NULL, first BLOB NOT NULL, members BLOB NOT NULL,
    PRIMARY KEY (layout, content, format, first)
);
"""

# Uploads in parts. Each part lies somewhere in a file of the upload; a file with a part size other than 0 has room for the parts of that
# size at their places. Catalogs of formats 2 and 3 may have tables of two of these names, never used.
_FORMAT_4: Final = """
DROP TABLE IF EXISTS parts;
DROP TABLE IF EXISTS part;
DROP TABLE IF EXISTS upload;
CREATE TABLE upload (
    id TEXT PRIMARY KEY, bucket INTEGER NOT NULL, name TEXT NOT NULL, started INTEGER NOT NULL, changed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX upload_bucket ON upload (bucket);
CREATE TABLE upload_file (id INTEGER PRIMARY KEY, upload TEXT NOT NULL, part_size INTEGER NOT NULL);
CREATE INDEX file_of_upload ON upload_file (upload);
CREATE TABLE part (
    upload TEXT NOT NULL, number INTEGER NOT NULL, file INTEGER NOT NULL, start INTEGER NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (upload, number)
) WITHOUT ROWID;
CREATE TABLE chunks (content INTEGER PRIMARY KEY, count INTEGER NOT NULL, largest INTEGER NOT NULL);
CREATE INDEX chunked_object ON object (bucket, name) WHERE layout = 2;
"""

# What clients of S3 give and get with uploads in parts: the metadata of the object, and an entity tag of each part (empty if it has none).
_FORMAT_5: Final = """
ALTER TABLE upload ADD COLUMN custom TEXT;
ALTER TABLE part ADD COLUMN tag TEXT NOT NULL DEFAULT '';
"""

# Content that is not what it was (layout 0: in `small`, 1: in a file): what it belongs to answers an error until it is overwritten or deleted.
_FORMAT_6: Final = """
CREATE TABLE damaged (
    layout INTEGER NOT NULL, content INTEGER NOT NULL, found INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (layout, content)
) WITHOUT ROWID;
"""

# Sums of the pieces of content files (`pieces.py`), a page of them in each row. Content that was stored by a version before has none until they are made.
_FORMAT_7: Final = """
CREATE TABLE sums (id INTEGER PRIMARY KEY, sums BLOB NOT NULL);
"""

# A sum of each part of an upload (XXH3, 64 bits): until the upload is completed nothing else tells what the part was. Empty for parts of a version before.
_FORMAT_8: Final = """
ALTER TABLE part ADD COLUMN sum BLOB NOT NULL DEFAULT x'';
"""

_STEPS: Final = (_FORMAT_1, _FORMAT_2, _FORMAT_3, _FORMAT_4, _FORMAT_5, _FORMAT_6, _FORMAT_7, _FORMAT_8)
"""What makes a catalog of one format more: the first step makes one of format 1 out of nothing."""


def connect(path: Path, durability: Durability, *, readonly: bool = False) -> sqlite3.Connection:
    """Open a connection to the catalog.

    `strict` makes every commit durable against power loss (WAL with `synchronous=FULL`; on macOS with a full flush of the drive);
    `relaxed` writes the log without flushing it, which survives the death of the process but not of the machine.
    """
    db = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT / 1000, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(f"PRAGMA synchronous={'FULL' if durability == 'strict' else 'OFF'}")
        if sys.platform == "darwin" and durability == "strict":
            db.execute("PRAGMA fullfsync=1")
        # Checkpoints run on a connection of their own: one in the middle of a commit would add its time to that commit.
        db.execute("PRAGMA wal_autocheckpoint=0")
        db.execute("PRAGMA cache_size=-8192")
        db.execute("PRAGMA temp_store=MEMORY")
        if readonly:
            db.execute("PRAGMA query_only=1")
    except BaseException:
        db.close()
        raise
    return db


def create_or_check(path: Path, durability: Durability) -> None:
    """Create the catalog if there is none; refuse one that this version cannot use. Raises `StoreCorrupt`, `StoreFull`."""
    try:
        with closing(connect(path, durability)) as db:
            _create_or_check(db, path)
    except sqlite3.DatabaseError as error:
        if means_full_disk(error, path.parent):
            raise StoreFull(f"the disk with {path.parent} is full") from error
        raise _corrupt(path, error) from error


@contextmanager
def telling_of_damage(path: Path) -> Iterator[None]:
    """Say what is damaged, and where a copy is, when the catalog cannot be read in here. Raises `StoreCorrupt`."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _corrupt(path, error) from error


def means_full_disk(error: BaseException, folder: Path) -> bool:
    """Whether an error of SQLite comes of a full disk; for want of room it also tells of I/O errors."""
    if not isinstance(error, sqlite3.OperationalError):
        return False
    text = str(error)
    return "disk is full" in text or (
        "disk I/O error" in text and shutil.disk_usage(folder).free < _ROOM_OF_A_FULL_DISK
    )


def _create_or_check(db: sqlite3.Connection, path: Path) -> None:
    db.execute("BEGIN IMMEDIATE")
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found > CATALOG_VERSION:
        raise StoreCorrupt(
            f"{path.parent} was written by a newer version (format {found}, this one knows {CATALOG_VERSION}): upgrade aistore-py"
        )
    if found == 0:
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StoreCorrupt(f"{path} is not a catalog of aistore-py: choose another data folder")
        if (path.parent / "content").is_dir():
            raise StoreCorrupt(f"the catalog {path} is lost, though content lies beside it{_hint(path)}")
    for step in _STEPS[found:]:
        for statement in filter(str.strip, step.split(";")):
            db.execute(statement)
    if found == 0:
        db.execute("INSERT INTO meta VALUES ('created', ?)", (str(time.time_ns()),))
    db.execute(f"PRAGMA user_version={CATALOG_VERSION}")
    db.execute("COMMIT")


def _corrupt(path: Path, error: sqlite3.DatabaseError) -> StoreCorrupt:
    return StoreCorrupt(f"cannot open the catalog {path}: {error}{_hint(path)}")


def _hint(path: Path) -> str:
    backup = path.with_name(BACKUP)
    if not backup.exists():
        return ""
    # A log that belongs to another state of the database would be played into the copy.
    return (
        f"; a copy made earlier is {backup}: to go back to that time, remove {path.name}, {path.name}-wal and {path.name}-shm"
        " and put the copy in their place"
    )
