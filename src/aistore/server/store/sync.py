"""Making what was written survive power loss."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["sync_file", "sync_folder", "write_whole"]

if sys.platform == "darwin":
    import fcntl

    def sync_file(fd: int) -> None:
        """Make a file's content survive power loss; macOS's fsync leaves it in the drive's cache."""
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
else:

    def sync_file(fd: int) -> None:
        """Make a file's content survive power loss."""
        os.fdatasync(fd)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive power loss."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_whole(path: Path, content: bytes) -> None:
    """A small file for its owner to read (0600), that is there whole or not at all, also after a power cut."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        sync_file(fd)
    new.replace(path)
    sync_folder(path.parent)
