"""Local files and folders."""

from __future__ import annotations

import fnmatch
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["files_of", "validate_directory", "validate_file"]


def validate_file(path: str | Path) -> None:
    """Raise ValueError unless `path` is a file."""
    if not Path(path).exists():
        raise ValueError(f"Path: {path} does not exist")
    if Path(path).is_dir():
        raise ValueError(f"Path: {path} is a directory, not a file")


def validate_directory(path: str | Path) -> None:
    """Raise ValueError unless `path` is a directory."""
    if not Path(path).exists():
        raise ValueError(f"Path: {path} does not exist")
    if not Path(path).is_dir():
        raise ValueError(f"Path: {path} is a file, not a directory")


def files_of(
    folder: str | Path, prefix: str, pattern: str, basename: bool, prepend: str, recursive: bool
) -> Iterator[tuple[str, str]]:
    """Files of a folder that match, each with the name of the object that it becomes (protocol/10 25.1)."""
    validate_directory(folder)
    return _files_of(str(folder), prefix, pattern, basename, prepend, recursive)


def _files_of(
    root: str, prefix: str, pattern: str, basename: bool, prepend: str, recursive: bool
) -> Iterator[tuple[str, str]]:
    found = _matching(root, pattern, recursive)
    for below in found:
        name = below.rpartition("/")[2]
        if name.startswith(prefix):
            yield f"{root}/{below}", prepend + (name if basename else below)


def _matching(root: str, pattern: str, recursive: bool) -> Iterator[str]:
    """Paths below `root` of the files whose names match; links to files are files, links to folders are not followed."""
    if "/" in pattern or "**" in pattern or pattern in ("", ".", ".."):
        # What a pattern of several parts means, and which are none, is for `pathlib` to say.
        paths = Path(root).rglob(pattern) if recursive else Path(root).glob(pattern)
        yield from (path.relative_to(root).as_posix() for path in paths if path.is_file())
        return
    matches = re.compile(fnmatch.translate(pattern)).match
    folders = [""]
    while folders:
        below = folders.pop()
        with os.scandir(f"{root}/{below}") as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if recursive:
                        folders.append(f"{below}{entry.name}/")
                elif matches(entry.name) and entry.is_file():
                    yield below + entry.name
