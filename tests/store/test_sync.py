"""Under `strict`, names survive power loss too: each folder that got one is written through."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from aistore.server.folder import ServedFolder
from aistore.server.store.pieces import PieceSums
from aistore.server.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path


class Synced:
    """What `fsync` was called for."""

    def __init__(self) -> None:
        self.files: set[tuple[int, int]] = set()

    def note(self, fd: int) -> None:
        status = os.fstat(fd)
        self.files.add((status.st_dev, status.st_ino))

    def has(self, path: Path) -> bool:
        status = path.stat()
        return (status.st_dev, status.st_ino) in self.files


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Synced:
    found = Synced()
    real = os.fsync

    def fsync(fd: int) -> None:
        found.note(fd)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_a_new_data_folder_and_its_format(tmp_path: Path, synced: Synced) -> None:
    data = tmp_path / "new" / "data"
    ServedFolder(data).close()
    assert [synced.has(path) for path in (tmp_path, tmp_path / "new", data)] == [True] * 3


def test_folders_within_it(tmp_path: Path, synced: Synced) -> None:
    async def main() -> None:
        store = Store(tmp_path, "strict")
        synced.files.clear()
        await store.open()
        try:
            assert synced.has(tmp_path)
            assert synced.has(tmp_path / "content")
            synced.files.clear()
            store.work.start(b"begun", -1, PieceSums())
            assert synced.has(tmp_path)
            assert synced.has(tmp_path / "work")
            synced.files.clear()
            store.catalog.back_up(tmp_path / "catalog.backup.db")
            assert synced.has(tmp_path)
        finally:
            await store.close()

    asyncio.run(main())
