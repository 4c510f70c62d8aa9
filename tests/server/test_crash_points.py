"""A server that is killed just before the first, second, third ... change to its data folder finds what was acknowledged when it starts again.

A killed process leaves files as they are, so a copy of the folder before each change stands for the kill.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import pytest

from failing_operations import AT_ONCE, LARGE, ONE_BY_ONE, REMOTE, TRANSFORMING, World, append_and_flush, copy_bucket
from server.test_nth_failures import make_sure, prepare, started
from store_truth import crash_copy, problems, settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from aistore import LocalCluster

    Operation = Callable[[World], Awaitable[None]]

T = TypeVar("T")

QUICK: Final = (append_and_flush, copy_bucket)
CHANGING: Final = (
    "open", "write", "pwrite", "mkdir", "rmdir", "link", "unlink", "truncate", "ftruncate", "replace", "rename", "copy_file_range",
)  # fmt: skip
ALL: Final = [
    one if one in QUICK else pytest.param(one, marks=pytest.mark.long) for one in (*AT_ONCE, *ONE_BY_ONE, *TRANSFORMING)
]


class Crash(NamedTuple):
    """What was about to happen, and the folder as it was."""

    before: str
    folder: Path


class Crashes:
    """Copies `folder`, while it is set, before each change."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.all: list[Crash] = []
        self.lock = RLock()  # nothing changes while a copy is made

    def before(self, what: str) -> None:
        folder, self.folder = self.folder, None  # copying makes calls, too
        if folder is not None:
            crash = Crash(what, folder.with_name(f"crash{len(self.all)}"))
            crash_copy(folder, crash.folder)
            self.all.append(crash)
            self.folder = folder

    def wrap(self, name: str, real: Callable[..., T]) -> Callable[..., T]:
        def call(*args: object, **options: object) -> T:
            with self.lock:
                if name != "open" or int(str(args[1])) & os.O_CREAT:
                    self.before(f"{name} {args[0]}")
                return real(*args, **options)

        return call


@pytest.fixture
def crashes(monkeypatch: pytest.MonkeyPatch) -> Crashes:
    """Sees all changes that this process makes."""
    made = Crashes()
    for name in CHANGING:
        if hasattr(os, name):
            monkeypatch.setattr(os, name, made.wrap(name, getattr(os, name)))

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            if sql != "COMMIT":
                return super().execute(sql, *args)
            with made.lock:
                made.before(sql)
                return super().execute(sql, *args)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=Watched, **options))
    return made


class Killed:
    """An operation, and what it was killed in."""

    def __init__(self, folder: Path, operation: Operation, crashes: Crashes, far: str) -> None:
        self.folder = folder
        self.operation = operation
        self.crashes = crashes
        self.far = far
        self.before: dict[str, object] = {}
        self.good: dict[str, object] = {}

    async def run(self) -> None:
        """Do it, and look at what each kill leaves."""
        (self.folder / "promoted" / "sub").mkdir(parents=True)
        (self.folder / "promoted" / "one").write_bytes(LARGE)
        (self.folder / "promoted" / "sub" / "two").write_bytes(b"two")
        node = await started(self.folder / "data", "relaxed", self.far, etl=self.operation in TRANSFORMING)
        try:
            w = World(node, 0, self.far, str(self.folder))
            await prepare(w)
            await node.store.content.settle_garbage()
            self.before = w.state()
            self.crashes.folder = self.folder / "data"
            await self.operation(w)
            acknowledged = len(self.crashes.all)
            await node.store.content.settle_garbage()
            self.crashes.before("the end")
            self.crashes.folder = None
            self.good = w.state()
        finally:
            self.crashes.folder = None
            await node.stop()
        for number, crash in enumerate(self.crashes.all):
            await self.look(crash, acknowledged=number >= acknowledged)

    async def look(self, crash: Crash, *, acknowledged: bool) -> None:
        """Start a server on what was left: what was acknowledged is there, nothing is in halves, and nothing is left over."""
        node = await started(crash.folder, "relaxed", self.far, etl=self.operation in TRANSFORMING)
        try:
            w = World(node, 0, self.far, str(self.folder))
            await node.control.jobs.recovered()
            await settle(node.store)
            there = w.state()
            if acknowledged:
                assert there == self.good, crash
            elif self.operation in AT_ONCE:
                assert there in (self.before, self.good), crash
            else:
                for name in self.before.keys() | there.keys() | self.good.keys():
                    cached = (LARGE, "{}") if self.far and "/" in name else None
                    assert there.get(name) in (self.before.get(name), self.good.get(name), cached), f"{crash}: {name}"
            await make_sure(w)
        finally:
            await node.stop()
        assert problems(crash.folder) == [], crash
        work = crash.folder / "work"
        left = [path for path in work.iterdir() if path.stat().st_nlink > 1] if work.exists() else []
        assert left == [], crash
        assert not list(work.glob("kept-*")), crash
        shutil.rmtree(crash.folder)


@pytest.mark.parametrize("operation", ALL)
def test_a_kill_before_each_change(memory_path: Path, crashes: Crashes, operation: Operation) -> None:
    asyncio.run(Killed(memory_path, operation, crashes, "").run())


@pytest.mark.long
@pytest.mark.parametrize("operation", REMOTE)
def test_a_kill_before_each_change_of_a_cache(
    memory_path: Path, crashes: Crashes, cluster: LocalCluster, operation: Operation
) -> None:
    asyncio.run(Killed(memory_path, operation, crashes, cluster.url).run())
