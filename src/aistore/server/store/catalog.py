"""The catalog: one writer with group commit, and readers.

Changes are functions that get a `Transaction`. Those that arrive while a commit is under way share the next one, so that the price of
making a commit durable is paid once for all of them. A change may raise: it alone is refused. If it had written something by then, the
others of its batch run once more without it, so a change must do nothing but use its transaction. Only what goes wrong with the
catalog itself (disk full, say) fails a whole batch, and the next batch finds a usable writer.

A commit that fails for another reason than a full disk is the last: what it wrote may lie in the log, whole, or not, and the system
does not say again that writing to the disk has failed. So files that belong to it stay where they are, nothing more is changed, and
the next start finds out what there is.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from aistore.server.store.errors import StoreBroken, StoreClosed, StoreFull
from aistore.server.store.reserve import Reserve
from aistore.server.store.schema import BUSY_TIMEOUT, Durability, connect, means_full_disk
from aistore.server.store.sync import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future
    from pathlib import Path

__all__ = ["STORED", "Catalog", "Transaction"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

STORED: Final = 0
"""Number that stands for a bucket in totals, where they are those of what is stored: content that objects share counts once."""

_CHECKPOINT_BYTES: Final = 16 << 20  # log size at which a checkpoint starts; less on a small disk
_CHECKPOINT_SHARE: Final = 16  # at most this part of the disk
_CHECKPOINT_EVERY: Final = 32  # commits between two looks at it
_CHECKPOINT_BEHIND: Final = 2
_CHECKPOINT_WAIT: Final = 10.0  # seconds that changes wait for a checkpoint that does not keep up with them
_CATCH_UP_WAIT: Final = 100  # milliseconds that a checkpoint waits for readers before it leaves it to the next one


class Transaction:
    """What a change sees: the writer's connection, and what has to follow the commit."""

    __slots__ = ("_after", "_gone", "_usage", "db", "execute", "executemany")

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.execute = db.execute
        self.executemany = db.executemany
        self._after: list[Callable[[], object]] = []
        self._usage: dict[int, list[int]] = {}
        self._gone: set[int] = set()

    def after(self, action: Callable[[], object]) -> None:
        """Call `action` (on the loop) once the batch is committed, before anybody learns of it."""
        self._after.append(action)

    def count(self, bucket: int, objects: int, size: int) -> None:
        """Change a bucket's totals (`STORED`: those of what is stored); one row is written for all changes of a batch."""
        totals = self._usage.get(bucket)
        if totals is None:
            self._usage[bucket] = [objects, size]
        else:
            totals[0] += objects
            totals[1] += size

    def forget_totals(self, bucket: int) -> None:
        """The bucket is gone, with whatever the batch counted or will count."""
        self._gone.add(bucket)

    def write_usage(self) -> None:
        """Write the totals that `count` collected (called once, at the end of a batch)."""
        for bucket in self._gone:
            self.execute("DELETE FROM usage WHERE bucket = ?", (bucket,))
        for bucket, (objects, size) in self._usage.items():
            if bucket in self._gone:
                continue
            self.execute(
                "INSERT INTO usage VALUES (?, ?, ?) ON CONFLICT (bucket)"
                " DO UPDATE SET objects = objects + excluded.objects, bytes = bytes + excluded.bytes",
                (bucket, objects, size),
            )

    @property
    def totals(self) -> tuple[int, int]:
        """Objects that the batch adds over all buckets, and bytes that it stores."""
        return sum(t[0] for bucket, t in self._usage.items() if bucket != STORED), self._usage.get(STORED, (0, 0))[1]


class Catalog:
    """The SQLite database of a data folder.

    `shared` says that other processes write to it as well: then a batch runs in the writer's thread, since it may have to wait for
    their lock. Otherwise changes run on the loop, and only a durable commit leaves it.
    """

    def __init__(self, path: Path, durability: Durability, *, shared: bool = False) -> None:
        self.path = path
        self.durability: Durability = durability
        self._shared = shared
        self._checkpoint_bytes = min(_CHECKPOINT_BYTES, shutil.disk_usage(path.parent).total // _CHECKPOINT_SHARE)
        self._writer = connect(path, durability)
        try:
            self._reader = connect(path, durability, readonly=True)
        except BaseException:
            self._writer.close()
            raise
        self.reserve = Reserve(path.parent)
        self._readers = threading.local()
        self._reader_list: list[sqlite3.Connection] = []
        self._thread = ThreadPoolExecutor(1, "catalog-writer")
        self._queue: list[_Entry] = []
        self._scheduled = False
        self.commits = 0
        """Number of batches so far."""
        self.changes = 0
        """Number of changes in them."""
        self.commit_seconds = 0.0
        """How long their commits took: in mode `strict` mostly waiting for the disk."""
        self._checkpointing = False
        self._checkpoint_work: Future[None] | None = None
        self._log = path.with_name(path.name + "-wal")
        self._log_seen = 0
        self._catch_up_due = False
        self._checkpoint_thread = ThreadPoolExecutor(1, "catalog-checkpoint")
        self._on_commit: Callable[[int, int], None] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._closing = False
        self._closed = False
        self._broken = ""

    @property
    def broken(self) -> bool:
        """Whether a commit failed, so that what it wrote may be found by the next start, or not."""
        return bool(self._broken)

    def on_commit(self, action: Callable[[int, int], None]) -> None:
        """Call `action(objects, bytes)` with what each committed batch added."""
        self._on_commit = action

    # -- reading -----------------------------------------------------------------------------------------------

    def read(self, sql: str, parameters: tuple[object, ...] = ()) -> sqlite3.Cursor:
        """Run a short query on the loop's own connection; it sees all that is committed."""
        return self._reader.execute(sql, parameters)

    def meta(self, key: str) -> str | None:
        """What is kept under a key besides buckets and objects: ids, the cluster map, configuration."""
        row: tuple[str] | None = self._reader.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def set_meta(self, values: Mapping[str, str]) -> asyncio.Future[None]:
        """Keep values under their keys."""

        def change(tx: Transaction) -> None:
            tx.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

        return self.submit(change)

    def buckets_made(self) -> int:
        """How many buckets there ever were."""
        row: tuple[int] | None = self._reader.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'bucket'"
        ).fetchone()
        return row[0] if row else 0

    def data_version(self) -> int:
        """A number that changes when another connection has changed the catalog."""
        return cast("int", self._reader.execute("PRAGMA data_version").fetchone()[0])

    def unused(self) -> int:
        """Bytes within the database's file that new rows can use."""
        pages, size = (self._reader.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size"))
        return cast("int", pages * size)

    def thread_reader(self) -> sqlite3.Connection:
        """A read-only connection of the calling thread, for scans that must not hold up the loop."""
        db: sqlite3.Connection | None = getattr(self._readers, "db", None)
        if db is None:
            db = connect(self.path, self.durability, readonly=True)
            self._readers.db = db
            self._reader_list.append(db)
        return db

    # -- writing -----------------------------------------------------------------------------------------------

    def submit(self, change: Callable[[Transaction], T], undo: Callable[[], None] | None = None) -> asyncio.Future[T]:
        """Queue a change; the future is done when it is committed, or has its exception.

        `undo` is called (on the loop) if the change is not made. Whoever waits may be cancelled: the change is made all the same.
        """
        if self._broken:
            if undo is not None:
                undo()
            raise StoreBroken(self._broken)
        if self._closed:
            raise StoreClosed("the store is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.append((change, future, undo))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush)
        return future

    def _flush(self) -> None:
        queue, self._queue = self._queue, []
        if self._shared:
            work = self._thread.submit(self._run_and_commit, queue)
        else:
            batch = self._run(queue)
            if self.durability == "relaxed":
                self._commit(batch)
                self._committed(batch)
                return
            work = self._thread.submit(self._commit, batch)
        loop = asyncio.get_running_loop()

        def done(work: Future[_Batch]) -> None:
            loop.call_soon_threadsafe(self._committed, work.result())

        work.add_done_callback(done)

    def _run_and_commit(self, queue: list[_Entry]) -> _Batch:
        return self._commit(self._run(queue))

    def _run(self, queue: list[_Entry]) -> _Batch:
        """Begin a transaction and run the changes in it."""
        batch = _Batch(queue, Transaction(self._writer))
        try:
            while not self._attempt(batch):
                self._rollback()
        except BaseException as error:
            batch.failure = error
        return batch

    def _attempt(self, batch: _Batch) -> bool:
        """Run the batch's changes; False if one failed half-way: then it is out, and the others have to run again."""
        writer = self._writer
        if writer.in_transaction:  # an earlier rollback failed
            writer.execute("ROLLBACK")
        tx = batch.transaction = Transaction(writer)
        batch.results = []
        writer.execute("BEGIN IMMEDIATE")
        for change, future, undo in batch.queue:
            if batch.refused and future in batch.refused:
                continue
            written, followed = writer.total_changes, len(tx._after)
            try:
                batch.results.append((future, change(tx)))
            except Exception as error:
                if _is_of_the_catalog(error):
                    raise
                batch.refused[future] = error, undo
                if writer.total_changes != written or len(tx._after) != followed:
                    return False
        tx.write_usage()
        return True

    def _commit(self, batch: _Batch) -> _Batch:
        try:
            if batch.failure is None:
                batch.committing = True
                began = perf_counter()
                self._writer.execute("COMMIT")
                self.commit_seconds += perf_counter() - began
        except BaseException as error:
            batch.failure = error
        if batch.failure is not None:
            self._rollback()
        return batch

    def _rollback(self) -> None:
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error:
            logger.exception("cannot undo a failed change of the catalog; the next one tries again")

    def _committed(self, batch: _Batch) -> None:
        """Tell everybody, then go on with what has queued up."""
        if batch.failure is not None:
            error = self._translate(batch.failure)
            if isinstance(error, StoreFull):
                self._start_checkpoint()  # what the log holds can be written over once it is in the database
                if self.reserve.give_up():
                    self._queue[:0] = batch.queue  # once more
                    self._next()
                    return
            elif batch.committing:
                self._break(batch, error)
                batch.queue = []
            for _, future, undo in batch.queue:
                _refuse(future, error, undo)
        else:
            for action in batch.transaction._after:
                _call(action)
            if self._on_commit is not None:
                self._on_commit(*batch.transaction.totals)
            for future, result in batch.results:
                if not future.done():  # else whoever waited was cancelled
                    future.set_result(result)
            for future, (reason, undo) in batch.refused.items():
                _refuse(future, reason, undo)
        self.commits += 1
        self.changes += len(batch.results)
        if self.commits % _CHECKPOINT_EVERY == 0:
            self._checkpoint_if_large()
        if self._catch_up_due:
            self._catch_up_due = False
            loop = asyncio.get_running_loop()
            work = self._thread.submit(self._catch_up)
            work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._next))
        else:
            self._next()

    def _break(self, batch: _Batch, error: BaseException) -> None:
        """A commit failed, and may be found all the same after a crash: change nothing any more."""
        self._broken = (
            f"the disk failed to keep a change of {self.path} ({error}), so nothing more is written and acknowledged:"
            " see to the disk, then start the server again"
        )
        logger.critical(self._broken)
        for _, future, undo in (*batch.queue, *self._queue):
            _refuse(future, StoreBroken(self._broken), undo)
        self._queue = []

    def _next(self) -> None:
        if self._queue:
            asyncio.get_running_loop().call_soon(self._flush)
        else:
            self._scheduled = False
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)

    def _translate(self, error: BaseException) -> BaseException:
        """`StoreFull` for what means a full disk."""
        if means_full_disk(error, self.path.parent):
            full = StoreFull("the disk with the data folder is full")
            full.__cause__ = error
            return full
        return error

    # -- upkeep ------------------------------------------------------------------------------------------------

    def _checkpoint_if_large(self) -> None:
        # The file keeps its size when the log starts over: that it grows again tells that it is full again.
        size = self._log_size()
        if size >= max(self._checkpoint_bytes, self._log_seen + 1):
            self._start_checkpoint()
            if size > _CHECKPOINT_BEHIND * self._checkpoint_bytes:
                self._catch_up_due = True  # changes wait for the checkpoint: it does not keep up with them

    def _log_size(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:
            return 0

    def _start_checkpoint(self) -> None:
        if not self._checkpointing:
            self._checkpointing = True
            self._checkpoint_work = self._checkpoint_thread.submit(self._checkpoint)

    def _checkpoint(self) -> None:
        """Bring what is in the log into the database, beside the writer."""
        try:
            with closing(connect(self.path, self.durability)) as db:
                db.execute("PRAGMA busy_timeout=0")
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._catch_up_due = True
        except sqlite3.Error as error:
            logger.warning("checkpoint of the catalog failed, will be tried again: %s", error)
        finally:
            self._checkpointing = False

    def _catch_up(self) -> None:
        """Bring the little that came meanwhile into the database, between two batches.

        The log starts over only when nothing in it is left to do. A checkpoint beside a busy writer never gets there, and the log
        would grow without end.
        """
        if self._checkpoint_work is not None:  # SQLite waits for readers, but not for another checkpoint
            wait([self._checkpoint_work], _CHECKPOINT_WAIT)
        try:
            self._writer.execute(f"PRAGMA busy_timeout={_CATCH_UP_WAIT}")
            mode = "TRUNCATE" if self._log_size() > _CHECKPOINT_BEHIND * self._checkpoint_bytes else "RESTART"
            self._writer.execute(f"PRAGMA wal_checkpoint({mode})")
            self._log_seen = self._log_size()
        except sqlite3.Error as error:
            logger.warning("checkpoint of the catalog failed, will be tried again: %s", error)
        finally:
            self._writer.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT}")

    def back_up(self, target: Path) -> None:
        """Copy the catalog aside (in the calling thread), in steps that let other threads run."""
        part = target.with_name(target.name + ".part")
        part.unlink(missing_ok=True)
        try:
            with closing(connect(self.path, self.durability, readonly=True)) as source:
                # Without a read transaction around it, each change would make the copy start over: under load it would never end.
                source.execute("BEGIN")
                source.execute("SELECT 1 FROM meta").fetchone()
                with closing(sqlite3.connect(part)) as copy:
                    source.backup(copy, pages=2048, sleep=0.001, progress=self._go_on)
            part.replace(target)
            if self.durability == "strict":
                sync_folder(target.parent)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def _go_on(self, _status: int, _left: int, _total: int) -> None:
        if self._closing:
            raise StoreClosed("the copy of the catalog was given up: the store closes")

    def prepare_to_close(self) -> None:
        """Give up what would hold up `close`."""
        self._closing = True

    async def close(self) -> None:
        """Finish what is queued, fold the log into the database, close all connections."""
        self._closed = True
        while self._scheduled:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        self._thread.shutdown(wait=True)
        self._checkpoint_thread.shutdown(wait=True)
        for db in self._reader_list:
            db.close()
        self._reader.close()
        try:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            logger.warning("last checkpoint of the catalog failed; the next start makes up for it: %s", error)
        self._writer.close()


_Entry = tuple["Callable[[Transaction], Any]", "asyncio.Future[Any]", "Callable[[], None] | None"]


class _Batch:
    """Changes that share a commit, and what came of them."""

    __slots__ = ("committing", "failure", "queue", "refused", "results", "transaction")

    def __init__(self, queue: list[_Entry], transaction: Transaction) -> None:
        self.queue = queue
        self.transaction = transaction
        self.results: list[tuple[asyncio.Future[Any], Any]] = []
        self.refused: dict[asyncio.Future[Any], tuple[Exception, Callable[[], None] | None]] = {}
        self.failure: BaseException | None = None
        self.committing = False
        """Whether the changes were made, and only their commit can have failed."""


def _is_of_the_catalog(error: Exception) -> bool:
    """Whether an error says something about the catalog and not about the change that met it."""
    return isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError


def _refuse(future: asyncio.Future[Any], error: BaseException, undo: Callable[[], None] | None) -> None:
    if undo is not None:
        _call(undo)
    if not future.done():
        if isinstance(error, StopIteration) or not isinstance(error, Exception):  # a future cannot hold these
            error = RuntimeError(f"the change was broken off: {error!r}")
        future.set_exception(error)


def _call(action: Callable[[], object]) -> None:
    """A follow-up that fails must not keep the others of its batch from learning what became of them."""
    try:
        action()
    except Exception:
        logger.exception("what should follow a change of the catalog failed")
