"""What users do on an AuthN server: `ais authn login`, `logout` and `key`."""

from __future__ import annotations

import getpass
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aistore.wire import environment

if TYPE_CHECKING:
    import argparse

    from aistore.sdk import AuthNClient

_DAY: Final = 24 * 3600


def _client(asked: argparse.Namespace, token: str | None = None) -> AuthNClient:
    from aistore.cli.objects import warn_once
    from aistore.sdk import AuthNClient

    warn_once()
    default = f"http://127.0.0.1:{environment.AUTHN_PORT}"
    url = asked.url or os.environ.get(environment.URL) or default
    return AuthNClient(url, skip_verify=asked.skip_verify, ca_cert=asked.ca_cert, token=token)


def _token() -> str:
    from aistore.sdk._settings import default_token

    found = default_token()
    token = found if isinstance(found, str) or found is None else found.read()
    if not token:
        raise ValueError("you are not logged in: ais authn login NAME")
    return token


def _file() -> Path:
    from aistore.transport.token import DEFAULT_FILE

    return Path(os.environ.get(environment.TOKEN_FILE) or DEFAULT_FILE).expanduser()


def login(asked: argparse.Namespace) -> int:
    """Keep a token where the commands and clients of this user find it."""
    ask = getpass.getpass if sys.stdin.isatty() else lambda _: sys.stdin.readline().rstrip("\n")
    password = ask(f"Password of {asked.name}: ")
    token = _client(asked).login(asked.name, password, None if asked.days is None else asked.days * _DAY)
    path = _file()
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    _write(path, token)
    print(f"logged in as {asked.name}; the token is in {path}")
    return 0


def _write(path: Path, token: str) -> None:
    """Put it there whole, by a file of a name that nobody can know: others may write in that folder, or log in at the same time."""
    fd, new = tempfile.mkstemp(dir=path.parent)  # which is for its owner
    try:
        with os.fdopen(fd, "w") as file:
            json.dump({"token": token}, file)
        Path(new).replace(path)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise


def logout(asked: argparse.Namespace) -> int:
    """Have the token refused from now on, and forget it."""
    _client(asked, _token()).logout()
    _file().unlink(missing_ok=True)
    print("logged out")
    return 0


def key_create(asked: argparse.Namespace) -> int:
    """Make an access key, and show it as the variables that clients of S3 read."""
    seconds = None if asked.days is None else asked.days * _DAY
    key = _client(asked, _token()).access_key_manager().create(asked.user, seconds)
    print(f"AWS_ACCESS_KEY_ID={key.id}\nAWS_SECRET_ACCESS_KEY={key.secret}")
    print(f"of {key.user}, until {_day(key.expires)}. The secret is not shown again.", file=sys.stderr)
    return 0


def key_ls(asked: argparse.Namespace) -> int:
    """Show the keys that there are."""
    for key in _client(asked, _token()).access_key_manager().list():
        print(f"{key.id}  {_day(key.created)}  {_day(key.expires)}  {key.user}")
    return 0


def key_rm(asked: argparse.Namespace) -> int:
    """Delete a key."""
    _client(asked, _token()).access_key_manager().delete(asked.id)
    print(f"deleted {asked.id}")
    return 0


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
