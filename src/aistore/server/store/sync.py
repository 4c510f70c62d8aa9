"""Making what was written survive power loss."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["sync_file", "sync_folder"]

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
