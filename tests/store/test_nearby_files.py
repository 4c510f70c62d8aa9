"""Many small content files are read from their folders, and whatever stands in the way is left to who opens them by their path."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

from aistore.server.store.content import NearbyFiles
from store_truth import open_descriptors

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 4096  # ids in a folder


def stored(root: Path, content: int, data: bytes) -> None:
    folder = root / f"{content // BLOCK:08x}"
    folder.mkdir(exist_ok=True)
    (folder / f"{content:016x}").write_bytes(data)


def reader_of(root: Path) -> NearbyFiles:
    files: Any = SimpleNamespace(root=root)  # all that it knows of them
    return NearbyFiles(files)


def test_whole_files_are_read(tmp_path: Path) -> None:
    reader = reader_of(tmp_path)
    for content in (0, 1, BLOCK - 1, BLOCK, 7 * BLOCK + 5):
        data = os.urandom(content % 1000)
        stored(tmp_path, content, data)
        assert reader.read(content, len(data)) == (data, ANY)
    reader.close()


def test_what_is_not_there_or_has_another_size_is_none(tmp_path: Path) -> None:
    reader = reader_of(tmp_path)
    assert reader.read(3, 1) is None  # no folder
    stored(tmp_path, 3, b"12345")
    assert reader.read(3, 5) == (b"12345", ANY)
    assert reader.read(4, 5) is None
    assert reader.read(3, 6) is None
    (tmp_path / "00000000" / f"{3:016x}").unlink()
    assert reader.read(3, 5) is None
    (tmp_path / "00000000").rmdir()
    assert reader.read(3, 5) is None
    reader.close()


def test_it_holds_some_folders_open_and_lets_go_of_them(tmp_path: Path) -> None:
    for block in range(40):
        stored(tmp_path, block * BLOCK, b"x")
    before = open_descriptors()
    reader = reader_of(tmp_path)
    read = [reader.read(block * BLOCK, 1) for block in range(40)]
    assert read == [(b"x", ANY)] * 32 + [None] * 8
    assert len(open_descriptors() - before) == 32
    reader.close()
    assert not open_descriptors() - before
