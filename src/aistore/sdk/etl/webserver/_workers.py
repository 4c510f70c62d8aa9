"""Worker processes of a transformer, which accept on one socket."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import mmap
import os
import signal
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["serve_wsgi", "supervise"]

DEATHS: Final = 5
"""Workers that may die within a minute; with one more the transformer ends."""

_CANNOT_START: Final = 70
_MINUTE: Final = 60.0
_PR_SET_PDEATHSIG: Final = 1
_GRACE: Final = 10

log = logging.getLogger("bootstrap")


def supervise(count: int, work: Callable[[socket.socket], None], sock: socket.socket) -> None:
    """Run `work` in `count` processes, and new ones for those that die, until SIGTERM or SIGINT.

    Raises SystemExit when one could not start, or too many died. `work` says that it cannot start by an exception, which is shown.
    """
    supervisor = _Supervisor(work, sock)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, supervisor.end)
    for _ in range(count):
        supervisor.fork()
    supervisor.watch()


class _Deaths:
    """When workers died; `are_too_many` counts one more."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def are_too_many(self) -> bool:
        """Whether the last minute had more than one can live with."""
        now = time.monotonic()
        self._times.append(now)
        while self._times and now - self._times[0] > _MINUTE:
            self._times.popleft()
        return len(self._times) > DEATHS


class _Supervisor:
    def __init__(self, work: Callable[[socket.socket], None], sock: socket.socket) -> None:
        self._work = work
        self._socket = sock
        self._workers: set[int] = set()
        self._deaths = _Deaths()
        self._ending = False
        self._failed = False

    def fork(self) -> None:
        """Start a worker."""
        parent = os.getpid()
        # A signal between the fork and the child's own handlers would be taken for one to this process.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        try:
            if self._ending:
                return
            pid = os.fork()
            if not pid:
                self._be_worker(parent)
            self._workers.add(pid)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))

    def _be_worker(self, parent: int) -> None:
        code = _CANNOT_START
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
            die_with_parent(parent)
            self._work(self._socket)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException as error:
            print(f"ERROR: {error}", file=sys.stderr, flush=True)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def end(self, *_: object) -> None:
        """Tell the workers to end, and end those that do not, after a while: a transformation may never return."""
        self._ending = True
        signal.signal(signal.SIGALRM, lambda *_: self._send(signal.SIGKILL))
        signal.alarm(_GRACE)
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def watch(self) -> None:
        """Wait for the end, and replace workers that die before."""
        while self._workers:
            pid, status = os.wait()
            if pid not in self._workers:
                continue
            self._workers.discard(pid)
            if self._ending:
                continue
            code = os.waitstatus_to_exitcode(status)
            log.error("worker %d ended with %d", pid, code)
            if code == _CANNOT_START or self._deaths.are_too_many():
                self._failed = True
                self.end()
            else:
                self.fork()
        if self._failed:
            raise SystemExit(1)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent` is gone, however it ended (Linux; elsewhere the group is killed by who started it)."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def serve_wsgi(count: int, make_app: Callable[[], object], sock: socket.socket) -> None:
    """Serve a WSGI application with gunicorn in `count` processes of threads each; `make_app` runs in every one.

    Raises SystemExit as `supervise`.
    """
    from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]  # it has no types

    parent = os.getpid()
    failed = mmap.mmap(-1, 1)  # shared with the workers
    deaths = _Deaths()

    def give_up() -> None:
        failed[0] = 1
        os.kill(parent, signal.SIGTERM)

    def count_death(_arbiter: object, _worker: object) -> None:
        if deaths.are_too_many():
            give_up()

    class Application(BaseApplication):  # type: ignore[misc]  # as above
        def load_config(self) -> None:
            settings: dict[str, Any] = {
                "bind": f"fd://{sock.fileno()}",
                "workers": count,
                "worker_class": "gthread",
                "threads": 8,
                "keepalive": 120,
                "timeout": 0,  # how long an object may take is the server's business
                "graceful_timeout": _GRACE,
                "control_socket_disable": True,
                "post_fork": lambda _arbiter, _worker: die_with_parent(parent),
                "child_exit": count_death,
            }
            for name, value in settings.items():
                if name in self.cfg.settings:  # not all versions have all
                    self.cfg.set(name, value)

        def load(self) -> object:
            try:
                return make_app()
            except Exception as error:
                # gunicorn would start the next one, which fails as well.
                print(f"ERROR: {error}", file=sys.stderr, flush=True)
                give_up()
                os._exit(_CANNOT_START)

    try:
        Application().run()
    except SystemExit as end:  # with a code of gunicorn's own where a worker does not start
        raise SystemExit(1 if end.code or failed[0] else 0) from None
