"""Stores to test with, and whether what lies in a data folder agrees with itself."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from aistore.server.store.pieces import PieceSums
from aistore.server.store.store import Store
from aistore.wire.checksum import digest
from aistore.wire.names import BucketId
from waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from aistore.server.store.content import Upload
    from aistore.server.store.rows import Bucket, ObjectRow
    from aistore.server.store.schema import Durability


_FOLLOWS = "SELECT 1 FROM dropped UNION ALL SELECT 1 FROM garbage"


def bucket_id(name: str) -> BucketId:
    return BucketId("ais", "", "", name)


@contextlib.asynccontextmanager
async def opened(
    root: Path,
    durability: Durability = "relaxed",
    *,
    capacity: int | None = None,
    shared: bool = False,
    primary: bool = True,
) -> AsyncIterator[Store]:
    """A store, open."""
    store = Store(root, durability, capacity=capacity, shared=shared, primary=primary)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


async def make_bucket(store: Store, name: str = "b") -> Bucket:
    return await store.create_bucket(bucket_id(name), lambda bid: b"props %d" % bid)


async def upload(store: Store, data: bytes) -> Upload:
    """A finished upload."""
    made = await store.content.create(len(data))
    try:
        made.write(data)
        made.finish()
    except BaseException:
        made.abandon()
        raise
    return made


async def put(
    store: Store,
    bucket: Bucket,
    name: str,
    data: bytes,
    *,
    in_file: bool = False,
    custom: dict[str, str] | None = None,
    versioned: bool = True,
    fresh: bool = False,
) -> ObjectRow:
    content = await upload(store, data) if in_file else data
    return await store.put(
        bucket, name, content, "xxhash2", digest("xxhash2", data), custom=custom, versioned=versioned, fresh=fresh
    )


def read(store: Store, bucket: Bucket, name: str) -> bytes | None:
    """Content of an object, None if there is none."""
    row = store.lookup(bucket, name)
    current = store.open_current(bucket, row) if row is not None else None
    if current is None:
        return None
    row, fd = current
    if fd < 0:
        assert row.data is not None
        return row.data
    with open(fd, "rb") as file:  # noqa: PTH123 (a descriptor)
        return file.read()


def row_of(store: Store, name: str = "o") -> ObjectRow:
    """The row of an object in bucket `b`, which has to be there."""
    bucket = store.bucket(bucket_id("b"))
    assert bucket is not None
    row = store.lookup(bucket, name)
    assert row is not None
    return row


def open_descriptors(pid: int | None = None) -> set[str]:
    """The open descriptors of a process (`None`: this one), but for those that its threads read the catalog by.

    Each thread opens its own when it is first needed, and keeps it as long as the catalog is open. With what it leads to, a number that was
    used again is another descriptor. What was open before may go at any time: the collector closes connections of clients that nobody has.
    """
    found = set()
    for entry in Path("/dev/fd" if pid is None else f"/proc/{pid}/fd").iterdir():
        try:
            target = entry.readlink()
        except FileNotFoundError:  # that of the listing
            continue
        except OSError:  # a system where they are no links
            target = entry
        if not target.name.startswith("catalog.db"):
            found.add(f"{entry.name} {target}")
    return found


async def put_part(store: Store, upload_id: str, number: int, data: bytes) -> None:
    """Store one part of an upload."""
    part = await store.uploads.open_part(upload_id, number, len(data))
    try:
        part.write(data)
        part.finish()
        await part.store("xxhash2")
    except BaseException:
        await part.abandon()
        raise


async def settle(store: Store) -> None:
    """Wait until what follows changes has happened: buckets purged, content without references removed."""
    deadline = asyncio.get_running_loop().time() + DEADLINE
    while store.catalog.read(_FOLLOWS).fetchone() is not None:
        assert asyncio.get_running_loop().time() < deadline, "dropped buckets or garbage stay"
        store.content.remove_garbage()
        await asyncio.sleep(0.001)


def is_settled(root: Path) -> bool:
    """Whether what follows changes has happened in the data folder of a server."""
    with contextlib.closing(sqlite3.connect(root / "catalog.db")) as db:
        return db.execute(_FOLLOWS).fetchone() is None


def crash_copy(root: Path, target: Path) -> None:
    """What a killed process would leave of an open store: files as they are now, with all their names, without the log's shared memory."""

    def copy_unless_gone(source: str, copy: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # garbage is being removed
            shutil.copy2(source, copy)

    shutil.copytree(root, target, ignore=shutil.ignore_patterns("*-shm"), copy_function=copy_unless_gone)
    for work in (root / "work").glob("*"):
        for file in (root / "content").glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                if work.samefile(file):
                    copied = target / work.relative_to(root)
                    copied.unlink()
                    copied.hardlink_to(target / file.relative_to(root))


def problems(root: Path, *, recovered: bool = True, lost: Collection[int] = ()) -> list[str]:
    """What does not agree between the catalog and the files of a data folder.

    `recovered`: a store has been open since the last crash and has settled, so that nothing superfluous may be there either. `lost`: content whose
    file may be missing, or not what it was.
    """
    with contextlib.closing(sqlite3.connect(root / "catalog.db")) as db:
        return [*_references(db), *_totals(db), *_files(db, root, recovered, lost), *_sums(db, root, lost)]


def referrers(root: Path) -> dict[int, set[str]]:
    """What refers to content files: `object BUCKET NAME`, or `upload ID`."""
    found: dict[int, set[str]] = {}
    objects = "SELECT content, b.name || ' ' || o.name FROM object o JOIN bucket b ON b.id = o.bucket WHERE layout != 0"
    with contextlib.closing(sqlite3.connect(root / "catalog.db")) as db:
        for kind, query in (("object", objects), ("upload", "SELECT id, upload FROM upload_file")):
            for content, name in db.execute(query):
                found.setdefault(content, set()).add(f"{kind} {name}")
    return found


def stored_bytes(root: Path) -> tuple[int, int]:
    """Bytes of content that the catalog counts, and how many of them are parts of uploads that were not completed."""
    with contextlib.closing(sqlite3.connect(root / "catalog.db")) as db:
        stored = db.execute("SELECT coalesce(sum(bytes), 0) FROM usage WHERE bucket = 0").fetchone()[0]
        return stored, db.execute("SELECT coalesce(sum(size), 0) FROM part").fetchone()[0]


def content_sizes(root: Path) -> dict[str, int]:
    """Size of each content file by name. A server may remove files meanwhile."""
    sizes = {}
    for path in (root / "content").glob("*/*"):
        with contextlib.suppress(FileNotFoundError):
            sizes[path.name] = path.stat().st_size
    return sizes


def _references(db: sqlite3.Connection) -> list[str]:
    found = []
    rows = db.execute("SELECT bucket, name, size, layout, content FROM object").fetchall()
    buckets = {bid for (bid,) in db.execute("SELECT id FROM bucket UNION SELECT bucket FROM dropped")}
    found += [f"{name!r} is in no bucket ({bid})" for bid, name, *_ in rows if bid not in buckets]
    queries = (
        ((0,), "SELECT s.id, 1 + coalesce(others, 0), length(data) FROM small s LEFT JOIN shared USING (id)"),
        ((1, 2), "SELECT id, refs, size FROM file"),
    )
    uploading = [file for (file,) in db.execute("SELECT f.id FROM upload_file f JOIN upload u ON u.id = f.upload")]
    for layouts, query in queries:
        there = {i: (refs, size) for i, refs, size in db.execute(query)}
        wanted = Counter(content for *_, where, content in rows if where in layouts)
        if 1 in layouts:
            wanted.update(uploading)
        found += [
            f"content {i} of layout {layouts} is referred to {wanted[i]} times, says {refs}"
            for i, (refs, _) in there.items()
            if refs != wanted[i]
        ]
        for _, name, size, where, content in rows:
            if where in layouts and there.get(content, (0, None))[1] != size:
                found.append(f"{name!r} of {size} bytes refers to content {content}: {there.get(content)}")
        members = "SELECT content FROM archive WHERE layout = ? UNION SELECT content FROM archive_page WHERE layout = ?"
        found += [
            f"members of content {i} of layout {layout}, which is not there"
            for layout in layouts
            for (i,) in db.execute(members, (layout, layout))
            if i not in there
        ]
    chunked = {content for *_, where, content in rows if where == 2}
    found += [f"chunks of {i}" for (i,) in db.execute("SELECT content FROM chunks") if i not in chunked]
    for file, size in db.execute("SELECT id, (SELECT sum(size) FROM part WHERE file = u.id) FROM upload_file u"):
        told = db.execute("SELECT size FROM file WHERE id = ?", (file,)).fetchone()
        if told != (size or 0,):
            found.append(f"parts of {size} bytes are in file {file}, which says {told}")
    return found


def _sums(db: sqlite3.Connection, root: Path, lost: Collection[int]) -> list[str]:
    """What is wrong with the sums of pieces of content that objects have."""
    db.execute("BEGIN")
    whose: dict[int, dict[int, bytes]] = {}
    for key, sums in db.execute("SELECT id, sums FROM sums").fetchall():
        whose.setdefault(key >> 20, {})[key & (1 << 20) - 1] = sums
    there = {content for (content,) in db.execute("SELECT id FROM file")}
    found = [f"sums of content {content:x}, which is not there" for content in whose.keys() - there]
    damaged = {content for (content,) in db.execute("SELECT content FROM damaged WHERE layout = 1")}
    for content in (whose.keys() & there) - damaged.union(lost):
        made = PieceSums()
        with contextlib.suppress(FileNotFoundError):
            path = root / "content" / f"{content // 4096:08x}" / f"{content:016x}"
            with path.open("rb") as file:
                while piece := file.read(100_000):
                    made.update(piece)
            if dict(made.pages()) != whose[content]:
                found.append(f"sums of content {content:x} are others")
    return found


def _totals(db: sqlite3.Connection) -> list[str]:
    true = {
        bid: (n, size) for bid, n, size in db.execute("SELECT bucket, count(*), sum(size) FROM object GROUP BY bucket")
    }
    sizes = "SELECT size FROM file UNION ALL SELECT length(data) FROM small"
    stored = db.execute(f"SELECT count(*), sum(size) FROM ({sizes})").fetchone()
    if stored[0]:
        true[0] = stored
    told = {bid: (n, size) for bid, n, size in db.execute("SELECT * FROM usage") if (n, size) != (0, 0)}
    return [] if true == told else [f"totals are {true}, usage says {told}"]


def _files(db: sqlite3.Connection, root: Path, recovered: bool, lost: Collection[int]) -> list[str]:
    wanted = dict(db.execute("SELECT id, size FROM file").fetchall())
    there = {int(name, 16): size for name, size in content_sizes(root).items()}
    growing = {file for (file,) in db.execute("SELECT id FROM upload_file")}
    found = [
        f"content file {i:x} of {size} bytes is {there.get(i)} bytes"
        for i, size in wanted.items()
        if i not in lost and (i not in there if i in growing else there.get(i) != size)
    ]
    if recovered:
        found += [f"nothing refers to content file {i:x}" for i in there.keys() - wanted.keys()]
        found += [f"garbage {i}" for (i,) in db.execute("SELECT id FROM garbage")]
    return found
