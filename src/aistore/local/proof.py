"""Showing a server on this machine that its client is the same user."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from aistore.server.folder import find_server
from aistore.transport.url import split_url

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


def prove(data_dir: str, base_url: str) -> Proof | None:
    """A proof for the server of a data folder; None if there is no such folder of this user, whose server is the one at `base_url`.

    A stranger's server may name the folder of another one, to show that one what it was told.
    """
    folder = Path(data_dir)
    path = folder / f"import-{os.urandom(16).hex()}"
    try:
        server = find_server(folder) if folder.is_absolute() else None
        if server is None or not server.url or not _is_same(server.url, base_url):
            return None
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        for left in folder.glob("import-*"):  # of clients that were killed
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                    left.unlink()
    except OSError:  # another user's folder
        return None
    return Proof(path)


def _is_same(url: str, base_url: str) -> bool:
    """Whether two URLs lead to the same server: `localhost` is any address of loopback."""
    one, other = split_url(url)[0], split_url(base_url)[0]
    if other.host == "localhost" and one.is_loopback:
        other = other._replace(host=one.host)
    return one == other
