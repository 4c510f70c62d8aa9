"""What authorizes requests: a token, or a file that has one and may get another."""

from __future__ import annotations

import os

__all__ = ["DEFAULT_FILE", "TokenFile", "default_file"]

DEFAULT_FILE = "~/.config/ais/cli/auth.token"
"""Where the reference's command keeps the token of its last login, and ours too."""

_MAX = 1 << 20


class TokenFile:
    """A file with a token, alone or as `{"token": "..."}` (protocol/60 20.4). It is read when a token is needed first, and when one was refused."""

    __slots__ = ("path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)

    def read(self) -> str:
        """The token; empty where there is no file. Raises ValueError for a file that holds something else."""
        import json

        try:
            with open(self.path, "rb") as file:  # noqa: PTH123  clients that have no file do not pay for pathlib
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
        return f"TokenFile({self.path!r})"


def default_file() -> TokenFile | None:
    """The file with the token of the last login, where there is one."""
    path = os.path.expanduser(DEFAULT_FILE)  # noqa: PTH111  as above; stays as it is without a home
    return TokenFile(path) if os.access(path, os.R_OK) else None
