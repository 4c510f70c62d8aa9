"""Writing an object as a file: what becomes of the bytes, for the files of both faces."""

from __future__ import annotations

import logging
import os
import tempfile
from typing import TYPE_CHECKING

from aistore.calls import objects
from aistore.calls.steps import local
from aistore.calls.uploads import store

if TYPE_CHECKING:
    from aistore.calls.steps import Steps
    from aistore.http1.payload import BytesLike

__all__ = ["BUFFER", "FileWriting", "writing_of"]

log = logging.getLogger("aistore.sdk")

BUFFER = 1024 * 1024
"""Bytes that a file collects before they are taken from it."""

IN_MEMORY = 16 * 1024 * 1024
"""Bytes of a replacement that are kept in memory; larger ones go to a temporary file."""


class FileWriting:
    """Appends to an object, piece after piece; the cluster shows none of it before `commit`.

    After an append that failed, all further ones fail with the same error: it may have been executed, and sent again its bytes would be
    stored twice, left out they would be missing in the middle.
    """

    def __init__(self, path: str, query: str) -> None:
        self._path = path
        self._query = query
        self._handle = ""
        self._failure: BaseException | None = None
        self._forgotten = False

    def begin(self) -> Steps[None]:
        """What opening the file does."""
        yield from ()

    def take(self, data: memoryview) -> Steps[None]:
        """Take bytes; they are dropped after `forget`."""
        if not self._forgotten:
            yield from self._take(data)

    def _take(self, data: memoryview) -> Steps[None]:
        self._handle = yield from self._append(data, flush=False)

    def _append(self, data: BytesLike, *, flush: bool) -> Steps[str]:
        if self._failure is not None:
            raise self._failure
        try:
            return (yield from objects.append(self._path, self._query, data, self._handle, flush))
        except BaseException as failure:
            self._failure = failure
            raise

    def commit(self) -> Steps[None]:
        """Make visible what was taken."""
        if (self._handle or self._failure is not None) and not self._forgotten:
            yield from self._append(b"", flush=True)
            self._handle = ""

    def forget(self) -> None:
        """Drop what was not committed, without a word to the cluster."""
        self._forgotten = True

    def discard(self) -> Steps[None]:
        """Drop what was not committed, and what opening the file did."""
        self.forget()
        yield from ()

    def __repr__(self) -> str:
        return self._path


class _Replacing(FileWriting):
    """Collects the new content and stores it with one PUT; what is written after that is appended to it."""

    def __init__(self, path: str, query: str) -> None:
        super().__init__(path, query)
        self._spool: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._made = False

    def begin(self) -> Steps[None]:
        from aistore.sdk.errors import ErrObjNotFound

        try:
            yield from objects.head(self._path, self._query, "size")
        except ErrObjNotFound:
            yield from store(self._path, self._query, b"")
            self._made = True
        self._spool = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  closed by forget or commit

    def _take(self, data: memoryview) -> Steps[None]:
        if self._spool is None:
            yield from super()._take(data)
        else:
            yield from local(self._spool.write, data)

    def commit(self) -> Steps[None]:
        if self._forgotten:
            return
        if self._spool is None:
            yield from super().commit()
            return
        spool = self._spool
        if spool.seek(0, os.SEEK_END) or not self._made:
            spool.seek(0)
            yield from store(self._path, self._query, spool)
        self._spool = None
        spool.close()

    def forget(self) -> None:
        super().forget()
        if self._spool is not None:
            self._spool.close()

    def discard(self) -> Steps[None]:
        pending = not self._forgotten and self._spool is not None
        self.forget()
        if pending and self._made:
            try:
                yield from self._remove_made()
            except Exception as error:  # another error is on its way to the caller, and tells more
                log.warning("%s was made empty, and could not be removed again: %s", self._path, error)

    def _remove_made(self) -> Steps[None]:
        # The empty object was a promise that is not kept; another writer's object stays.
        answer = yield from objects.head(self._path, self._query, "size")
        if answer.head.headers.length == 0:
            yield from objects.delete(self._path, self._query)


def writing_of(path: str, query: str, mode: str) -> FileWriting:
    """How a file of a mode is written: `w` replaces the object, `a` appends to it. Raises ValueError for another mode."""
    if mode not in ("a", "w"):
        raise ValueError(f"Invalid mode: {mode}")
    return _Replacing(path, query) if mode == "w" else FileWriting(path, query)
