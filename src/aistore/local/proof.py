"""Showing a server on this machine that its client is the same user."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from aistore.server.folder import find_server

__all__ = ["Proof", "prove"]

_STALE_SECONDS = 24 * 3600.0


class Proof:
    """A file in the data folder of a server, which only its user can have made; nobody needs it after `withdraw`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """What the server is told."""
        return self._path.name

    def withdraw(self) -> None:
        """Remove it."""
        self._path.unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"<Proof in {self._path.parent}>"  # its name is a secret while it is there


def prove(data_dir: str) -> Proof | None:
    """A proof for the server of a data folder; None if there is no such folder of this user with a server."""
    folder = Path(data_dir)
    path = folder / f"import-{os.urandom(16).hex()}"
    try:
        if not folder.is_absolute() or find_server(folder) is None:
            return None
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        for left in folder.glob("import-*"):  # of clients that were killed
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                    left.unlink()
    except OSError:  # another user's folder
        return None
    return Proof(path)
