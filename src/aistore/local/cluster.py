"""A server of one's own: `LocalCluster`."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from aistore.server.folder import LOCK, OWNER_LOCK, lock_file
from aistore.server.listening import bind
from aistore.server.settings import CA, PROMOTE_ROOT, ServerSettings, limits_from, parse_size
from aistore.server.spawn import Started, start

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from aistore.sdk import Client
    from aistore.server.store.durability import Durability

_PREFIX = "aistore-"
_STOP_SECONDS = 30.0


class LocalCluster:
    """An AIStore cluster on this machine that lives as long as this object, and dies with this process.

        with LocalCluster() as cluster:
            cluster.client().bucket("images").create()

    path        the data folder, kept afterwards; without one a temporary folder, removed afterwards
    targets     1: one process is gateway and target at once; N > 1: a gateway that redirects to N target processes
    durability  "strict" (survives power loss; default with a path) or "relaxed" (survives `kill -9`; default without)
    port        0: a free one, kept over `restart()`
    backends    where remote buckets live: {"aws": {"endpoint": "http://127.0.0.1:9000"}}, {"ais": {"far": "http://..."}}
    capacity    how much content to accept, in bytes or as "10GiB"; without it, what the disk holds
    promote_root the folder that files may be promoted from; without it, /var/lib/ais/promote
    allow_hosts further names of this machine that requests may be sent to; addresses and `localhost` always are
    etl         False: a cluster without ETL, which answers 501
    tls         True: HTTPS with a certificate that it makes (needs the extra `[tls]`); or a pair of paths, certificate and key
    tls_client_ca  clients have to show a certificate of the CA in this file; tls_client_auth 3: only those that show one are checked
    authn       URL of the AuthN server whose tokens are asked for; the secret that it shares is in AIS_AUTHN_SECRET_KEY. Or "local": one of
                its own, on `authn_port` (default 52001); its first administrator's password is in AIS_AUTHN_SU_PASS
    limits      what clients may take, by the names in docs/limits.md: {"jobs": 64, "grace": 3}

    `start()` and `stop()` do the same without `with`. Raises `ServerStartError`, `FolderInUseError` and
    `SettingsError` (a `ValueError`). Not for sharing: give other processes `url`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        targets: int = 1,
        durability: Durability | None = None,
        port: int = 0,
        capacity: int | str | None = None,
        promote_root: str | os.PathLike[str] | None = None,
        backends: Mapping[str, Mapping[str, str]] | None = None,
        allow_hosts: Sequence[str] = (),
        etl: bool = True,
        tls: bool | tuple[str | os.PathLike[str], str | os.PathLike[str]] = False,
        tls_client_ca: str | os.PathLike[str] | None = None,
        tls_client_auth: int | None = None,
        authn: str = "",
        authn_port: int | None = None,
        limits: Mapping[str, int | float | str] | None = None,
        log_level: str = "info",
    ) -> None:
        self._temporary = path is None
        cert, key = tls if isinstance(tls, tuple) else ("", "")
        self._asked = ServerSettings(
            Path(path).expanduser().absolute() if path is not None else Path(),
            port=port,
            targets=targets,
            durability=durability or ("relaxed" if path is None else "strict"),
            capacity=None if capacity is None else parse_size(capacity),
            promote_root=PROMOTE_ROOT if promote_root is None else str(Path(promote_root).expanduser().absolute()),
            backends=backends or {},
            allow_hosts=tuple(allow_hosts),
            etl=etl,
            tls_cert=_absolute(cert),
            tls_key=_absolute(key),
            tls_self_signed=tls is True,
            tls_client_ca=_absolute(tls_client_ca or ""),
            tls_client_auth=tls_client_auth,
            authn=authn,
            authn_port=authn_port,
            limits=limits_from(limits or {}),
            log_level=log_level,
            temporary=self._temporary,
        )
        self._running: _Running | None = None
        self._folder: _TemporaryFolder | None = None

    def __repr__(self) -> str:
        state = f"{self.url} on {self.path}" if self._running else "stopped"
        return f"<LocalCluster {state}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a LocalCluster belongs to the process that started it; give others its url")

    @property
    def url(self) -> str:
        """Where it answers, for example `http://127.0.0.1:40001`."""
        return self._state.url

    @property
    def pid(self) -> int:
        """The server's process; with several targets, the gateway's."""
        return self._state.process.pid

    @property
    def path(self) -> Path:
        """The data folder."""
        if self._folder:
            return self._folder.path
        if self._temporary:
            raise RuntimeError("a LocalCluster without a path has no data folder before start()")
        return self._asked.data_dir

    @property
    def _state(self) -> _Running:
        if self._running is None:
            raise RuntimeError("this LocalCluster is not running; call start(), or use it in a `with` statement")
        return self._running

    def client(self) -> Client:
        """A client of this cluster, which trusts its certificate."""
        from aistore.sdk import Client

        if self._asked.tls_self_signed:
            return Client(self.url, ca_cert=str(self.ca_cert))
        # Whom a certificate of others is for, the data folder tells.
        return Client(f"local://{quote(str(self.path))}" if self._asked.tls_cert else self.url)

    @property
    def ca_cert(self) -> Path:
        """What other clients have to trust: the CA that was made, or the certificate. RuntimeError without TLS."""
        files = replace(self._asked, data_dir=self.path).tls
        if files is None:
            raise RuntimeError("this LocalCluster speaks plain HTTP; LocalCluster(tls=True) has a certificate")
        return self.path / CA if files.self_signed else Path(files.cert)

    def start(self) -> LocalCluster:
        """Start it and wait until it answers (a fraction of a second). Returns itself."""
        if self._running:
            raise RuntimeError(f"this LocalCluster is running already, at {self.url}")
        if self._temporary and self._folder is None:
            self._folder = _TemporaryFolder()
        try:
            self._run(self._asked.port)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop it, and remove a temporary folder. Nothing happens where it is stopped already."""
        self._end()
        if self._folder:
            self._folder.remove()
            self._folder = None

    def restart(self) -> None:
        """Stop it, or find it dead, and start it again on the same folder and port."""
        port = urlsplit(self.url).port or 0
        self._end()
        with _kept(port):
            self._run(port)

    def __enter__(self) -> LocalCluster:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, port: int) -> None:
        started = start(replace(self._asked, data_dir=self.path, port=port))
        self._running = _Running(started, self._asked.limits.grace)
        # Whoever forgets stop() gets it when the object goes or the interpreter ends.
        self._forgotten = weakref.finalize(self, _forget, self._running, self._folder)

    def _end(self) -> None:
        if self._running:
            self._forgotten.detach()
            self._running.end()
            self._running = None


@contextlib.contextmanager
def _kept(port: int) -> Iterator[None]:
    """Have a port given to nobody but a server. On Linux, which lets it share one that is bound and not listened to."""
    with contextlib.ExitStack() as stack:
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # somebody was quicker: the start says so
                stack.enter_context(bind("127.0.0.1", port))
        yield


def _absolute(path: str | os.PathLike[str]) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


class _Running:
    """A server process and the pipe that keeps it alive."""

    def __init__(self, started: Started, grace: float) -> None:
        self.process, self.url, self.lifeline = started.process, started.ready.url, started.lifeline
        self._grace = grace
        self._owner = os.getpid()
        _alive.add(self)

    def end(self) -> None:
        """Ask it to stop, and kill it if it does not. In a forked child, which does not own it, nothing."""
        if os.getpid() != self._owner:
            return
        self.process.terminate()
        try:
            self.process.wait(self._grace + _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.close_lifeline()

    def close_lifeline(self) -> None:
        """The server ends when the last copy is closed."""
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1


_alive: weakref.WeakSet[_Running] = weakref.WeakSet()


def _close_copies() -> None:
    """A forked child must not keep its parent's servers alive."""
    for running in list(_alive):
        running.close_lifeline()


os.register_at_fork(after_in_child=_close_copies)


def _forget(running: _Running, folder: _TemporaryFolder | None) -> None:
    running.end()
    if folder:
        folder.remove()


class _TemporaryFolder:
    """A data folder that goes with its owner. Those of owners that were killed go when the next one is made."""

    def __init__(self) -> None:
        base = Path(tempfile.gettempdir())
        _remove_stale(base)
        self._owner = os.getpid()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        # Locked before it has the name that `_remove_stale` looks for.
        unseen = self.path / f"{OWNER_LOCK}.new"
        self._fd = lock_file(unseen)
        unseen.rename(self.path / OWNER_LOCK)

    def remove(self) -> None:
        if self._fd is not None and os.getpid() == self._owner:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._fd)
            self._fd = None


def _remove_stale(base: Path) -> None:
    for path in base.glob(f"{_PREFIX}*"):
        try:
            if path.stat().st_uid != os.getuid() or not (path / OWNER_LOCK).is_file():
                continue
            held = [lock_file(path / OWNER_LOCK), lock_file(path / LOCK)]
        except OSError:
            continue  # gone meanwhile, or not ours to look into
        if all(fd is not None for fd in held):
            shutil.rmtree(path, ignore_errors=True)
        for fd in held:
            if fd is not None:
                os.close(fd)
