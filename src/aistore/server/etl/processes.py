"""The processes of one running ETL, behind their keeper (`keeper.py`)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.server.etl.images import LOOPBACK, program_of
from aistore.server.etl.proc import memory_of_machine, open_to_others, usage

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from aistore.server.etl.message import Launch
    from aistore.server.etl.proc import Usage

__all__ = ["ProcessFailed", "Processes"]

logger = logging.getLogger(__name__)

LOG_BYTES: Final = 2 << 20
"""Bytes that are kept of what a transformer prints."""

_TAIL_BYTES: Final = 2048
_TAIL_LINES: Final = 80
_GRACE: Final = 5.0
_START_SECONDS: Final = 30.0
_HEARD_SECONDS: Final = 5.0
_BACKLOG: Final = 512
_KEEPER: Final = Path(__file__).resolve().parent / "keeper.py"
_FILES_MAX: Final = 65536
_OBJECTS: Final = "objects"


class ProcessFailed(Exception):
    """A transformer could not be started."""


class Processes:
    """What runs for one ETL: a keeper, and the process group that it started, on a loopback port."""

    def __init__(
        self,
        name: str,
        folder: Path,
        port: int,
        keeper: Process,
        said: _Said,
        reserved: socket.socket | None,
        hidden: tuple[str, ...],
    ) -> None:
        self.name = name
        self.folder = folder
        self.port = port
        self.pid = said.pid
        """The first process behind the keeper."""
        self.may_link = said.guarded or os.geteuid() != 0
        """Whether it may be given links to content: it cannot write to them, by its view of the data folder, or by their mode."""
        self._hidden = [one.encode() for one in hidden]
        self._keeper = keeper
        self._reserved = reserved
        self._last_words: str | None = None
        self._asking = asyncio.Lock()
        self._asked = 0
        self.is_ours = reserved is None
        """Whether a class of our framework runs, and not a program that has a command of its own."""
        self.ended = asyncio.ensure_future(keeper.wait())
        """Exit status of the main process, when all of its group is gone."""

    @classmethod
    async def start(
        cls, name: str, launch: Launch, env: dict[str, str], folder: Path, *, ws: bool, hidden: tuple[str, ...]
    ) -> Processes:
        """Start the transformer's program; `env` goes over what the message says, but for its last word, and has what is `hidden` in it.

        `folder` is its own, in the folder of all ETLs, which lies in the data folder. Raises `NoImage`, `ProcessFailed`, `OSError`.
        """
        for part in ("tmp", _OBJECTS):
            (folder / part).mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as undo:
            sock = undo.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((LOOPBACK, 0))
            port: int = sock.getsockname()[1]
            program = program_of(launch, ws=ws, folder=folder, environments=folder.parent / ".environments", port=port)
            fds = []
            if program.socket:
                # Connections inherit it, those too that are made before the transformer accepts any.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.listen(_BACKLOG)
                fds = [sock.fileno()]
                env = {**env, "AIS_ETL_FD": str(sock.fileno())}
            spec = {
                "argv": program.argv,
                "env": {**program.env, **env, **launch.last},
                "cwd": str(folder / "tmp"),
                "mounts": _mounts(folder),
                "log": str(folder / "log"),
                "log_bytes": LOG_BYTES,
                "grace": _GRACE,
                "limits": _limits(launch.memory),
                "fds": fds,
            }
            keeper, said = await _start_keeper(spec, fds)
            reserved = None
            if not program.socket:
                # One that does not listen shares its address with a server that sets SO_REUSEADDR, as servers do, and keeps others away.
                undo.pop_all()
                reserved = sock
        logger.info("ETL %s: process %d listens at %s:%d", name, said.pid, LOOPBACK, port)
        return cls(name, folder, port, keeper, said, reserved, hidden)

    @property
    def objects(self) -> Path:
        """The folder for what it is given by name."""
        return self.folder / _OBJECTS

    @property
    def running(self) -> bool:
        """Whether the main process lives."""
        return not self.ended.done()

    def release_port(self) -> None:
        """The transformer listens: its port need not be kept for it any more."""
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    def end(self) -> None:
        """Begin to end everything: SIGTERM, and SIGKILL a while later."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()

    async def stop(self) -> int:
        """End everything and remove its files; the exit status."""
        self.end()
        self.release_port()
        try:
            status = await asyncio.shield(self.ended)
        finally:
            if not self.ended.done():  # whoever stops it was cancelled
                self.ended.add_done_callback(lambda _: shutil.rmtree(self.folder, ignore_errors=True))
        self._last_words = self.log_tail()
        await asyncio.get_running_loop().run_in_executor(None, lambda: shutil.rmtree(self.folder, ignore_errors=True))
        return status

    # -- what it says and takes ------------------------------------------------------------------------------------

    def without_secrets(self, said: bytes) -> bytes:
        """What it said, without the secret of its URL and the key: who may read its errors or its log may not read all buckets."""
        for one in self._hidden:
            said = said.replace(one, b"***")
        return said

    async def heard(self) -> None:
        """Wait until what it has printed so far is in its log."""
        stdin, stdout = self._keeper.stdin, self._keeper.stdout
        assert stdin is not None
        assert stdout is not None
        async with self._asking:
            if stdin.is_closing():
                return
            self._asked += 1
            line = b"%d\n" % self._asked
            stdin.write(line)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(_until_line(stdout, line), _HEARD_SECONDS)

    def log(self) -> bytes:
        """What it printed: all of it, or as much of the end as is kept (blocking)."""
        found = b""
        for path in (self.folder / "log.1", self.folder / "log"):
            try:
                found += path.read_bytes()
            except FileNotFoundError:
                continue
        return self.without_secrets(found)

    def log_tail(self) -> str:
        """The last lines that it printed (a short read); also when it is gone."""
        if self._last_words is not None:
            return self._last_words
        data = b""
        for path in (self.folder / "log", self.folder / "log.1"):
            try:
                with path.open("rb") as file:
                    size = file.seek(0, os.SEEK_END)
                    file.seek(max(0, size - _TAIL_BYTES + len(data)))
                    data = file.read() + data
            except FileNotFoundError:
                continue
            if len(data) >= _TAIL_BYTES:
                break
        text = self.without_secrets(data)[-_TAIL_BYTES:].decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-_TAIL_LINES:])

    def usage(self) -> Usage | None:
        """What its processes take together; None where the system does not tell."""
        return usage(self._keeper.pid)

    def open_to_others(self) -> str | None:
        """Where one of them listens beyond loopback, if that is so."""
        return open_to_others(self._keeper.pid)


class _Said(msgspec.Struct):
    """What a keeper says when it has started the transformer."""

    pid: int
    guarded: bool
    """Whether what was to be read only is."""


async def _start_keeper(spec: dict[str, object], fds: list[int]) -> tuple[Process, _Said]:
    """A keeper that does what `spec` says, and what it says itself. Raises `ProcessFailed`."""
    keeper = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        str(_KEEPER),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
        env={"PATH": os.environ.get("PATH", os.defpath)},
        pass_fds=fds,
        start_new_session=True,
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        keeper.stdin.write(json.dumps(spec).encode() + b"\n")
        line = await asyncio.wait_for(keeper.stdout.readline(), _START_SECONDS)
        return keeper, msgspec.json.decode(line, type=_Said)
    except BaseException as error:
        keeper.kill()
        await keeper.wait()
        if isinstance(error, (msgspec.MsgspecError, asyncio.TimeoutError)):
            raise ProcessFailed("its keeper did not start") from error
        raise


async def _until_line(stdout: asyncio.StreamReader, line: bytes) -> None:
    """Read until a line, or the end; answers that were waited for too long come before it."""
    while await stdout.readline() not in (line, b""):
        pass


def _mounts(folder: Path) -> dict[str, str]:
    """How a transformer of root sees the data folder: it writes to the folders of ETLs only, and not to what it is given."""
    etl = folder.parent.resolve()
    return {str(etl.parent): "ro", str(etl): "rw", str(etl / folder.name / _OBJECTS): "ro"}


def _limits(memory: int) -> dict[str, str]:
    """Limits of each process: no core dumps, a bounded number of files, and memory of its own up to what was asked, or to all there is."""
    memory = memory or memory_of_machine()
    limits = {"CORE": "0", "NOFILE": str(_FILES_MAX)}
    if memory > 0:
        limits["DATA"] = str(memory)
    return limits
