"""The keeper of a transformer's processes: a script of the standard library alone, one for each running ETL.

The server starts it with one line of JSON on its standard input, which then stays open for as long as the ETL is wanted: its end, also by
`kill -9` of the server, ends all that the transformer has started. The keeper writes `{"pid": ..., "guarded": ...}` to its standard
output, keeps what the transformer prints in two files of bounded size, and exits with the status of the transformer's main process
(128 and the signal's number for one that was killed). A line that comes later is given back when what was printed until then is kept.

What is started is a process group of its own. On Linux nothing gets out of it: processes that leave the group come back to the keeper, which
reaps and kills them; and where the keeper is root, the transformer lives in a PID namespace, so that it cannot signal processes of the
machine (`os.kill(1, ...)` is its own init), and the kernel ends all of it at once. There it also has a mount namespace, in which the data
folder can only be read: file modes do not keep root from writing (`guarded`). Everybody else's is kept from signalling what it has not
started by Landlock, from Linux 6.12 on.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import struct
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_SCOPE_SIGNAL = 2
_CLONE_NEWNS = 0x00020000
_CLONE_NEWPID = 0x20000000
_MS_READ_ONLY = 1
_MS_NO_SUID_DEV_EXEC = 2 | 4 | 8
_MS_REMOUNT = 0x20
_MS_BIND = 0x1000
_MS_REC_PRIVATE = 0x4000 | 0x40000
_MNT_DETACH = 2
_NOT_RUN = 127
_DRAIN_SECONDS = 0.5
_FIRST_TO_BE_KILLED = "1000"

Spec = dict[str, object]


def main() -> int:
    """Run what the standard input says; the exit status of the transformer."""
    spec = _read_spec()
    wake_in, wake_out = os.pipe()
    os.set_blocking(wake_out, False)
    os.set_blocking(wake_in, False)
    signal.set_wakeup_fd(wake_out, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    isolated = sys.platform == "linux" and os.geteuid() == 0 and _unshare(_CLONE_NEWPID)
    guarded = isolated and _unshare(_CLONE_NEWNS) and _guard(_pairs(spec, "mounts"))
    output, inherited = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(output)
            _child(spec, inherited, isolated)
        finally:
            os._exit(_NOT_RUN)
    os.close(inherited)
    for fd in _inherited(spec):
        os.close(fd)
    _say({"pid": child, "guarded": guarded})
    return _Keeping(spec, child, output, wake_in, isolated).run()


def _read_spec() -> Spec:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 1 << 20)
        if not piece:
            sys.exit(0)  # the server is gone before it said anything
        line += piece
    spec: Spec = json.loads(line)
    return spec


def _say(document: dict[str, object]) -> None:
    os.write(1, json.dumps(document).encode() + b"\n")


class _Keeping:
    """One transformer, from its start to its end."""

    def __init__(self, spec: Spec, child: int, output: int, wake: int, isolated: bool) -> None:
        self._child = child
        self._output = output
        self._wake = wake
        self._isolated = isolated
        self._log = _Ring(str(spec["log"]), _number(spec, "log_bytes"))
        self._grace = float(str(spec["grace"]))
        self._kill_at: float | None = None
        self._status: int | None = None

    def run(self) -> int:
        poll = select.poll()
        for fd in (0, self._output, self._wake):
            poll.register(fd, select.POLLIN)
        while self._status is None:
            left = None if self._kill_at is None else max(0.0, self._kill_at - time.monotonic())
            ready = dict(poll.poll(None if left is None else left * 1000))
            if self._output in ready and not self._log.take(self._output):
                poll.unregister(self._output)
            if self._wake in ready and self._was_told_to_stop():
                self._stop()
            if 0 in ready and not self._has_answered():
                poll.unregister(0)
                self._stop()
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._kill()
            self._reap()
        self._end()
        return self._status

    def _has_answered(self) -> bool:
        """Give back what the server asks, behind all that was printed; False at the end of its asking."""
        asked = os.read(0, 4096)
        if asked:
            if select.select([self._output], [], [], 0.0)[0]:
                self._log.take(self._output)  # which is all that a pipe holds
            with contextlib.suppress(BrokenPipeError):
                os.write(1, asked)
        return bool(asked)

    def _was_told_to_stop(self) -> bool:
        return any(number != signal.SIGCHLD for number in os.read(self._wake, 4096))

    def _stop(self) -> None:
        """Ask all to end; they are killed a while later."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._grace
            _signal(os.kill if self._isolated else os.killpg, self._child, signal.SIGTERM)

    def _kill(self) -> None:
        _signal(os.kill, self._child, signal.SIGKILL)
        if not self._isolated:
            _signal(os.killpg, self._child, signal.SIGKILL)
        self._kill_at = time.monotonic() + 1.0

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._child:
                code = os.waitstatus_to_exitcode(status)
                self._status = code if code >= 0 else 128 - code

    def _end(self) -> None:
        """Kill what outlived the main process, and take what it printed last."""
        _signal(os.killpg, self._child, signal.SIGKILL)
        while children := _children():
            for pid in children:
                _signal(os.kill, pid, signal.SIGKILL)
            for pid in children:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)
        deadline = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < deadline and select.select([self._output], [], [], 0.0)[0]:
            if not self._log.take(self._output):
                break


class _Ring:
    """What was printed: the file `path`, and the one before it (`path.1`), each of half the bytes that are kept."""

    def __init__(self, path: str, limit: int) -> None:
        self._path = path
        self._limit = limit // 2
        self._size = 0
        self._fd = self._open()

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def take(self, fd: int) -> bool:
        """Keep what there is to read; False at the end. What the disk does not take is dropped."""
        data = os.read(fd, 1 << 16)
        if not data:
            return False
        try:
            if self._size + len(data) > self._limit:
                os.close(self._fd)
                os.replace(self._path, self._path + ".1")  # noqa: PTH105 (no pathlib: it takes a while to import)
                self._fd, self._size = self._open(), 0
            os.write(self._fd, data)
        except OSError:
            pass
        self._size += len(data)
        return True


# -- the other side of the fork --------------------------------------------------------------------------------------


def _child(spec: Spec, output: int, isolated: bool) -> None:
    signal.set_wakeup_fd(-1)
    if not isolated:
        _keep_signals_in()
        _become(spec, output)
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if _unshare(_CLONE_NEWNS):
        _mount(None, b"/", _MS_REC_PRIVATE)
        _mount(b"proc", b"/proc", _MS_NO_SUID_DEV_EXEC, b"proc")
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: told.append(number))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD))
    main_process = os.fork()
    if main_process == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _become(spec, output)
        return
    os.closerange(0, 1 << 16)
    os._exit(_be_init(main_process))


def _be_init(main_process: int) -> int:
    """The first process of the namespace: hand on what tells to stop, reap, and end with the main process (the kernel kills the rest)."""
    while True:
        number = signal.sigwait((signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD))
        if number != signal.SIGCHLD:
            _signal(os.killpg, main_process, signal.SIGTERM)
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return _NOT_RUN
            if pid == 0:
                break
            if pid == main_process:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code


def _become(spec: Spec, output: int) -> None:
    """Turn into the transformer's main process."""
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    argv, env = _texts(spec, "argv"), _pairs(spec, "env")
    try:
        for fd in _inherited(spec):
            os.set_inheritable(fd, True)
        _limit(_pairs(spec, "limits"))
        _be_killed_first()
        os.chdir(str(spec["cwd"]))
        os.execvpe(argv[0], argv, env)  # noqa: S606 (what this script is for)
    except (OSError, ValueError) as error:
        os.write(2, f"cannot run {argv[0]}: {error}\n".encode())
    os._exit(_NOT_RUN)


def _limit(limits: dict[str, str]) -> None:
    """Lower limits of this process and what it starts; those that the system does not have are left out."""
    for name, text in limits.items():
        which = getattr(resource, f"RLIMIT_{name}", None)
        if which is None:
            continue
        _, hard = resource.getrlimit(which)
        value = int(text) if hard == resource.RLIM_INFINITY else min(int(text), hard)
        resource.setrlimit(which, (value, value))


def _keep_signals_in() -> None:
    """Where the system has it, let this process and its children signal each other only."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    # struct landlock_ruleset_attr: files, network, scopes
    attributes = struct.pack("=QQQ", 0, 0, _LANDLOCK_SCOPE_SIGNAL)
    rules = libc.syscall(
        ctypes.c_long(_LANDLOCK_CREATE_RULESET), attributes, ctypes.c_size_t(len(attributes)), ctypes.c_long(0)
    )
    if rules < 0:
        return
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)  # what the system asks for
    libc.syscall(ctypes.c_long(_LANDLOCK_RESTRICT_SELF), ctypes.c_long(rules), ctypes.c_long(0))
    os.close(rules)


def _be_killed_first() -> None:
    """Where the machine runs out of memory, have the kernel end this, and not the server."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123 (as above)
        file.write(_FIRST_TO_BE_KILLED)


def _inherited(spec: Spec) -> list[int]:
    return [int(text) for text in _texts(spec, "fds")]


def _texts(spec: Spec, name: str) -> list[str]:
    values = spec[name]
    assert isinstance(values, list)
    return [str(value) for value in values]


def _pairs(spec: Spec, name: str) -> dict[str, str]:
    values = spec[name]
    assert isinstance(values, dict)
    return {str(key): str(value) for key, value in values.items()}


def _number(spec: Spec, name: str) -> int:
    return int(str(spec[name]))


# -- the system ------------------------------------------------------------------------------------------------------


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, int(value), 0, 0, 0)


def _unshare(flags: int) -> bool:
    """Whether the system gave new namespaces; a container often may not have them."""
    return bool(ctypes.CDLL(None, use_errno=True).unshare(flags) == 0)


def _guard(mounts: dict[str, str]) -> bool:
    """Show folders as told, the later over the earlier ones, to this process and its children: `ro` or `rw`. All of them or, if one cannot be, none."""
    if not _mount(None, b"/", _MS_REC_PRIVATE):
        return False
    for count, (path, mode) in enumerate(mounts.items()):
        place = os.fsencode(path)
        flags = _MS_REMOUNT | _MS_BIND | (os.statvfs(place).f_flag & _MS_NO_SUID_DEV_EXEC)
        if mode == "ro":
            flags |= _MS_READ_ONLY
        bound = _mount(place, place, _MS_BIND)
        if not (bound and _mount(None, place, flags)):
            for done in reversed(list(mounts)[: count + bound]):
                ctypes.CDLL(None).umount2(os.fsencode(done), _MNT_DETACH)
            return False
    return True


def _mount(source: bytes | None, place: bytes, flags: int, kind: bytes | None = None) -> bool:
    return bool(ctypes.CDLL(None, use_errno=True).mount(source, place, kind, flags, None) == 0)


def _signal(send: object, pid: int, number: int) -> None:
    assert callable(send)
    with contextlib.suppress(
        ProcessLookupError, PermissionError
    ):  # gone, or nothing of it is left that can be signalled
        send(pid, number)


def _children() -> list[int]:
    """Processes whose parent is the keeper: on Linux also those whose own parent has died."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:  # noqa: PTH123 (no pathlib: it takes a while to import)
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(main())
