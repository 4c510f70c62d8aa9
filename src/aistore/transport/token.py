"""What authorizes requests: a token, or a file that has one and may get another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

__all__ = ["TokenFile", "default_file"]

_MAX = 1 << 20


class TokenFile:
    """A file with a token, alone or as `{"token": "..."}` (protocol/60 20.4). It is read when a token is needed first, and when one was refused."""

    __slots__ = ("path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def read(self) -> str:
        """The token; empty where there is no file. Raises ValueError for a file that holds something else."""
        try:
            with self.path.open("rb") as file:
                content = file.read(_MAX)
        except FileNotFoundError:
            return ""
        try:
            text = content.decode("ascii").strip()
            found = json.loads(text)["token"] if text.startswith("{") else text
            if isinstance(found, str) and found.isprintable():
                return found.strip()
        except (ValueError, KeyError):
            pass
        raise ValueError(f'{self.path} holds no token (expected the token alone, or {{"token": "..."}})')

    def __repr__(self) -> str:
        return f"TokenFile({str(self.path)!r})"


def default_file() -> TokenFile | None:
    """The file that the reference's command keeps the token of its last login in, where there is one."""
    path = Path("~/.config/ais/cli/auth.token").expanduser()
    return TokenFile(path) if path.is_file() else None
