"""Where the buffers of object files empty into."""

from __future__ import annotations

import io
import os
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from aistore.sdk.obj.object_writer import ObjectWriter

__all__ = ["BUFFER", "Appendix", "Replacement", "Sink"]

BUFFER = 1024 * 1024
"""Bytes that a file writer collects before its sink gets them."""

IN_MEMORY = 16 * 1024 * 1024
"""Bytes of a replacement that are kept in memory; larger ones go to a temporary file."""


class Sink(io.RawIOBase):
    """Where a file writer's buffer empties into; `discard` makes it swallow the rest."""

    def __init__(self, obj_writer: ObjectWriter) -> None:
        self._writer = obj_writer
        self._handle = ""
        self._discarded = False

    def writable(self) -> bool:
        return True

    def begin(self) -> None:
        """What opening the file does."""

    def write(self, data: Buffer, /) -> int:
        data = memoryview(data)
        if not self._discarded:
            self._take(data)
        return len(data)

    def _take(self, data: memoryview) -> None:
        self._handle = self._writer.append_content(data, handle=self._handle)

    def commit(self) -> None:
        """Make visible what was taken."""
        if self._handle and not self._discarded:
            handle, self._handle = self._handle, ""
            self._writer.append_content(b"", handle=handle, flush=True)

    def forget(self) -> None:
        """Drop what was not committed, without a word to the cluster."""
        self._discarded = True

    def discard(self) -> None:
        """Drop what was not committed, and what opening the file did."""
        self.forget()


class Appendix(Sink):
    """Appends, piece after piece; the cluster shows none of it before the flush."""


class Replacement(Sink):
    """Collects the new content and stores it with one PUT; what is written after that is appended to it."""

    def __init__(self, obj_writer: ObjectWriter) -> None:
        super().__init__(obj_writer)
        self._spool: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._made = False

    def begin(self) -> None:
        from aistore.sdk.errors import ErrObjNotFound

        try:
            self._writer._probe()
        except ErrObjNotFound:
            self._writer.put_content(b"")
            self._made = True
        self._spool = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  closed by forget or commit

    def _take(self, data: memoryview) -> None:
        if self._spool is None:
            super()._take(data)
        else:
            self._spool.write(data)

    def commit(self) -> None:
        if self._discarded:
            return
        if self._spool is None:
            super().commit()
            return
        spool = self._spool
        if spool.seek(0, os.SEEK_END) or not self._made:
            spool.seek(0)
            self._writer.put_content(spool)
        self._spool = None
        spool.close()

    def forget(self) -> None:
        super().forget()
        if self._spool is not None:
            self._spool.close()

    def discard(self) -> None:
        pending = not self._discarded and self._spool is not None
        self.forget()
        if pending and self._made:
            # The empty object was a promise that is not kept; another writer's object stays.
            self._writer._remove_if_empty()
