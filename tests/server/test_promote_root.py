"""Files below the promote root, which others may write to meanwhile."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aistore.server.jobs import promote_root
from aistore.server.jobs.promote_root import PromoteRoot

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEP = 1010  # more than Python recurses


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, content in (("root/a/b/file", "shown"), ("root/top", "top"), ("outside/file", "secret")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "link").symlink_to(tmp_path / "root")
    return tmp_path / "link"  # that may be one itself


def content(root: Path, name: str) -> bytes:
    fd, status = PromoteRoot(str(root)).open(str(root / name))
    try:
        return os.read(fd, status.st_size + 1)
    finally:
        os.close(fd)


def replace_by_link(folder: Path) -> None:
    """What somebody else does between two looks of the server."""
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(folder.parents[2] / "outside")


def test_files_are_found_and_read(root: Path) -> None:
    found = PromoteRoot(str(root)).files_in(f"{root}/", recursive=True)
    assert found == [(str(root / "a/b/file"), "a/b/file"), (str(root / "top"), "top")]
    assert PromoteRoot(str(root)).files_in(str(root), recursive=False) == [(str(root / "top"), "top")]
    assert PromoteRoot(str(root)).is_file(str(root / "top"))
    assert not PromoteRoot(str(root)).is_file(str(root))
    assert content(root, "a/b/file") == b"shown"


def test_a_folder_that_becomes_a_link_does_not_lead_out(root: Path) -> None:
    replace_by_link(root / "a/b")
    promoted = PromoteRoot(str(root))
    assert (root / "a/b/file").read_text() == "secret"  # this is where the path leads
    for refused in (promoted.open, promoted.is_file):
        with pytest.raises(OSError, match="a/b/file"):
            refused(str(root / "a/b/file"))
    assert [name for _, name in promoted.files_in(str(root), recursive=True)] == ["a/moved/file", "top"]
    with pytest.raises(OSError, match="Not a directory"):
        promoted.files_in(str(root / "a/b"), recursive=True)
    status = (root / "a/b/file").stat()
    with pytest.raises(OSError, match="a/b/file"):
        promoted.remove(str(root / "a/b/file"), status)
    assert (root / "a/b/file").read_text() == "secret"


def test_only_what_was_taken_is_removed(root: Path) -> None:
    promoted, path = PromoteRoot(str(root)), str(root / "top")
    fd, taken = promoted.open(path)
    os.close(fd)
    (root / "other").write_text("new")
    (root / "other").rename(root / "top")  # of the same size
    with pytest.raises(OSError, match="stays"):
        promoted.remove(path, taken)
    assert (root / "top").read_text() == "new"
    fd, taken = promoted.open(path)
    os.close(fd)
    promoted.remove(path, taken)
    assert not (root / "top").exists()


@pytest.fixture
def deep() -> Iterator[Path]:
    """A folder with a file in a folder in a folder ..."""
    # Not in pytest's folder, which it removes by a recursion that ends the run if this is left there by one that was killed.
    root = Path(tempfile.mkdtemp(prefix="aistore-deep-")).resolve()
    fd = os.open(root, os.O_RDONLY)
    for _ in range(DEEP):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
    yield root
    subprocess.run(["rm", "-r", root], check=True)  # Python before 3.13 recurses


def test_folders_of_any_depth(deep: Path) -> None:
    promoted = PromoteRoot(str(deep))
    [(path, name)] = promoted.files_in(str(deep), recursive=True)
    assert name == "d/" * DEEP + "file"
    assert promoted.is_file(path)


def test_folders_so_deep_that_no_object_can_be_called_so(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promote_root, "MAX_OBJECT_NAME", 100)
    with pytest.raises(OSError, match="no object can have such a name"):
        PromoteRoot(str(deep)).files_in(str(deep), recursive=True)
