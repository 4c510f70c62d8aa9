"""`lost+found` of a data folder: what repair takes out of the way is put there, not removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aistore.server.store.sync import sync_folder, write_whole

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ASIDE", "Aside"]

ASIDE: Final = "lost+found"


class Aside:
    """The folder for what nothing refers to any more, and for what was replaced."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.folder = root / ASIDE

    def move(self, path: Path, name: str = "") -> Path | None:
        """Take a file out of the way; where it is now, None if it was gone."""
        target = self._free(name or path.name)
        try:
            path.rename(target)
        except FileNotFoundError:
            return None
        sync_folder(self.folder)
        return target

    def keep(self, name: str, data: bytes) -> Path:
        """Put bytes aside."""
        target = self._free(name)
        write_whole(target, data)
        return target

    def _free(self, name: str) -> Path:
        self.folder.mkdir(0o700, exist_ok=True)
        target, number = self.folder / name, 1
        while target.exists():
            number += 1
            target = self.folder / f"{name}.{number}"
        return target
