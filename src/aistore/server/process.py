"""The life of a server process around its node: the data folder's lock, the log, and what makes it stop.

A process stops on SIGTERM (also SIGINT, and SIGHUP of its terminal), when its starter is gone (`parent`), or when nobody has used it for
a while (`settings.idle_exit`). Requests that are under way have `settings.grace` seconds then; a second SIGTERM or SIGINT ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import logging.handlers
import os
import resource
import shutil
import signal
import threading
import time
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from aistore.server.folder import CLIENTS_LOCK, ServedFolder, lock_file
from aistore.server.logs import access_log, errors_log, first_line, formatter
from aistore.server.requests_log import ACCESS
from aistore.server.settings import LOCAL_AUTHN
from aistore.wire import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from io import TextIOWrapper
    from pathlib import Path
    from typing import Protocol

    from aistore.server.settings import ServerSettings

    class ProcessSettings(Protocol):
        """What a process has to know: of the settings of a node, or of an AuthN server."""

        @property
        def role(self) -> str:
            """`node`, `target` or `authn`; a target has no folder of its own."""

        @property
        def data_dir(self) -> Path:
            """The data folder."""

        @property
        def host(self) -> str:
            """Address to bind."""

        @property
        def port(self) -> int:
            """Port to bind."""

        @property
        def durability(self) -> str:
            """What a change survives."""

        @property
        def idle_exit(self) -> float | None:
            """Seconds that a server which belongs to nobody stays after its last client."""

        @property
        def temporary(self) -> bool:
            """Whether an orphaned server removes its folder."""

        @property
        def grace(self) -> float:
            """Seconds that requests may take which are under way when it is told to stop."""

        @property
        def log_level(self) -> str:
            """What is logged."""

        @property
        def log_format(self) -> str:
            """In which form."""

        @property
        def access_log(self) -> bool:
            """Whether requests that went well are logged, too."""

        @property
        def log_path(self) -> Path:
            """Where."""

    class Serving(Protocol):
        """What a process runs: `server.node.Node`, or `server.authn.service.AuthnService`."""

        url: str

        async def start(self) -> None:
            """Open the store and serve; `url` is set afterwards."""

        async def stop(self, grace: float) -> None:
            """Finish what is under way, within `grace` seconds, and close everything."""

        def kill(self) -> None:
            """End the processes that belong to it at once: this one is about to end."""


log = logging.getLogger("aistore.server")

_LOG_BYTES = 4 << 20
_LOGS_KEPT = 3

# How long closing may take, behind the grace, before the process ends regardless: what was acknowledged is safe in either mode.
_STOP_SECONDS = 20.0


class Stop(Enum):
    """Why a server process ends."""

    SIGNAL = "told to stop"
    ORPHAN = "its starter is gone"
    IDLE = "nobody used it any more"
    GONE = "its data folder was removed"


class PortError(Exception):
    """The port to serve on cannot be had."""


def run(
    settings: ServerSettings,
    announce: Callable[[str], None],
    *,
    parent: int | None = None,
    stderr_to_log: bool = False,
) -> None:
    """Serve a data folder as a node until something says stop; see `run_service`."""
    from aistore.server.node import Node

    settings = with_secrets(settings)
    run_service(settings, lambda: Node(settings), announce, parent=parent, stderr_to_log=stderr_to_log)


def with_secrets(settings: ServerSettings) -> ServerSettings:
    """Take what is secret from the environment, where processes that are started from here would find it."""
    secret, public = (environment.take(name) for name in (environment.SECRET_KEY, environment.PUBLIC_KEY))
    password = environment.take(environment.SU_PASS)
    if not settings.authn or settings.role == "target":
        return settings
    name, given = settings.authn_first
    first = (name or os.environ.get(environment.SU_NAME, ""), given or password)
    # A public key comes before a secret (protocol/60 13.1); a server of one's own signs, and needs a secret.
    found = secret if settings.authn == LOCAL_AUTHN else public or secret
    return replace(settings, authn_secret=settings.authn_secret or found, authn_first=first)


def run_service(
    settings: ProcessSettings,
    make: Callable[[], Serving],
    announce: Callable[[str], None],
    *,
    parent: int | None = None,
    stderr_to_log: bool = False,
) -> None:
    """Serve until something says stop. `announce` is called with the URL once the server answers.

    `parent` is a descriptor whose end of file means that the starter is gone. With `stderr_to_log`, standard error
    follows the log as it rotates. Raises `FolderError`, `FolderInUseError` and `PortError` before it served.
    """
    os.umask(0o077)  # what is in the data folder is for its owner
    resource.setrlimit(
        resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1])
    )  # nor its secrets in a core dump
    _spare_the_collector()
    _keep_what_is_freed()
    folder = ServedFolder(settings.data_dir, of_authn=settings.role == "authn") if settings.role != "target" else None
    _open_log(settings, stderr_to_log)
    orphaned = False
    try:
        reason = asyncio.run(_serve(make(), settings, folder, announce, parent))
        orphaned = reason is Stop.ORPHAN
    finally:
        if orphaned and settings.temporary and folder is not None:
            shutil.rmtree(settings.data_dir, ignore_errors=True)
        if folder:
            folder.close()


def _spare_the_collector() -> None:
    """Have the cyclic collector run rarely.

    What a server keeps by the hundred thousand (rows, connections) has no cycles, and looking through it again and again costs more than
    half of a PUT's CPU (measured: 41 us with the default thresholds, 16 us without any collection).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def _keep_what_is_freed() -> None:
    """Have buffers of up to 2 MiB use again what was freed, instead of having the system map pages for each, and clear them.

    glibc maps what is larger than 128 KiB, and gives free memory of more than that back, until a larger piece was freed: from then on what
    is smaller comes from memory that it keeps, twice as much at most. Without this, a tenth of the time that a batch takes goes into
    mapping. The piece here is never written to, so it takes no memory. Elsewhere it does nothing.
    """
    bytes(2 << 20)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _hear_signals(loop: asyncio.AbstractEventLoop, node: Serving, stop: Callable[[Stop], None]) -> None:
    """Stop at a signal, and end at once at another one."""
    told = False

    def signalled(number: signal.Signals) -> None:
        nonlocal told
        # A terminal that is closed may send SIGHUP more than once.
        if told and number != signal.SIGHUP:
            log.warning("told to stop once more: ending at once")
            node.kill()
            os._exit(128 + number)
        told = True
        stop(Stop.SIGNAL)

    def hung_up() -> None:
        if terminal:
            signalled(signal.SIGHUP)
        else:  # daemons are sent it when their certificate was renewed
            log.info("SIGHUP: certificates are read again whenever their files change, all else at a start")

    terminal = _has_terminal()  # a terminal that was closed cannot be asked any more
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, signalled, number)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, hung_up)


async def _serve(
    node: Serving,
    settings: ProcessSettings,
    folder: ServedFolder | None,
    announce: Callable[[str], None],
    parent: int | None,
) -> Stop:
    from aistore.server.descriptors import on_loop_error

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(on_loop_error)
    stopped: asyncio.Future[tuple[Stop, float]] = loop.create_future()

    def stop(reason: Stop, grace: float = settings.grace) -> None:
        if not stopped.done():
            stopped.set_result((reason, grace))

    _hear_signals(loop, node, stop)
    if parent is not None:
        threading.Thread(
            target=_watch_parent, args=(parent, loop, stop, settings.grace), daemon=True, name="parent"
        ).start()

    await _start(node, settings)
    idle: asyncio.Task[None] | None = None
    grace = settings.grace
    try:
        if folder:
            folder.serving(node.url, settings.grace)
        log.info("serving %s at %s (%s, process %d)", settings.data_dir, node.url, settings.durability, os.getpid())
        announce(node.url)
        if settings.idle_exit is not None:
            idle = asyncio.create_task(_watch_clients(settings, stop))
        reason, grace = await stopped
        log.info("stopping: %s", reason.value)
    finally:
        if idle:
            idle.cancel()
        if folder:
            folder.leaving()
        await _within(grace + _STOP_SECONDS, node.stop(grace))
    return reason


async def _start(node: Serving, settings: ProcessSettings) -> None:
    try:
        await node.start()
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise
        why = os.strerror(error.errno).lower()
        raise PortError(f"cannot serve on {settings.host}:{settings.port}: {why} (port 0 takes a free one)") from error


async def _within(seconds: float, stopping: Coroutine[object, object, None]) -> None:
    try:
        await asyncio.wait_for(stopping, seconds)
    except asyncio.TimeoutError:
        log.warning("did not stop within %g s; ending anyway", seconds)


def _watch_parent(fd: int, loop: asyncio.AbstractEventLoop, stop: Callable[[Stop, float], None], grace: float) -> None:
    """Wait for the end of the starter's pipe. A thread, so that a loop which hangs does not keep an orphan alive.

    A starter that says so, in a line before the end, gives what runs less time than the settings do.
    """
    said = b""
    while data := os.read(fd, 4096):
        said = data
    with contextlib.suppress(ValueError):  # it has said nothing
        grace = min(grace, float(said))
    with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending already
        loop.call_soon_threadsafe(stop, Stop.ORPHAN, grace)
    time.sleep(grace + 2 * _STOP_SECONDS)
    os._exit(1)


async def _watch_clients(settings: ProcessSettings, stop: Callable[[Stop], None]) -> None:
    """Stop once no client has held the folder for `idle_exit` seconds.

    The lock that proves it is kept, so that a client that comes now waits until this process is gone.
    """
    assert settings.idle_exit is not None
    every = min(1.0, max(0.02, settings.idle_exit / 4))
    alone_since: float | None = None
    told = False
    loop = asyncio.get_running_loop()
    while True:
        try:
            fd = lock_file(settings.data_dir / CLIENTS_LOCK)
        except FileNotFoundError:
            stop(Stop.GONE)
            return
        except OSError as error:  # no descriptor left, or a folder that cannot be reached for a while
            if not told:
                told = True
                log.warning("cannot tell whether anybody uses %s: %s", settings.data_dir, error)
            fd = None
        if fd is None:
            alone_since = None
        elif alone_since is None or loop.time() - alone_since < settings.idle_exit:
            alone_since = loop.time() if alone_since is None else alone_since
            os.close(fd)
        else:
            stop(Stop.IDLE)
            return
        await asyncio.sleep(every)


class _LogFile(logging.handlers.RotatingFileHandler):
    """The rotated log of the data folder; standard error can follow it (tracebacks of a dying interpreter)."""

    def __init__(self, path: Path, stderr_follows: bool, first_line: Callable[[], str] = str) -> None:
        self._first_line = first_line
        super().__init__(path, maxBytes=_LOG_BYTES, backupCount=_LOGS_KEPT, encoding="utf-8", errors="backslashreplace")
        self._stderr_follows = stderr_follows
        self._redirect()

    def _open(self) -> TextIOWrapper:
        stream = super()._open()
        if not stream.tell():
            stream.write(self._first_line())
            stream.flush()
        return stream

    def doRollover(self) -> None:
        super().doRollover()
        self._redirect()

    def _redirect(self) -> None:
        if self._stderr_follows and self.stream:
            os.dup2(self.stream.fileno(), 2)


def _open_log(settings: ProcessSettings, stderr_to_log: bool) -> None:
    path = settings.log_path
    form = formatter(settings.log_format)
    errors = _LogFile(errors_log(path), stderr_follows=False)
    errors.setLevel(logging.WARNING)
    handlers: list[logging.Handler] = [_LogFile(path, stderr_to_log, partial(first_line, settings.log_format)), errors]
    if not stderr_to_log:
        terminal = logging.StreamHandler()
        terminal.setLevel(logging.WARNING)
        handlers.append(terminal)
    for handler in handlers:
        handler.setFormatter(form)
        log.addHandler(handler)
    log.setLevel(settings.log_level.upper())
    log.propagate = False
    if settings.access_log:
        requests, access = logging.getLogger(ACCESS), _LogFile(access_log(path), stderr_follows=False)
        access.setFormatter(form)
        requests.addHandler(access)
        requests.setLevel(logging.INFO)
        requests.propagate = False
