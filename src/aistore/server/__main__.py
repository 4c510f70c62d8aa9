"""Entry of a server process that another process started: `LocalCluster`, `local:` endpoints, and a gateway's targets.

People start a server with `ais serve`. What goes over standard input and output is described in `server/spawn.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys

from aistore.server.folder import FolderInUseError
from aistore.server.settings import ServerSettings
from aistore.server.spawn import ServerStartError


def main() -> None:
    """Read the settings, serve, and end with the starter (or, where the settings say so, with the last client)."""
    settings = ServerSettings.decode(sys.stdin.buffer.readline())
    if settings.idle_exit is None:
        # Ctrl-C on a terminal reaches every process of the group: the starter decides what becomes of its server.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    else:
        if os.fork():
            os._exit(0)  # so that the server is nobody's child, and never a zombie of the one that started it
        _replace(sys.stdin.fileno(), os.O_RDONLY)

    from aistore.server.process import run

    try:
        parent = None if settings.idle_exit is not None else sys.stdin.fileno()
        run(settings, _announce, parent=parent, stderr_to_log=True)
    except FolderInUseError as error:
        _answer({"error": str(error), "in_use": {"pid": error.pid, "url": error.url}})
        sys.exit(1)
    except ServerStartError as error:  # of one of its targets
        _answer({"error": error.reason})
        raise
    except Exception as error:
        _answer({"error": f"{error}" or repr(error)})
        raise  # the traceback goes to the log


def _announce(url: str) -> None:
    _answer({"url": url, "pid": os.getpid()})
    _replace(sys.stdout.fileno(), os.O_WRONLY)


def _answer(said: dict[str, object]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the starter died meanwhile; the end of standard input says so too
        os.write(sys.stdout.fileno(), json.dumps(said).encode() + b"\n")


def _replace(fd: int, flags: int) -> None:
    null = os.open(os.devnull, flags)
    os.dup2(null, fd)
    os.close(null)


if __name__ == "__main__":
    main()
