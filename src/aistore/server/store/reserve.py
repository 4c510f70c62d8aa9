"""Room held back for the day on which the disk is full."""

from __future__ import annotations

import logging
import os
import shutil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Reserve"]

logger = logging.getLogger(__name__)

_BYTES: Final = 4 << 20  # deletes of some hundred objects, one at a time, or a start with its recovery
_FREE_AT_LEAST: Final = 8 << 20


class Reserve:
    """A file that only takes up room.

    A delete, and a start too, has to write to the catalog's log before it frees anything. On a disk that others have filled to the last
    byte this file makes way for that; it is made again once there is room.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "reserve"

    def keep(self) -> None:
        """Make the file if it is missing and there is room (blocking)."""
        if self._path.exists() or shutil.disk_usage(self._path.parent).free < _BYTES + _FREE_AT_LEAST:
            return
        part = self._path.with_name(self._path.name + ".part")
        try:
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(fd, 0, _BYTES)
                else:  # macOS; a file of holes would hold nothing back
                    os.write(fd, bytes(_BYTES))
            finally:
                os.close(fd)
            part.replace(self._path)
        except OSError as error:
            logger.info("no room is held back for a full disk: %s", error)
            part.unlink(missing_ok=True)

    def give_up(self) -> bool:
        """Remove the file; False if that made no room."""
        try:
            self._path.unlink()
        except OSError:
            return False
        logger.warning("the disk with %s is full; the room held back for that is used now", self._path.parent)
        return True
