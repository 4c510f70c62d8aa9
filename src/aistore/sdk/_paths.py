"""Local files and folders."""

from __future__ import annotations

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
) -> Iterator[tuple[Path, str]]:
    """Files of a folder that match, each with the name of the object that it becomes (protocol/10 25.1)."""
    validate_directory(folder)
    root = Path(folder)
    for file in root.rglob(pattern) if recursive else root.glob(pattern):
        if file.is_file() and file.name.startswith(prefix):
            yield file, prepend + (file.name if basename else file.relative_to(root).as_posix())
