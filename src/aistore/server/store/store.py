"""The store of a data folder: buckets and objects; knows nothing of HTTP.

All methods are called on the event loop; what may take long runs in threads. Changes are futures or coroutines that are done when the
change is committed, and what they report is then true after a crash (see `docs/durability.md`).
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from aistore.server.store.atimes import AccessTimes
from aistore.server.store.cache import Key, RowCache
from aistore.server.store.catalog import STORED, Catalog, Transaction
from aistore.server.store.content import ContentFiles, Upload, in_thread
from aistore.server.store.errors import (
    BucketExists,
    BucketGone,
    ContentMissing,
    ObjectMissing,
    StoreBroken,
    StoreError,
    StoreFull,
)
from aistore.server.store.multipart import MultipartUploads
from aistore.server.store.purging import purge_dropped
from aistore.server.store.references import add_file, add_small, drop_reference
from aistore.server.store.reserve import Reserve
from aistore.server.store.room import FreeSpace
from aistore.server.store.rows import (
    INSERT_OBJECT,
    LOOKUP_PLAIN,
    OBJECT_COLUMNS,
    Bucket,
    ObjectRow,
    encode_pairs,
    next_version,
    pairs_of_new_content,
    require_bucket,
)
from aistore.server.store.schema import (
    BACKUP,
    CATALOG,
    CATALOG_LOCK,
    LAYOUT_FILE,
    LAYOUT_INLINE,
    Durability,
    create_or_check,
)
from aistore.server.store.verifying import Verifier
from aistore.server.store.work import WorkFiles
from aistore.wire.names import BucketId

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Store"]

logger = logging.getLogger(__name__)

_UPKEEP_EVERY: Final = 5.0
_BACKUP_EVERY: Final = 3600.0
_STALE_CHECK_EVERY: Final = 3600.0
_LOCK_POLL: Final = 0.05

PutCheck = Callable[[ObjectRow | None], None]


class Store:
    """Buckets and objects in one data folder.

    `shared` says that other processes (targets) work on the same folder; `primary` that this one recovers and tidies up. `capacity`
    bounds the bytes of content (None: the disk does).
    """

    def __init__(
        self,
        root: Path,
        durability: Durability = "strict",
        *,
        capacity: int | None = None,
        shared: bool = False,
        primary: bool = True,
    ) -> None:
        self.root = root
        self.durability: Durability = durability
        self.capacity = capacity
        self.shared = shared
        self.primary = primary
        root.mkdir(parents=True, exist_ok=True)
        if primary:
            try:
                create_or_check(root / CATALOG, durability)
            except StoreFull:
                if not Reserve(root).give_up():
                    raise
                create_or_check(root / CATALOG, durability)
        self.catalog = Catalog(root / CATALOG, durability, shared=shared)
        self.content = ContentFiles(root / "content", self.catalog, durability)
        self.uploads = MultipartUploads(self)
        self.work = WorkFiles(root / "work", self.content)
        self.verifier = Verifier(self.catalog)
        self.objects = 0
        self.bytes = 0
        self._buckets: dict[BucketId, Bucket] = {}
        self._rows = RowCache()
        self.atimes = AccessTimes(self.catalog, self._rows)
        self._data_version = 0
        self._free = FreeSpace(root, self.catalog)
        self._lock = -1
        self.relief: Callable[[int], Awaitable[bool]] | None = None
        """Lets go so many bytes that can be fetched again; whether anything went."""
        self._upkeep: asyncio.Task[None] | None = None
        self._upkeep_due = asyncio.Event()
        self._others_died = False
        self.catalog.on_commit(self._count)

    # -- life --------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Recover from a crash if there was one, and be ready."""
        self._lock = os.open(self.root / CATALOG_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if self.primary:
            # Recovery removes files that nothing refers to: nobody may be about to refer to one. The targets of a gateway that was
            # killed live on until their last request is answered.
            await self._take_lock(fcntl.LOCK_EX)
            self._tell_of_removed(await self.catalog.submit(lambda tx: self.content.recover(tx.db)))
            await in_thread(self.work.recover)
            await in_thread(self.catalog.reserve.keep)
        await self._take_lock(fcntl.LOCK_SH)
        self._read_totals()
        self.verifier.begin()
        if self.primary:
            self.content.remove_garbage()
            self._upkeep = asyncio.ensure_future(self._keep_up())
        await self.content.prepare()
        self._data_version = self.catalog.data_version()

    async def _take_lock(self, kind: int) -> None:
        told = False
        while True:
            try:
                fcntl.flock(self._lock, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    logger.info("waiting for processes of an earlier server on %s to end", self.root)
                    told = True
                await asyncio.sleep(_LOCK_POLL)
            else:
                return

    async def close(self) -> None:
        """Write what is pending and release the folder."""
        try:
            if self._upkeep is not None:
                self._upkeep.cancel()
                self.catalog.prepare_to_close()
                await asyncio.gather(self._upkeep, return_exceptions=True)
            try:
                await self.atimes.write()
            except (StoreError, sqlite3.Error) as error:
                logger.warning("access times of the last seconds are lost: %s", error)
            await self.uploads.close()
            await self.content.close()
            await self.catalog.close()
        finally:
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    async def _keep_up(self) -> None:
        """Purge destroyed buckets, write access times, copy the catalog aside, forget abandoned work."""
        copied = tidied = time.monotonic()
        changes = self.catalog.commits
        while True:
            try:
                self._upkeep_due.clear()
                if self._others_died:
                    self._others_died = False
                    self._tell_of_removed(
                        await self.catalog.submit(lambda tx: self.content.recover_beside_others(tx.db))
                    )
                    await in_thread(self.work.recover_beside_others)
                await purge_dropped(self)
                await self.atimes.write()
                now = time.monotonic()
                if self.durability == "strict" and now - copied > _BACKUP_EVERY and changes != self.catalog.commits:
                    copied, changes = now, self.catalog.commits
                    await in_thread(self.catalog.back_up, self.root / BACKUP)
                await in_thread(self.catalog.reserve.keep)
                if now - tidied > _STALE_CHECK_EVERY:
                    tidied = now
                    await in_thread(self.work.remove_stale)
                    await self.uploads.remove_stale()
            except StoreBroken:
                return  # told already
            except Exception:
                logger.exception("upkeep of the store failed; it is tried again")
            # Not `wait_for`: until 3.12 it swallows a cancellation that comes together with what it waits for.
            timer = asyncio.get_running_loop().call_later(_UPKEEP_EVERY, self._upkeep_due.set)
            try:
                await self._upkeep_due.wait()
            finally:
                timer.cancel()

    def other_process_died(self) -> None:
        """Have what it left unfinished removed, soon (for the primary one; all work on meanwhile)."""
        self._others_died = True
        self._upkeep_due.set()

    def _tell_of_removed(self, files: int) -> None:
        if files:
            logger.info("removed %d content files of writes that were cut off", files)

    def _read_totals(self) -> None:
        self.objects = self.catalog.read(
            "SELECT coalesce(sum(objects), 0) FROM usage WHERE bucket != ?", (STORED,)
        ).fetchone()[0]
        stored = self.catalog.read("SELECT bytes FROM usage WHERE bucket = ?", (STORED,)).fetchone()
        self.bytes = stored[0] if stored else 0

    def _count(self, objects: int, size: int) -> None:
        self.objects += objects
        self.bytes += size
        if self.verifier.damage:  # what was damaged may be gone
            self.verifier.damage.load()

    def _see_others(self) -> None:
        """Forget cached rows if another process has changed the catalog."""
        if self.shared:
            version = self.catalog.data_version()
            if version != self._data_version:
                self._data_version = version
                self._rows.clear()
                self.verifier.damage.load()
                for bucket in self._buckets.values():
                    bucket.stale = True
                self._buckets.clear()

    # -- buckets -----------------------------------------------------------------------------------------------

    def bucket(self, bucket: BucketId) -> Bucket | None:
        """The bucket of this identity, or None."""
        self._see_others()
        found = self._buckets.get(bucket)
        if found is None:
            row = self.catalog.read(
                "SELECT id, props FROM bucket WHERE provider = ? AND uuid = ? AND namespace = ? AND name = ?",
                tuple(bucket),
            ).fetchone()
            if row is None:
                return None
            found = self._remember_bucket(Bucket(row[0], bucket, row[1]))
        return found

    def buckets(self) -> list[Bucket]:
        """All buckets, sorted by provider, namespace and name."""
        self._see_others()
        rows = self.catalog.read(
            "SELECT id, provider, uuid, namespace, name, props FROM bucket ORDER BY provider, uuid, namespace, name"
        )
        found = []
        for bid, provider, uuid, namespace, name, props in rows:
            identity = BucketId(provider, uuid, namespace, name)
            bucket = self._buckets.get(identity)
            if bucket is None or bucket.bid != bid or bucket.props != props:
                bucket = self._remember_bucket(Bucket(bid, identity, props))
            found.append(bucket)
        return found

    def create_bucket(self, bucket: BucketId, props: Callable[[int], bytes]) -> asyncio.Future[Bucket]:
        """Create a bucket; `props` makes its property document from its number. Raises `BucketExists`."""

        def change(tx: Transaction) -> Bucket:
            values = tuple(bucket)
            if tx.execute(
                "SELECT 1 FROM bucket WHERE provider = ? AND uuid = ? AND namespace = ? AND name = ?", values
            ).fetchone():
                raise BucketExists(bucket.cname)
            bid = tx.execute(
                "INSERT INTO bucket (provider, uuid, namespace, name, props) VALUES (?, ?, ?, ?, x'')", values
            ).lastrowid
            assert bid is not None
            document = props(bid)
            tx.execute("UPDATE bucket SET props = ? WHERE id = ?", (document, bid))
            made = Bucket(bid, bucket, document)
            tx.after(lambda: self._now_known(made))
            return made

        return self.catalog.submit(change)

    def destroy_bucket(
        self, bucket: BucketId, *, check: Callable[[Transaction, int], None] | None = None
    ) -> asyncio.Future[None]:
        """Destroy a bucket and all in it; what it held is removed afterwards. Raises `BucketGone`.

        `check` sees its number and may refuse by raising.
        """

        def change(tx: Transaction) -> None:
            row = tx.execute(
                "DELETE FROM bucket WHERE provider = ? AND uuid = ? AND namespace = ? AND name = ? RETURNING id",
                tuple(bucket),
            ).fetchall()
            if not row:
                raise BucketGone(bucket.cname)
            if check is not None:
                check(tx, row[0][0])
            tx.execute("INSERT INTO dropped VALUES (?)", (row[0][0],))
            tx.after(lambda: self._forget_bucket(bucket))
            tx.after(self._upkeep_due.set)

        return self.catalog.submit(change)

    def set_bucket_props(self, bucket: Bucket, change_props: Callable[[bytes], bytes]) -> asyncio.Future[Bucket]:
        """Replace a bucket's property document by what `change_props` makes of it. Raises `BucketGone`, and what `change_props` raises."""

        def change(tx: Transaction) -> Bucket:
            row = tx.execute("SELECT props FROM bucket WHERE id = ?", (bucket.bid,)).fetchone()
            if row is None:
                raise BucketGone(bucket.id.cname)
            document = change_props(row[0])
            tx.execute("UPDATE bucket SET props = ? WHERE id = ?", (document, bucket.bid))
            made = Bucket(bucket.bid, bucket.id, document)
            tx.after(lambda: self._now_known(made))
            return made

        return self.catalog.submit(change)

    def rename_bucket(self, bucket: Bucket, new: BucketId) -> asyncio.Future[Bucket]:
        """Give a bucket another identity, whatever it holds. Raises `BucketExists`, `BucketGone`."""

        def change(tx: Transaction) -> Bucket:
            values = tuple(new)
            if tx.execute(
                "SELECT 1 FROM bucket WHERE provider = ? AND uuid = ? AND namespace = ? AND name = ?", values
            ).fetchone():
                raise BucketExists(new.cname)
            row = tx.execute(
                "UPDATE bucket SET provider = ?, uuid = ?, namespace = ?, name = ? WHERE id = ? RETURNING props",
                (*values, bucket.bid),
            ).fetchall()
            if not row:
                raise BucketGone(bucket.id.cname)
            made = Bucket(bucket.bid, new, row[0][0])
            tx.after(lambda: self._forget_bucket(bucket.id))
            tx.after(lambda: self._now_known(made))
            return made

        return self.catalog.submit(change)

    def usage(self, bucket: Bucket) -> tuple[int, int]:
        """Number of objects in a bucket and their bytes."""
        row = self.catalog.read("SELECT objects, bytes FROM usage WHERE bucket = ?", (bucket.bid,)).fetchone()
        return (row[0], row[1]) if row else (0, 0)

    def _now_known(self, bucket: Bucket) -> None:
        if self.shared:  # as in _now_current
            self._forget_bucket(bucket.id)
        else:
            self._remember_bucket(bucket)

    def _remember_bucket(self, bucket: Bucket) -> Bucket:
        """Keep what is now known of a bucket; whoever holds what was known before is told."""
        self._forget_bucket(bucket.id)
        self._buckets[bucket.id] = bucket
        return bucket

    def _forget_bucket(self, bucket: BucketId) -> None:
        known = self._buckets.pop(bucket, None)
        if known is not None:
            known.stale = True

    def clear_cache(self) -> None:
        """Forget the rows held in memory."""
        self._rows.clear()

    # -- reading objects ---------------------------------------------------------------------------------------

    def lookup(self, bucket: Bucket, name: str) -> ObjectRow | None:
        """The object's current row (with its content, if that lives in the catalog), or None."""
        self._see_others()
        key = (bucket.bid, name)
        row = self._rows.get(key)
        if row is None:
            found = self.catalog.read(_LOOKUP, key).fetchone()
            if found is None:
                return None
            row = ObjectRow(bucket.bid, name, *found)
            if row.data is not None:
                self.verifier.check_inline(row)
            self._rows.keep(key, row)
        return row

    def open_current(self, bucket: Bucket, row: ObjectRow) -> tuple[ObjectRow, int] | None:
        """The row with a descriptor of its content file, -1 if its content lives in the catalog.

        If the content is gone, because another version came since the row was looked up, that version; None if the object was deleted.
        The descriptor stays readable whatever becomes of the object. Raises `ContentDamaged`.
        """
        self.verifier.refuse(row)
        key = (bucket.bid, row.name)
        while row.layout != LAYOUT_INLINE:
            try:
                return row, self.content.open(row.content)
            except FileNotFoundError as error:
                missing = error
            # What was committed is told a moment later: the cache may be behind the catalog.
            self._rows.forget(key)
            current = self.lookup(bucket, row.name)
            if current is None:
                return None
            if (current.layout, current.content) == (row.layout, row.content):
                what = f"content {missing.filename} is missing from the data folder"
                raise ContentMissing(what, row.bid, row.name) from missing
            row = current
            self.verifier.refuse(row)
        if row.data is None:
            raise ContentMissing(f"content {row.content} is missing from the catalog", row.bid, row.name)
        return row, -1

    def pending_atimes(self, bucket: Bucket) -> dict[str, int]:
        """Access times of the bucket's objects that are not yet in the catalog."""
        return self.atimes.of_bucket(bucket.bid)

    # -- writing objects ---------------------------------------------------------------------------------------

    def check_room(self, size: int, *, in_catalog: bool = False, held: int = 0) -> None:
        """Raise `StoreFull` if `size` more bytes of content have no room, in files or in the catalog.

        `held` are bytes that lie on the disk already and count as content only now, with those.
        """
        if self.capacity is not None:
            if self.shared:
                self._read_totals()
            used = self.bytes + self.content.pending
            if used + size + held > self.capacity:
                raise StoreFull(f"{used} bytes of the configured capacity of {self.capacity} are used")
        self._free.take(size, in_catalog=in_catalog)

    def put(
        self,
        bucket: Bucket,
        name: str,
        content: bytes | Upload,
        checksum_type: str,
        checksum: str,
        *,
        custom: dict[str, str] | None = None,
        versioned: bool = True,
        fresh: bool = False,
        atime: int = 0,
        counted_from: str = "",
        check: PutCheck | None = None,
    ) -> asyncio.Future[ObjectRow]:
        """Make content the object's new version; the future gives its row.

        `content` is bytes (up to `INLINE_MAX`) or a finished upload, which then belongs to the store whatever happens. `custom` pairs
        are added to those the object has; `fresh` forgets the object's pairs and version. The version is one more than `counted_from`,
        or else than the object's. `check` sees the version to be replaced and may refuse by raising. Raises `BucketGone`, `StoreFull`,
        `CustomTooLong`.
        """
        now = atime or time.time_ns()
        key = (bucket.bid, name)

        def change(tx: Transaction) -> ObjectRow:
            if bucket.stale or self.shared:
                require_bucket(tx, bucket)
            old = tx.execute(LOOKUP_PLAIN, key).fetchone()
            pairs = custom
            before, kept = counted_from, ""
            if check is not None:
                check(ObjectRow(bucket.bid, name, *old) if old is not None else None)
            if old is not None and not fresh:
                pairs = pairs_of_new_content(old[8], custom)
                before = before or old[5]
                kept = old[5]
            number = next_version(before, pairs) if versioned else kept
            text = encode_pairs(pairs)
            if isinstance(content, bytes):
                layout, size, data = LAYOUT_INLINE, len(content), content
                where = add_small(tx, content)
            else:
                layout, size, data, where = LAYOUT_FILE, content.size, None, content.id
                add_file(tx, where, size, content.sums)
                tx.after(content.settle)
            tx.execute(
                INSERT_OBJECT,
                (*key, size, layout, where, checksum_type, checksum, number, now, now, text),
            )
            self.count_change(tx, bucket, old, size)
            row = ObjectRow(
                bucket.bid, name, size, layout, where, checksum_type, checksum, number, now, now, text, data
            )
            tx.after(lambda: self._now_current(key, row))
            return row

        return self.catalog.submit(change, None if isinstance(content, bytes) else content.abandon)

    def count_change(self, tx: Transaction, bucket: Bucket, old: Sequence[object] | None, size: int) -> None:
        """Count an object of `size` bytes that took the place of the row `old`, whose content is let go."""
        if old is None:
            tx.count(bucket.bid, 1, size)
            return
        old_size, layout, content = old[0], old[1], old[2]
        assert isinstance(old_size, int) and isinstance(layout, int) and isinstance(content, int)
        tx.count(bucket.bid, 0, size - old_size)
        if drop_reference(tx, layout, content):
            tx.after(self.content.remove_garbage)

    def _now_current(self, key: Key, row: ObjectRow) -> None:
        self.atimes.forget(key)
        if self.shared:  # by now another process may have replaced or deleted it
            self._rows.forget(key)
        else:
            self._rows.keep(key, row)

    def set_custom(self, bucket: Bucket, name: str, custom: dict[str, str], *, replace: bool) -> asyncio.Future[None]:
        """Add to the object's custom pairs, or replace them all. Raises `ObjectMissing`, `CustomTooLong`."""
        key = (bucket.bid, name)

        def change(tx: Transaction) -> None:
            old = tx.execute("SELECT custom FROM object WHERE bucket = ? AND name = ?", key).fetchone()
            if old is None:
                raise ObjectMissing(name)
            pairs = custom if replace or not old[0] else {**json.loads(old[0]), **custom}
            tx.execute("UPDATE object SET custom = ? WHERE bucket = ? AND name = ?", (encode_pairs(pairs), *key))
            tx.after(lambda: self._rows.forget(key))

        return self.catalog.submit(change)

    def delete(
        self, bucket: Bucket, names: Sequence[str], *, check: Callable[[Transaction], None] | None = None
    ) -> asyncio.Future[list[tuple[str, int]]]:
        """Delete objects; the future gives name and size of those that were there. `check` may refuse by raising."""

        def change(tx: Transaction) -> list[tuple[str, int]]:
            if check is not None:
                check(tx)
            deleted: list[tuple[str, int]] = []
            files = False
            for name in names:
                row = tx.execute(
                    "DELETE FROM object WHERE bucket = ? AND name = ? RETURNING size, layout, content",
                    (bucket.bid, name),
                ).fetchall()
                if not row:
                    continue
                size, layout, content = row[0]
                files = drop_reference(tx, layout, content) or files
                deleted.append((name, size))
            tx.count(bucket.bid, -len(deleted), -sum(size for _, size in deleted))
            if files:
                tx.after(self.content.remove_garbage)
            tx.after(lambda: self.forget(bucket, [name for name, _ in deleted]))
            return deleted

        return self.catalog.submit(change)

    def forget(self, bucket: Bucket, names: Iterable[str]) -> None:
        """Forget what is held in memory of objects, since they have changed."""
        for name in names:
            key = (bucket.bid, name)
            self._rows.forget(key)
            self.atimes.forget(key)

    # -- the disk ----------------------------------------------------------------------------------------------

    async def settle_garbage(self, at_most: float | None = None) -> None:
        """Wait until the files of what was deleted are gone, or so many seconds, and look at the room anew."""
        await self.content.settle_garbage(at_most)
        self._free.look_anew()

    def disk(self) -> tuple[int, int]:
        """Total and free bytes of the disk with the data folder."""
        usage = shutil.disk_usage(self.root)
        return usage.total, usage.free


_LOOKUP: Final = (
    f"SELECT o.{OBJECT_COLUMNS.replace(', ', ', o.')}, s.data FROM object o LEFT JOIN small s ON o.layout = 0 AND s.id = o.content"  # noqa: S608 (constants)
    " WHERE o.bucket = ? AND o.name = ?"
)
