"""Starting a server process: what it is told and what it answers.

The starter writes the settings, one line of JSON, to the standard input of the new process, and reads one line of JSON
from its standard output: `{"url": ..., "pid": ...}` once it serves, or `{"error": ...}`. The standard input stays open as
long as the starter wants the server: its end, however it comes, also by `kill -9`, ends the server.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from aistore.server.folder import LOG, FolderError, FolderInUseError, log_tail, make_folder

if TYPE_CHECKING:
    from aistore.server.settings import ServerSettings

# How long a server may take until it answers. It takes a fraction of a second; a busy machine is not an error.
START_SECONDS = 60.0

_ROOT = Path(__file__).resolve().parents[2]
# With `-m`, the working directory would come first on the path, and a user's `json.py` or `queue.py` there would be
# imported. The package's own place comes last: it is there already unless the caller's path was changed by hand.
_BOOT = (
    f"import sys; sys.path[:1] = []; sys.path.append({str(_ROOT)!r}); from aistore.server.__main__ import main; main()"
)


class ServerStartError(RuntimeError):
    """A server did not start. The message says why; `log` is the end of what it logged."""

    def __init__(self, data_dir: Path, reason: str, log: str = "") -> None:
        super().__init__(data_dir, reason, log)
        self.data_dir, self.reason, self.log = data_dir, reason, log

    def __str__(self) -> str:
        text = f"no server on {self.data_dir}: {self.reason}"
        if self.log:
            text += f"\nThe end of {self.data_dir / LOG}:\n{self.log}"
        return text


@dataclass(frozen=True)
class Ready:
    """A server's answer to its starter."""

    url: str
    pid: int


@dataclass(frozen=True)
class Started:
    """A server process of ours. `lifeline` is the descriptor that keeps it alive, -1 for one that belongs to nobody."""

    process: subprocess.Popen[bytes]
    ready: Ready
    lifeline: int


def command(settings: ServerSettings) -> list[str]:
    """The command line of a server process. The last word is only for people who read `ps`."""
    if not sys.executable:
        raise ServerStartError(settings.data_dir, "sys.executable is empty: this Python cannot start another one")
    return [sys.executable, "-c", _BOOT, f"aistore-{settings.role}", str(settings.data_dir)]


def read_answer(settings: ServerSettings, line: bytes, status: int | None) -> Ready:
    """The ready line of a new server, or the error that it stands for. `status` is its exit status, where it ended."""
    try:
        said = json.loads(line) if line.endswith(b"\n") else {}
    except ValueError:
        said = {}
    if "url" in said:
        return Ready(said["url"], said["pid"])
    if said.get("in_use"):
        raise FolderInUseError(settings.data_dir, said["in_use"]["pid"], said["in_use"]["url"])
    if "error" in said:
        raise ServerStartError(settings.data_dir, said["error"])
    ended = "it did not answer" if status is None else f"it ended with status {status}"
    raise ServerStartError(settings.data_dir, f"{ended} before it served", log_tail(settings.data_dir))


def open_log(settings: ServerSettings) -> IO[bytes]:
    """The log of the data folder, for the standard error of a new process (tracebacks of a start that fails)."""
    try:
        make_folder(settings.data_dir)
        return open(settings.data_dir / LOG, "ab", opener=lambda path, flags: os.open(path, flags, 0o600))
    except FolderError as error:
        raise ServerStartError(settings.data_dir, str(error)) from error
    except OSError as error:
        raise ServerStartError(settings.data_dir, f"cannot write there: {error}") from error


def start(settings: ServerSettings) -> Started:
    """Start a server process and wait until it serves.

    The process ends when its `lifeline` is closed or this process dies; with `settings.idle_exit` it belongs to nobody
    and stays. Raises `ServerStartError` and `FolderInUseError`.
    """
    reading, lifeline = os.pipe()
    try:
        with open_log(settings) as log, open(reading, "rb") as stdin:  # noqa: PTH123  # a descriptor, not a path
            process = subprocess.Popen(  # noqa: S603  # our own interpreter and our own words
                command(settings),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                start_new_session=settings.idle_exit is not None,
            )
        try:
            ready = _talk(process, settings, lifeline)
        except BaseException:
            process.kill()
            process.wait()
            raise
    except BaseException:
        os.close(lifeline)
        raise
    if settings.idle_exit is not None:
        os.close(lifeline)
        process.wait()  # what we started has only forked
        return Started(process, ready, -1)
    return Started(process, ready, lifeline)


def _talk(process: subprocess.Popen[bytes], settings: ServerSettings, lifeline: int) -> Ready:
    assert process.stdout is not None
    with process.stdout:
        with contextlib.suppress(BrokenPipeError):  # it died at once; its answer, or its log, says why
            os.write(lifeline, settings.encode())
        line = _read_line(process.stdout.fileno(), time.monotonic() + START_SECONDS)
    ended = not line.endswith(b"\n") and process.poll() is not None
    return read_answer(settings, line, process.returncode if ended else None)


def _read_line(fd: int, deadline: float) -> bytes:
    """One line; what there is when the other side closes or the time is over."""
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while not line.endswith(b"\n") and selector.select(max(0.0, deadline - time.monotonic())):
            piece = os.read(fd, 65536)
            if not piece:
                break
            line += piece
    return line
