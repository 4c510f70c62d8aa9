"""Failing the n-th call to the system or the catalog."""

from __future__ import annotations

import errno
import os
import sqlite3
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

T = TypeVar("T")

NEED_NO_ROOM = ("unlink", "rmdir", "pread", "ftruncate", "statvfs")
SYSTEM_CALLS = (
    "open",
    "write",
    "fsync",
    "fdatasync",
    "mkdir",
    "link",
    "unlink",
    "ftruncate",
    "pread",
    "rmdir",
    "statvfs",
    "pwrite",
    "pwritev",
    "truncate",
    "replace",
    "rename",
    "copy_file_range",
    "posix_fallocate",
)


class Faults:
    """Counts calls while armed, and fails one of them, or it and all that follow."""

    def __init__(self) -> None:
        self.armed = False
        self.left = 0
        self.lasting = False
        self.number = errno.EIO
        self.hit: str | None = None
        self.short = False
        """Whether writes write the first half of what they are given."""

        self.calls: frozenset[str] = frozenset()
        self._lock = Lock()

    def arm(self, nth: int, *, number: int, lasting: bool, calls: frozenset[str] = frozenset()) -> None:
        """Have the n-th call fail; with `calls`, the n-th of these."""
        self.armed, self.left, self.number, self.lasting, self.hit = True, nth, number, lasting, None
        self.calls = calls

    def disarm(self) -> str | None:
        """Have no more calls fail; the first that did, if one did, in whatever thread."""
        with self._lock:
            self.armed = False
            return self.hit

    def due(self, call: str) -> bool:
        if not self.armed or (self.lasting and call in NEED_NO_ROOM) or (self.calls and call not in self.calls):
            return False
        with self._lock:
            self.left -= 1
            if self.armed and (self.left == 0 or (self.left < 0 and self.lasting)):
                self.hit = self.hit or call
                return True
        return False

    def shorten(self, name: str, real: Callable[..., int]) -> Callable[..., int]:
        """While armed, a call that writes writes the first half."""

        def call(fd: int, data: bytes | bytearray | memoryview, *more: int) -> int:
            view = memoryview(data).cast("B")
            if self.short and len(view) > 1:
                self.hit = name
                view = view[: len(view) // 2]
            return real(fd, view, *more)

        return call

    def wrap(self, name: str, real: Callable[..., T]) -> Callable[..., T]:
        def call(*args: object, **options: object) -> T:
            reads = name == "open" and not int(str(args[1])) & os.O_CREAT
            if not (self.lasting and reads) and self.due(name):
                raise OSError(self.number, os.strerror(self.number))
            return real(*args, **options)

        return call


FAULTS = Faults()


class FaultyConnection(sqlite3.Connection):
    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        _fail_if_due(sql)
        return super().execute(sql, *args)

    def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
        _fail_if_due(sql)
        return super().executemany(sql, *args)


def _fail_if_due(sql: str) -> None:
    if sql != "ROLLBACK" and FAULTS.due(sql):
        full = FAULTS.number == errno.ENOSPC
        raise sqlite3.OperationalError("database or disk is full" if full else "disk I/O error")


def inject(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Have calls of this process fail when that is asked for, until the test ends."""
    FAULTS.disarm()
    FAULTS.short = False
    for name in SYSTEM_CALLS:
        real = getattr(os, name, None)
        if real is not None:
            if name in ("write", "pwrite"):
                real = FAULTS.shorten(name, real)
            monkeypatch.setattr(os, name, FAULTS.wrap(name, real))
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **options: connect(*args, factory=FaultyConnection, **options)
    )
    return FAULTS
