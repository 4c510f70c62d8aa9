"""Uploads of objects in parts (protocol/20 15).

All parts of one size go to one file, each to its place, while they arrive side by side: in the end that file is the object's content, and
nothing has to be copied. What does not fit (a part that is sent again, one of another size) goes to a file of its own, and to its place when the
upload is completed. Files and parts are noted in the catalog, so that an upload survives restarts; one that nobody goes on with for a day is
removed.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import xxhash

from aistore.server.store.assembling import (
    Hashed,
    PartDamaged,
    Piece,
    checksum_of,
    copy_together,
    hash_on,
    put_in_place,
)
from aistore.server.store.completing import (
    PARTS,
    Part,
    PartsChanged,
    check_numbers,
    drop_upload,
    file_to_keep,
    own_file,
    pieces_of,
    put_row,
    require_upload,
)
from aistore.server.store.content import finished, full_or, in_thread
from aistore.server.store.errors import ContentDamaged, ContentMissing, TooManyUploads, UploadGone
from aistore.server.store.references import add_file, drop_reference, grow_file
from aistore.server.store.room import make_room
from aistore.server.store.rows import ObjectRow, encode_pairs, require_bucket
from aistore.server.store.schema import LAYOUT_CHUNKED, LAYOUT_FILE
from aistore.server.store.sync import sync_file
from aistore.wire.ids import new_job_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from aistore.server.store.catalog import Transaction
    from aistore.server.store.content import Upload
    from aistore.server.store.pieces import PieceSums
    from aistore.server.store.rows import Bucket
    from aistore.server.store.store import Store

__all__ = ["KEPT_SECONDS", "Elsewhere", "MultipartUploads", "PartWriter", "Started"]

KEPT_SECONDS: Final = 24 * 3600.0
"""Time after its last part after which an upload that was not completed is removed."""

_UPLOADS_MAX: Final = 10_000
"""Uploads under way in a bucket: names and metadata of each lie in the catalog, and are gone through by lists."""

_FURTHEST: Final = 8 << 40  # no file system has to hold a larger file; parts behind this have files of their own
_SESSIONS_MAX: Final = 1024


class Elsewhere(Protocol):
    """Where a bucket lives whose objects are only cached here."""

    def sent(self, name: str, path: Path) -> AbstractAsyncContextManager[tuple[str, Mapping[str, str]]]:
        """Store a file there as an object; its version and custom pairs, until whose commit nobody else writes the object."""
        ...


class Started(NamedTuple):
    """An upload that goes on."""

    name: str
    id: str
    started: int
    """Unix nanoseconds."""


class _Session:
    """What this process knows of an upload that it receives parts of; all of it can be done without."""

    __slots__ = ("completing", "file_lock", "hashed", "hashing", "lock", "writing")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.writing: set[int] = set()
        """Numbers of parts that are being written to their places."""
        self.completing = False
        self.hashed = Hashed()
        self.hashing: asyncio.Future[None] | None = None
        # The system lets one write at a time into a file, and those that wait for that burn a core each.
        self.file_lock = threading.Lock()


class PartWriter:
    """Takes a part's bytes; `store` makes them the part, or else `abandon` drops them."""

    __slots__ = ("_at", "_session", "_sum", "_uploads", "fd", "part", "shared", "upload_id")

    def __init__(
        self, uploads: MultipartUploads, session: _Session, upload_id: str, part: Part, fd: int, *, shared: bool
    ) -> None:
        self._uploads = uploads
        self._session = session
        self._at = part.start
        self._sum = xxhash.xxh3_64()
        self.upload_id = upload_id
        self.part = part
        self.fd = fd
        self.shared = shared
        """Whether other parts are in the same file."""

    def write(self, data: memoryview | bytes) -> None:
        """Write on (blocking). Raises `StoreFull`."""
        view = memoryview(data)
        self._sum.update(view)
        try:
            with self._session.file_lock:
                while view:
                    n = os.pwrite(self.fd, view, self._at)
                    self._at += n
                    view = view[n:]
        except OSError as error:
            raise full_or(error) from error

    def finish(self) -> None:
        """Under `strict`, make what was written survive power loss (blocking). Raises `StoreFull`."""
        try:
            if self._uploads.store.durability == "strict":
                sync_file(self.fd)
        except OSError as error:
            raise full_or(error) from error

    async def store(self, kind: str, tag: str = "") -> None:
        """Make what was written the part, in place of an earlier one; `kind` is the type of checksum that the object will have.

        Raises `UploadGone`, `StoreFull`.
        """
        await self._uploads.note_part(self.upload_id, self.part._replace(tag=tag, sum=self._sum.digest()))
        self._over()
        self._uploads.hash_on(self.upload_id, self._session, kind)

    async def abandon(self) -> None:
        """Drop what was written."""
        self._over()
        if not self.shared:
            await self._uploads.drop_file(self.upload_id, self.part.file)

    def _over(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._uploads.store.content.pending -= self.part.size
            if self.shared:
                self._session.writing.discard(self.part.number)


class MultipartUploads:
    """The uploads in parts of a data folder."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._sessions: dict[str, _Session] = {}

    # -- looking -----------------------------------------------------------------------------------------------

    def check(self, bucket: Bucket, name: str, upload_id: str) -> None:
        """Raise `UploadGone` unless there is such an upload of this object; `elsewhere` of it says that it is another object's."""
        row = self.store.catalog.read("SELECT bucket, name FROM upload WHERE id = ?", (upload_id,)).fetchone()
        if row != (bucket.bid, name):
            raise UploadGone(upload_id, elsewhere=row is not None)

    def pairs(self, upload_id: str) -> dict[str, str]:
        """The custom pairs that an upload was started with."""
        row = self.store.catalog.read("SELECT custom FROM upload WHERE id = ?", (upload_id,)).fetchone()
        return json.loads(row[0]) if row is not None and row[0] else {}

    def of_bucket(self, bucket: Bucket, prefix: str, after: tuple[str, str], limit: int) -> list[Started]:
        """So many uploads of a bucket's objects with a prefix, by names and ids, behind a name and an id (without one: behind all of that name)."""
        rows = self.store.catalog.read(_LIST, (bucket.bid, prefix, *after, limit)).fetchall()
        return [Started(*row) for row in rows]

    def parts(self, upload_id: str) -> list[Part]:
        """Parts that are there, by their numbers."""
        rows = self.store.catalog.read(PARTS, (upload_id,)).fetchall()
        return [Part(*row) for row in rows]

    def chunks(self, row: ObjectRow) -> tuple[int, int]:
        """Number of parts that an object was uploaded in, and the size of the largest; zeros for others."""
        if row.layout != LAYOUT_CHUNKED:
            return 0, 0
        found = self.store.catalog.read(
            "SELECT count, largest FROM chunks WHERE content = ?", (row.content,)
        ).fetchone()
        return (found[0], found[1]) if found else (0, 0)

    # -- parts -------------------------------------------------------------------------------------------------

    async def begin(self, bucket: Bucket, name: str, custom: Mapping[str, str] | None = None) -> str:
        """Start an upload of an object; its id. `custom` is kept with it. Raises `BucketGone`, `StoreFull`, `CustomTooLong`, `TooManyUploads`."""
        upload_id = new_job_id()
        now, text = time.time_ns(), encode_pairs(custom)

        def change(tx: Transaction) -> None:
            require_bucket(tx, bucket)
            if tx.execute(_LAST, (bucket.bid, _UPLOADS_MAX - 1)).fetchone():
                raise TooManyUploads(
                    f"{_UPLOADS_MAX} uploads in parts are under way in {bucket.id.cname}: complete or abort some"
                )
            tx.execute("INSERT INTO upload VALUES (?, ?, ?, ?, ?, ?)", (upload_id, bucket.bid, name, now, now, text))

        await self.store.catalog.submit(change)
        return upload_id

    async def open_part(self, upload_id: str, number: int, size: int) -> PartWriter:
        """Get ready to write a part of `size` bytes. Raises `UploadGone`, `StoreFull`."""
        session = self._session(upload_id)
        self.store.content.pending += size
        placed = False
        try:
            async with session.lock:
                part, placed = await self._place(session, upload_id, number, size)
                if placed:
                    session.writing.add(number)
            fd = self._open_place(upload_id, part.file) if placed else -1
            if fd < 0:
                if placed:
                    placed = False
                    session.writing.discard(number)
                    part = Part(number, await self._new_file(upload_id, 0), 0, size)
                fd = os.open(self.store.content.path(part.file), os.O_RDWR | os.O_CLOEXEC)
        except BaseException as error:
            self.store.content.pending -= size
            if placed:
                session.writing.discard(number)
            if isinstance(error, FileNotFoundError):  # aborted or completed at this moment
                raise UploadGone(upload_id) from error
            raise
        return PartWriter(self, session, upload_id, part, fd, shared=placed)

    async def _place(self, session: _Session, upload_id: str, number: int, size: int) -> tuple[Part, bool]:
        """Where a part goes, and whether that is its place among others."""
        catalog = self.store.catalog
        if not session.completing and number not in session.writing and (number - 1) * size < _FURTHEST:
            there = catalog.read("SELECT 1 FROM part WHERE upload = ? AND number = ?", (upload_id, number)).fetchone()
            if there is None:
                main = catalog.read(_MAIN, (upload_id,)).fetchone()
                if main is None or (size > main[1] and self._may_start_over(session, upload_id, main[0])):
                    # The first one to arrive may have been the last one, which is smaller.
                    main = await self._new_file(upload_id, size), size
                if size <= main[1]:
                    return Part(number, main[0], (number - 1) * main[1], size), True
        return Part(number, await self._new_file(upload_id, 0), 0, size), False

    def _open_place(self, upload_id: str, file: int) -> int:
        """A descriptor of a file that others write to, too; -1 while another process completes the upload. Raises `UploadGone`, `OSError`."""
        fd = os.open(self.store.content.path(file), os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            sql = "SELECT 1 FROM upload_file WHERE id = ? AND upload = ?"
            if self.store.catalog.read(sql, (file, upload_id)).fetchone() is None:  # it is an object's content by now
                raise UploadGone(upload_id)  # noqa: TRY301 (one way out)
        except BlockingIOError:
            os.close(fd)
            return -1
        except BaseException:
            os.close(fd)
            raise
        return fd

    @contextmanager
    def _alone(self, file: int | None) -> Iterator[bool]:
        """Keep everybody else from writing to a file; False if somebody does, in whatever process, or if it is gone."""
        fd, alone = -1, False
        try:
            if file is not None:
                with suppress(FileNotFoundError, BlockingIOError):
                    fd = os.open(self.store.content.path(file), os.O_RDONLY | os.O_CLOEXEC)
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    alone = True
            yield alone
        finally:
            if fd >= 0:
                os.close(fd)

    def _may_start_over(self, session: _Session, upload_id: str, file: int) -> bool:
        rows = self.store.catalog.read("SELECT count(*) FROM part WHERE upload = ? AND file = ?", (upload_id, file))
        count: int = rows.fetchone()[0]
        return count + len(session.writing) <= 1

    async def _new_file(self, upload_id: str, part_size: int) -> int:
        """Make a file of the upload, and note it."""
        made = await self.store.content.create()
        try:
            await in_thread(made.finish)
        except BaseException:
            made.abandon()
            raise

        def change(tx: Transaction) -> None:
            require_upload(tx, upload_id)
            add_file(tx, made.id, 0)
            tx.execute("INSERT INTO upload_file VALUES (?, ?, ?)", (made.id, upload_id, part_size))
            tx.after(made.settle)

        await self.store.catalog.submit(change, made.abandon)
        return made.id

    def note_part(self, upload_id: str, part: Part) -> asyncio.Future[None]:
        """Make what was written to a place the part of its number."""

        def change(tx: Transaction) -> None:
            require_upload(tx, upload_id)
            old = tx.execute(
                "SELECT file, size FROM part WHERE upload = ? AND number = ?", (upload_id, part.number)
            ).fetchone()
            if old is not None and not self._drop_own(tx, old[0]):
                grow_file(tx, old[0], -old[1])
            tx.execute("INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?, ?)", (upload_id, *part))
            grow_file(tx, part.file, part.size)
            tx.execute("UPDATE upload SET changed = ? WHERE id = ?", (time.time_ns(), upload_id))
            tx.after(self.store.content.remove_garbage)

        return self.store.catalog.submit(change)

    def drop_file(self, upload_id: str, file: int) -> asyncio.Future[bool]:
        """Drop a file of a single part, unless that was noted: who waited for it may have been cancelled."""

        def change(tx: Transaction) -> bool:
            if tx.execute("SELECT 1 FROM part WHERE upload = ? AND file = ?", (upload_id, file)).fetchone():
                return False
            tx.after(self.store.content.remove_garbage)
            return self._drop_own(tx, file)

        return self.store.catalog.submit(change)

    @staticmethod
    def _drop_own(tx: Transaction, file: int) -> bool:
        own = tx.execute("DELETE FROM upload_file WHERE id = ? AND part_size = 0", (file,)).rowcount > 0
        if own:
            drop_reference(tx, LAYOUT_FILE, file)
        return own

    def _session(self, upload_id: str) -> _Session:
        found = self._sessions.get(upload_id)
        if found is None:
            if len(self._sessions) >= _SESSIONS_MAX:
                quiet = [key for key, one in self._sessions.items() if not one.writing and not one.completing]
                for key in quiet[: _SESSIONS_MAX // 2]:
                    del self._sessions[key]
            found = self._sessions[upload_id] = _Session()
        return found

    # -- checksum ----------------------------------------------------------------------------------------------

    def hash_on(self, upload_id: str, session: _Session, kind: str) -> None:
        """Go on with the checksum of the parts that are there from the first one on, so that little is left to do in the end."""
        hashed = session.hashed
        if session.completing or (session.hashing is not None and not session.hashing.done()) or not hashed.begin(kind):
            return
        first = len(hashed.pieces) + 1
        pieces: list[Piece] = []
        for number, file, start, size, known in self.store.catalog.read(_NEXT, (upload_id, first)).fetchall():
            if number != first + len(pieces):
                break
            pieces.append(Piece(file, start, 0, size, known))
        if pieces:
            session.hashing = asyncio.ensure_future(self._hash_on(upload_id, session, pieces, kind))

    async def _hash_on(self, upload_id: str, session: _Session, pieces: list[Piece], kind: str) -> None:
        try:
            await in_thread(hash_on, self.store.content, session.hashed, pieces)
        except OSError:  # replaced or aborted meanwhile; if it matters, completing finds out
            session.hashed = Hashed()
            return
        if self._sessions.get(upload_id) is session:
            asyncio.get_running_loop().call_soon(self.hash_on, upload_id, session, kind)

    async def close(self) -> None:
        """Wait for what runs in threads."""
        hashing = [session.hashing for session in self._sessions.values() if session.hashing is not None]
        self._sessions.clear()
        if hashing:
            await asyncio.wait(hashing)

    # -- the end -----------------------------------------------------------------------------------------------

    async def complete(
        self,
        bucket: Bucket,
        name: str,
        upload_id: str,
        numbers: Sequence[int] | None,
        kind: str,
        *,
        versioned: bool,
        elsewhere: Elsewhere | None = None,
        describe: Callable[[Sequence[Part]], Mapping[str, str]] | None = None,
    ) -> ObjectRow:
        """Make the object of all parts, `numbers` of which have to be those that are there; `kind` is the type of its checksum.

        With `elsewhere` the object is stored there before it is one here. `describe` gives the custom pairs that an object of these parts
        has (those of `elsewhere` go before), and may refuse them by raising. Raises `PartsRefused`, `UploadGone`, `BucketGone`, `StoreFull`,
        `ContentDamaged`, and what `elsewhere` does; the upload then stays as it is.
        """
        self.check(bucket, name, upload_id)
        session = self._session(upload_id)
        async with session.lock:
            session.completing = True
            try:
                row = None
                while row is None:
                    parts = self.parts(upload_id)
                    check_numbers(parts, numbers)
                    pairs = None if describe is None else describe(parts)
                    row = await self._complete(
                        session, bucket, name, upload_id, parts, kind, elsewhere, pairs, versioned=versioned
                    )
            finally:
                session.completing = False
        self._sessions.pop(upload_id, None)
        return row

    async def _complete(
        self,
        session: _Session,
        bucket: Bucket,
        name: str,
        upload_id: str,
        parts: list[Part],
        kind: str,
        elsewhere: Elsewhere | None,
        pairs: Mapping[str, str] | None,
        *,
        versioned: bool,
    ) -> ObjectRow | None:
        """Bring the parts into one file and make that the object's content; None if there are other parts meanwhile."""
        if session.hashing is not None:
            await asyncio.wait((session.hashing,))
        content = self.store.content
        pieces = pieces_of(parts)
        size = sum(part.size for part in parts)
        # Whoever still writes to a place in the file must not write to an object's content.
        kept = None if session.writing else file_to_keep(pieces)
        with self._alone(kept) as alone:
            file = kept if alone else None
            made: Upload | None = None
            try:
                if file is None:
                    await make_room(self.store, size)
                    made = await content.create(size)
                    file = made.id
                    await in_thread(copy_together, content, made, pieces)
                else:
                    await in_thread(put_in_place, content, file, pieces)
                # It is used up: should the upload be completed in another attempt, that begins anew.
                hashed, session.hashed = session.hashed, Hashed()
                checksum, sums = await in_thread(checksum_of, content, file, pieces, hashed, kind)
                if elsewhere is not None:
                    async with elsewhere.sent(name, content.path(file)) as (version, custom):
                        return await self._commit(
                            bucket, name, upload_id, parts, (file, made, sums), (kind, checksum), version, custom,
                            versioned=version != "",
                        )  # fmt: skip
            except BaseException as error:
                if made is not None:
                    made.abandon()
                if isinstance(error, (FileNotFoundError, PartDamaged)):  # a part was replaced, or the upload aborted
                    self.check(bucket, name, upload_id)
                    if self.parts(upload_id) != parts:
                        return None
                    if isinstance(error, PartDamaged):
                        raise ContentDamaged(f"upload {upload_id}: {error}", bucket.bid, name) from error
                    raise ContentMissing(f"content {error.filename} is missing from the data folder") from error
                raise
            return await self._commit(
                bucket, name, upload_id, parts, (file, made, sums), (kind, checksum), "", pairs, versioned=versioned
            )

    async def _commit(
        self,
        bucket: Bucket,
        name: str,
        upload_id: str,
        parts: list[Part],
        content: tuple[int, Upload | None, PieceSums],
        checksum: tuple[str, str],
        version: str,
        custom: Mapping[str, str] | None,
        *,
        versioned: bool,
    ) -> ObjectRow | None:
        """Make a file the object's content, in place of the upload; None if there are other parts meanwhile."""
        file, made, sums = content
        size = sum(part.size for part in parts)

        def change(tx: Transaction) -> ObjectRow:
            require_bucket(tx, bucket)
            started = require_upload(tx, upload_id)
            if [Part(*found) for found in tx.execute(PARTS, (upload_id,))] != parts:
                raise PartsChanged
            own_file(tx, file, made, parts, sums)
            row = put_row(
                tx, self.store, bucket, name, (file, size), checksum, started,
                custom=custom, counted_from=version, versioned=versioned,
            )  # fmt: skip
            drop_upload(tx, upload_id)
            tx.after(self.store.content.remove_garbage)
            return row

        try:
            # It is made whatever happens to who waits, and then the new file is the object's.
            return await finished(self.store.catalog.submit(change, None if made is None else made.abandon))
        except PartsChanged:
            return None

    def abort(self, bucket: Bucket, name: str, upload_id: str) -> asyncio.Future[None]:
        """Give an upload up. Raises `UploadGone`."""
        self.check(bucket, name, upload_id)
        return self._give_up(upload_id, None)

    async def remove_stale(self) -> None:
        """Remove uploads that nobody has gone on with for `KEPT_SECONDS`."""
        limit = time.time_ns() - int(KEPT_SECONDS * 1e9)
        for (upload_id,) in self.store.catalog.read("SELECT id FROM upload WHERE changed < ?", (limit,)).fetchall():
            session = self._sessions.get(upload_id)
            if session is None or not (session.writing or session.completing):
                with suppress(UploadGone):
                    await self._give_up(upload_id, limit)

    def _give_up(self, upload_id: str, limit: int | None) -> asyncio.Future[None]:
        """Drop an upload, with a limit only if it was not changed since."""

        def change(tx: Transaction) -> None:
            require_upload(tx, upload_id)
            sql = "SELECT 1 FROM upload WHERE id = ? AND changed > ?"
            if limit is not None and tx.execute(sql, (upload_id, limit)).fetchone():
                return
            drop_upload(tx, upload_id)
            tx.after(lambda: self._sessions.pop(upload_id, None))
            tx.after(self.store.content.remove_garbage)

        return self.store.catalog.submit(change)


_LAST: Final = "SELECT 1 FROM upload WHERE bucket = ? LIMIT 1 OFFSET ?"
_LIST: Final = (
    "SELECT name, id, started FROM upload WHERE bucket = ?1 AND substr(name, 1, length(?2)) = ?2 "
    "AND (name > ?3 OR (name = ?3 AND ?4 != '' AND id > ?4)) ORDER BY name, id LIMIT ?5"
)
_NEXT: Final = (
    "SELECT number, file, start, size, sum FROM part WHERE upload = ? AND number >= ? ORDER BY number LIMIT 16"
)
_MAIN: Final = (
    "SELECT id, part_size FROM upload_file WHERE upload = ? AND part_size > 0 ORDER BY part_size DESC LIMIT 1"
)
