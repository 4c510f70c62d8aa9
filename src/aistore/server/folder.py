"""A data folder between processes: who serves it, who uses it, which format it has.

    lock          held (flock) by the server while it runs; JSON inside: pid, url, grace (once it serves)
    start.lock    held by the one process that is starting a server which belongs to nobody
    clients.lock  held, shared, by every process that uses such a server; the server leaves when it gets it alone
    owner.lock    held by the process whose temporary folder this is
    format        JSON: the version of the folder's format
    server.log    what the server logged, and the traceback where it died; server.errors.log its warnings and errors

A lock belongs to an open file, so the kernel lets go of it however its holder dies, and forked children share it.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aistore.server.store.sync import sync_folder, write_whole

if TYPE_CHECKING:
    from pathlib import Path

try:
    import fcntl
except ImportError as error:  # Windows
    raise ImportError(
        "the embedded AIStore server needs a POSIX system (Linux, macOS). On Windows, run it under WSL, "
        "or give Client the URL of an AIStore cluster"
    ) from error

FORMAT = 1

LOCK = "lock"
START_LOCK = "start.lock"
CLIENTS_LOCK = "clients.lock"
OWNER_LOCK = "owner.lock"
FORMAT_FILE = "format"
LOG = "server.log"
AUTHN_DATABASE = "authn.db"
"""What an AuthN server keeps, which makes a folder one of AuthN."""
_CONTENT = ("catalog.db", "content")
"""What makes a folder the data folder of a cluster."""

# What may lie in a folder that is not a data folder yet: traces of a start that failed.
_TRACES = {LOCK, START_LOCK, CLIENTS_LOCK, OWNER_LOCK, LOG, "server.errors.log", f"{FORMAT_FILE}.new"}

# A probe holds `lock` for an instant; a server that finds it held tries again for this long.
_CLAIM_SECONDS = 2.0
_TAIL_LINES = 20


class FolderError(Exception):
    """A data folder that cannot be served."""


class FolderInUseError(FolderError):
    """Another server serves this data folder. `pid` and `url` are that server's, `None` and empty where not known yet."""

    def __init__(self, data_dir: Path, pid: int | None, url: str) -> None:
        super().__init__(data_dir, pid, url)
        self.data_dir, self.pid, self.url = data_dir, pid, url

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid else "a process that is just starting"
        where = f" at {self.url}" if self.url else ""
        return f"{self.data_dir} is already served by {who}{where}; use that one, or end it: ais stop {self.data_dir}"


@dataclass(frozen=True)
class RunningServer:
    """The server that holds a folder's lock. While it starts and while it stops, `pid` is `None` and `url` empty."""

    pid: int | None
    url: str
    grace: float = 0.0
    """How long, when it is told to stop, what runs may take."""


def make_folder(data_dir: Path, *, of_authn: bool = False) -> None:
    """Make the folder where it is missing; refuse one that holds somebody's files, before anything is written there.

    `of_authn`: for an AuthN server, and not for a cluster; the folder of the other one is refused, too.
    """
    has_authn = (data_dir / AUTHN_DATABASE).exists()
    if has_authn and not (data_dir / FORMAT_FILE).exists():
        raise FolderError(
            f"{data_dir} belongs to the cluster in {data_dir.parent}, which serves it itself "
            f"(ais serve {data_dir.parent} --authn local): name another folder"
        )
    if of_authn and any((data_dir / name).exists() for name in _CONTENT):
        raise FolderError(
            f"{data_dir} is the data folder of a cluster: name another one for the AuthN server "
            f"(or have the cluster bring its own: ais serve {data_dir} --authn local)"
        )
    if not of_authn and has_authn:
        raise FolderError(
            f"{data_dir} is the folder of an AuthN server, which is served by: ais authn serve {data_dir}; "
            "name another one for data"
        )
    new = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
    try:
        data_dir.mkdir(0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise FolderError(f"{data_dir} is no folder: there is a file of that name on the way") from error
    for folder in new:
        with suppress(PermissionError):  # one may make something in a folder that one may not read
            sync_folder(folder.parent)
    if (data_dir / FORMAT_FILE).exists():
        return
    strange = sorted({entry.name for entry in data_dir.iterdir()} - _TRACES)
    # Looked at again: a server that starts here at the same time writes the format before anything else.
    if strange and not (data_dir / FORMAT_FILE).exists():
        raise FolderError(
            f"{data_dir} is not an AIStore data folder and not empty (it holds {', '.join(strange[:3])}"
            f"{', ...' if len(strange) > 3 else ''}); name an empty or a new folder"
        )


def lock_file(path: Path, *, shared: bool = False) -> int | None:
    """An open descriptor that holds the lock of `path`, or `None` where somebody else does. Does not wait."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


def find_server(data_dir: Path) -> RunningServer | None:
    """The server that runs on this folder, if any. A server that starts or stops is running, without a URL."""
    try:
        fd = os.open(data_dir / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_holder(fd)
        return None
    finally:
        os.close(fd)


def _read_holder(fd: int) -> RunningServer:
    try:
        said = json.loads(os.pread(fd, 4096, 0))
        holder = RunningServer(int(said["pid"]), str(said["url"]), float(said.get("grace", 0)))
        os.kill(int(said["pid"]), 0)
    except (ValueError, KeyError, TypeError, ProcessLookupError):
        # Empty, or left by a server that was killed: the present holder has not written yet.
        return RunningServer(None, "")
    except PermissionError:
        pass  # another user's process: it is there
    return holder


class ServedFolder:
    """A data folder for as long as this process serves it. Takes the lock on construction."""

    def __init__(self, data_dir: Path, *, of_authn: bool = False) -> None:
        self.data_dir = data_dir
        make_folder(data_dir, of_authn=of_authn)
        self._fd = self._claim()
        try:
            self._check_format()
        except BaseException:
            os.close(self._fd)
            raise

    def _claim(self) -> int:
        deadline = time.monotonic() + _CLAIM_SECONDS
        while True:
            fd = lock_file(self.data_dir / LOCK)
            if fd is not None:
                os.ftruncate(fd, 0)
                return fd
            running = find_server(self.data_dir)
            if running and (running.url or time.monotonic() > deadline):
                raise FolderInUseError(self.data_dir, running.pid, running.url)
            time.sleep(0.02)

    def _check_format(self) -> None:
        path = self.data_dir / FORMAT_FILE
        try:
            found = int(json.loads(path.read_bytes())["format"])
        except FileNotFoundError:
            write_whole(path, json.dumps({"format": FORMAT}).encode() + b"\n")
            return
        except (ValueError, KeyError, TypeError) as error:
            raise FolderError(f"{path} does not tell the format of this data folder: {error}") from error
        if found > FORMAT:
            raise FolderError(
                f"{self.data_dir} has format {found}, made by a newer aistore-py; this one reads formats up to {FORMAT}. "
                "Upgrade with: pip install -U aistore-py"
            )

    def serving(self, url: str, grace: float) -> None:
        """Tell whoever looks at the folder where its server answers."""
        os.pwrite(self._fd, json.dumps({"pid": os.getpid(), "url": url, "grace": grace}).encode() + b"\n", 0)

    def leaving(self) -> None:
        """From here on nobody is sent to this server."""
        os.ftruncate(self._fd, 0)

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._fd)


def log_tail(data_dir: Path) -> str:
    """The end of the server's log; empty where there is none."""
    try:
        with (data_dir / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 16384))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-_TAIL_LINES:])
    except FileNotFoundError:
        return ""
