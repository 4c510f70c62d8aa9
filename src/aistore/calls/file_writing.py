"""Writing an object as a file: what becomes of the bytes, for the files of both faces."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from aistore.calls import objects
from aistore.calls.steps import local
from aistore.calls.uploads import store

if TYPE_CHECKING:
    from aistore.calls.steps import Steps

__all__ = ["BUFFER", "FileWriting", "writing_of"]

BUFFER = 1024 * 1024
"""Bytes that a file collects before they are taken from it."""

IN_MEMORY = 16 * 1024 * 1024
"""Bytes of a replacement that are kept in memory; larger ones go to a temporary file."""


class FileWriting:
    """Appends to an object, piece after piece; the cluster shows none of it before `commit`."""

    def __init__(self, path: str, query: str) -> None:
        self._path = path
        self._query = query
        self._handle = ""
        self._forgotten = False

    def begin(self) -> Steps[None]:
        """What opening the file does."""
        yield from ()

    def take(self, data: memoryview) -> Steps[None]:
        """Take bytes; they are dropped after `forget`."""
        if not self._forgotten:
            yield from self._take(data)

    def _take(self, data: memoryview) -> Steps[None]:
        self._handle = yield from objects.append(self._path, self._query, data, self._handle, False)

    def commit(self) -> Steps[None]:
        """Make visible what was taken."""
        if self._handle and not self._forgotten:
            handle, self._handle = self._handle, ""
            yield from objects.append(self._path, self._query, b"", handle, True)

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
            # The empty object was a promise that is not kept; another writer's object stays.
            answer = yield from objects.head(self._path, self._query, "size")
            if answer.head.headers.length == 0:
                yield from objects.delete(self._path, self._query)


def writing_of(path: str, query: str, mode: str) -> FileWriting:
    """How a file of a mode is written: `w` replaces the object, `a` appends to it. Raises ValueError for another mode."""
    if mode not in ("a", "w"):
        raise ValueError(f"Invalid mode: {mode}")
    return _Replacing(path, query) if mode == "w" else FileWriting(path, query)
