"""`local:` endpoints: the server of a data folder, started by whoever needs it first and owned by nobody."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from aistore.server.folder import (
    CLIENTS_LOCK,
    START_LOCK,
    FolderError,
    FolderInUseError,
    find_server,
    lock_file,
    log_tail,
    make_folder,
)
from aistore.server.settings import SERVED, ServerSettings, user_data_dir
from aistore.server.spawn import START_SECONDS, ServerStartError, start

if TYPE_CHECKING:
    from aistore.transport.tls import TlsConfig

SCHEME = "local:"

# A shared server stays this long after its last client: long enough for the next run of a script.
IDLE_EXIT_SECONDS = 300.0

# Descriptors that hold `clients.lock`, by data folder. The kernel lets go of them with the last process that has a copy:
# a forked worker keeps the server alive as long as it lives.
_joined: dict[Path, int] = {}


def is_local(endpoint: str) -> bool:
    """Whether an endpoint names a data folder instead of a URL."""
    return endpoint.startswith(SCHEME)


def data_dir_of(endpoint: str) -> Path:
    """The data folder that a `local:` endpoint names.

    `local:///abs/path`, `local:/abs/path`, `local:./rel`, `local:~/dir`; without a path the user's data folder, or
    `AIS_LOCAL_DIR`. Percent escapes are decoded. Raises `ValueError` for a host (`local://host/path`).
    """
    if not is_local(endpoint):
        raise ValueError(f"{endpoint!r} does not start with {SCHEME!r}")
    path = endpoint[len(SCHEME) :]
    if path.startswith("//"):
        host, slash, rest = path[2:].partition("/")
        if host:
            raise ValueError(f"{endpoint!r} names a host ({host}); write local:///{host}/... or local:./{host}/...")
        path = slash + rest
    path = unquote(path)
    if path in ("", "/"):
        return user_data_dir()
    if "\0" in path:
        raise ValueError(f"{endpoint!r} holds a NUL")
    # Symbolic links resolved, so that two spellings of one folder are one server.
    return Path(path).expanduser().resolve()


def resolve(endpoint: str, *, idle_exit: float = IDLE_EXIT_SECONDS) -> str:
    """The URL of the server that serves the data folder of `endpoint`; starts one where none runs.

    This process counts as a client of that server until it ends. A server that is started here stays `idle_exit`
    seconds after its last client. Safe with any number of processes at once. Raises `ServerStartError`.
    """
    data_dir = data_dir_of(endpoint)
    try:
        make_folder(data_dir)
    except (OSError, FolderError) as error:
        raise ServerStartError(data_dir, str(error)) from error
    settings = ServerSettings(data_dir, idle_exit=idle_exit)
    deadline = time.monotonic() + START_SECONDS
    pause = 0.002
    while time.monotonic() < deadline:
        if _join(data_dir):
            running = find_server(data_dir)
            if running and running.url:
                return running.url
            if not running and (url := _start_alone(settings)):
                return url
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    running = find_server(data_dir)
    who = (
        f"process {running.pid} holds it but does not answer"
        if running and running.pid
        else "it is neither free nor served"
    )
    raise ServerStartError(data_dir, f"{who} since {START_SECONDS:g} s", log_tail(data_dir))


def trust(endpoint: str, url: str, tls: TlsConfig) -> TlsConfig:
    """The TLS settings of a client of `endpoint`, whose server is at `url`: the data folder tells its certificate."""
    return tls._replace(pinned=str(data_dir_of(endpoint) / SERVED)) if url.startswith("https:") else tls


def _join(data_dir: Path) -> bool:
    """Become a client of the folder; not possible while its server is leaving."""
    fd = _joined.get(data_dir)
    if fd is not None and _still_there(fd, data_dir / CLIENTS_LOCK):
        return True
    fd = lock_file(data_dir / CLIENTS_LOCK, shared=True)
    if fd is not None:
        _joined[data_dir] = fd
    return fd is not None


def _still_there(fd: int, path: Path) -> bool:
    """Whether the file that we hold is the one that lies there now (the folder may have been removed and made anew)."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _start_alone(settings: ServerSettings) -> str | None:
    """Start the server unless somebody else is about to. `None`: look again."""
    fd = lock_file(settings.data_dir / START_LOCK)
    if fd is None:
        return None
    try:
        if find_server(settings.data_dir):  # it came between our look and our lock
            return None
        return start(settings).ready.url
    except FolderInUseError:
        return None  # `ais serve` was quicker, which takes no start lock
    finally:
        os.close(fd)
