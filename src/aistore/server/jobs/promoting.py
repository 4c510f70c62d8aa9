"""Files of this machine that become objects (protocol/20 12)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from aistore.server.store.content import full_or, in_thread
from aistore.server.store.errors import StoreError
from aistore.server.store.room import make_room
from aistore.server.store.schema import INLINE_MAX
from aistore.wire.checksum import digest, new_hasher
from aistore.wire.errors import ApiError
from aistore.wire.names import check_object_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aistore.server.jobs.promote_root import PromoteRoot
    from aistore.server.jobs.registry import Job
    from aistore.server.store.content import Upload
    from aistore.server.store.rows import Bucket, ObjectRow
    from aistore.server.store.store import Store

__all__ = ["Elsewhere", "Promotion"]

_PIECE: Final = 1 << 20


class _Exists(StoreError):
    """The object is there, and is not to be replaced."""


class Elsewhere(Protocol):
    """The backend of a remote bucket that files are promoted into. Both methods raise `ApiError`."""

    async def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        ...

    async def put(self, name: str, content: bytes | Upload, checksum: tuple[str, str]) -> object:
        """Store an object there and in the cache; an upload belongs to the store then."""
        ...


class Promotion(NamedTuple):
    """What a request asks for."""

    store: Store
    bucket: Bucket
    root: PromoteRoot
    checksum: str
    """Type of checksum of the bucket's objects."""
    versioned: bool
    prefix: str
    """What the names of the objects begin with."""
    overwrite: bool
    delete_source: bool
    elsewhere: Elsewhere | None = None
    """Where the bucket lives, if that is not here."""

    async def all(self, files: Sequence[tuple[str, str]], job: Job | None = None) -> None:
        """Make objects of files: paths, and what their objects are called behind the prefix. Errors of a file are those of the `job`."""
        for path, name in files:
            try:
                size = await self.one(path, self.prefix + name)
            except (ApiError, OSError) as error:
                if job is None:
                    raise
                job.failed(error.message if isinstance(error, ApiError) else str(error))
                continue
            if job is not None and size is not None:
                job.done(1, size)

    async def one(self, path: str, name: str) -> int | None:
        """Make an object of a file; its size, None if there is such an object that is not to be replaced.

        Raises `ApiError` for a bad name, `OSError`, `StoreFull`, `BucketGone`.
        """
        name = check_object_name(name)
        size: int | None = None
        taken: os.stat_result | None = None
        if self.overwrite or not await self._is_there(name):
            content, checksum, taken = await self._take(path)
            size = len(content) if isinstance(content, bytes) else content.size
            try:
                if self.elsewhere is not None:
                    await self.elsewhere.put(name, content, (self.checksum, checksum))
                else:
                    await self._put(name, content, checksum)
            except _Exists:
                size = None
        # The file of an object that was left alone may hold what is nowhere else; the reference deletes that, too.
        if self.delete_source:
            if size is None:
                taken = await self._status_if_stored(path, name)
            if taken is not None:
                await in_thread(self.root.remove, path, taken)
        return size

    async def _status_if_stored(self, path: str, name: str) -> os.stat_result | None:
        row = self.store.lookup(self.bucket, name)
        if row is None or not row.checksum:
            return None
        return await in_thread(_status_if_stored, self.root, path, row)

    async def _is_there(self, name: str) -> bool:
        if self.store.lookup(self.bucket, name) is not None:
            return True
        return self.elsewhere is not None and await self.elsewhere.exists(name)

    async def _put(self, name: str, content: bytes | Upload, checksum: str) -> None:
        await self.store.put(
            self.bucket, name, content, self.checksum, checksum, versioned=self.versioned, check=self._check
        )

    def _check(self, old: ObjectRow | None) -> None:
        if old is not None and not self.overwrite:
            raise _Exists(old.name)

    async def _take(self, path: str) -> tuple[bytes | Upload, str, os.stat_result]:
        """Content and checksum of a file, and what it was."""
        fd, status = await in_thread(self.root.open, path)
        try:
            size = status.st_size
            await make_room(self.store, size, in_catalog=size <= INLINE_MAX)
            if size <= INLINE_MAX:
                data = await in_thread(os.pread, fd, INLINE_MAX + 1, 0)
                if len(data) <= INLINE_MAX:
                    return data, digest(self.checksum, data), status
            upload = await self.store.content.create(size)
            try:
                return upload, await in_thread(_copy, fd, upload, self.checksum), status
            except BaseException:
                upload.abandon()
                raise
        finally:
            os.close(fd)


def _copy(fd: int, upload: Upload, kind: str) -> str:
    """Copy a file to a content file; its checksum."""
    hasher = new_hasher(kind)
    try:
        while piece := os.read(fd, _PIECE):
            upload.write(piece)
            if hasher is not None:
                hasher.update(piece)
    except OSError as error:
        raise full_or(error) from error
    upload.finish()
    return hasher.hexdigest() if hasher is not None else ""


def _status_if_stored(root: PromoteRoot, path: str, row: ObjectRow) -> os.stat_result | None:
    """The status of a file if it has the content of an object."""
    fd, status = root.open(path)
    try:
        hasher = new_hasher(row.checksum_type)
        if status.st_size != row.size or hasher is None:
            return None
        while piece := os.read(fd, _PIECE):
            hasher.update(piece)
        return status if hasher.hexdigest() == row.checksum else None
    finally:
        os.close(fd)
