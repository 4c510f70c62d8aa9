"""Runs a transformer that `Etl.init_class` sent: what a cluster's Python image does (protocol/50 8.2), without a container.

    python -m aistore.sdk.etl.webserver.bootstrap

reads the environment: `ETL_CLASS_PAYLOAD` (or `ETL_CLASS_PAYLOAD_FILE`, for classes that are too large for a variable), `PACKAGES` and
`OS_PACKAGES` (comma-separated), `AIS_ETL_FOR_PIP` (variables for `pip` alone, as JSON), `NUM_WORKERS`, and where to listen: the inherited socket `AIS_ETL_FD`, or `AIS_ETL_HOST` and `AIS_ETL_PORT`.
It exits with 1 when the transformer cannot start, and says why on standard error; otherwise it serves until SIGTERM.

`HTTPMultiThreadedServer` runs in this process. For the other two it forks workers, which all accept on one socket; one that dies is
replaced, but not for ever.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aistore.sdk.etl.webserver import _workers
from aistore.sdk.etl.webserver._listening import listening_socket
from aistore.sdk.etl.webserver._packages import PackageError, check_os_packages, environment_with, missing
from aistore.sdk.etl.webserver._visitors import wsgi_without_strangers
from aistore.sdk.etl.webserver.base_etl_server import LOG_FORMAT, ETLServer
from aistore.wire import environment

if TYPE_CHECKING:
    import socket

__all__ = ["main"]

log = logging.getLogger("bootstrap")

_ENTERED = "AIS_ETL_ENTERED"
"""Set when this process is in the environment of its packages already."""


class CannotStart(Exception):
    """Why the transformer does not start."""


def main() -> int:
    """Run the transformer that the environment describes; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    try:
        payload = _payload()
        _enter_environment()
        cls = _load(payload)
        _serve(cls)
    except CannotStart as reason:
        print(f"ERROR: {reason}", file=sys.stderr, flush=True)
        return 1
    except PackageError as reason:
        log.error("%s", reason)  # noqa: TRY400  the reason says all
        return 1
    return 0


def _payload() -> str:
    file = os.environ.get("ETL_CLASS_PAYLOAD_FILE")
    payload = Path(file).read_text() if file else os.environ.get("ETL_CLASS_PAYLOAD", "")
    if not payload.strip():
        raise CannotStart("ETL_CLASS_PAYLOAD is not set")
    return payload


def _enter_environment() -> None:
    """Go on in the environment of the packages, if there are any; this process becomes its interpreter."""
    if os.environ.pop(_ENTERED, None):
        return
    for_pip: dict[str, str] = json.loads(environment.take("AIS_ETL_FOR_PIP") or "{}")  # it may hold passwords
    check_os_packages(_listed("OS_PACKAGES"))
    packages = _requirements()
    if missing(packages):
        given = os.environ.get("AIS_ETL_ENVS")
        folder = Path(given or Path.home() / ".cache" / "aistore" / "etl")
        # Who gives a folder removes the one that this process began in, when that is killed half way.
        python = environment_with(packages, folder, Path.cwd() if given else folder, for_pip)
        os.environ[_ENTERED] = "1"
        os.execv(python, [str(python), "-m", "aistore.sdk.etl.webserver.bootstrap"])  # noqa: S606  no shell is the point


def _listed(variable: str) -> list[str]:
    return [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]


def _requirements() -> list[str]:
    """What to install. A comma also stands within a requirement: between extras, and between bounds of a version."""
    found: list[str] = []
    for part in _listed("PACKAGES"):
        if found and (part[0] in "<>=!~" or found[-1].count("[") > found[-1].count("]")):
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def _load(payload: str) -> type[ETLServer]:
    from aistore.sdk.etl.webserver.utils import deserialize_class

    try:
        return deserialize_class(payload)
    except Exception as error:
        raise CannotStart(f"Failed to deserialize ETL class: {error}") from error


def _instance(cls: type[ETLServer]) -> ETLServer:
    try:
        server = cls()
    except Exception as error:
        log.exception("the constructor failed")
        raise CannotStart(f"Failed to instantiate ETLServer: {error}") from error
    if not hasattr(server, "host_target"):
        raise CannotStart(f"Failed to instantiate ETLServer: {cls.__name__}.__init__() has to call super().__init__()")
    return server


def _serve(cls: type[ETLServer]) -> None:
    names = {base.__name__ for base in cls.__mro__ if base.__module__.startswith("aistore.sdk.etl.webserver.")}
    if "HTTPMultiThreadedServer" in names:
        _serve_threads(_instance(cls))
    elif "FastAPIServer" in names:
        _workers.supervise(_count(), lambda sock: _serve_fastapi(cls, sock), _listen())
    elif "FlaskServer" in names:
        _workers.serve_wsgi(_count(), lambda: _flask_app(cls), _listen())
    else:
        raise CannotStart(f"Unsupported server type: {cls.__name__}")


def _serve_threads(server: ETLServer) -> None:
    host, port = _address()
    server.host, server.port = host, port  # type: ignore[attr-defined]  # HTTPMultiThreadedServer has them
    server.start()


def _serve_fastapi(cls: type[ETLServer], sock: socket.socket) -> None:
    from aistore.sdk.etl.webserver._serving import serve_asgi

    server = _instance(cls)
    serve_asgi(server.app, *_address(), sock)  # type: ignore[attr-defined]  # FastAPIServer has it


def _flask_app(cls: type[ETLServer]) -> object:
    return wsgi_without_strangers(_instance(cls).app)  # type: ignore[attr-defined]  # FlaskServer has it


def _address() -> tuple[str, int]:
    return os.environ.get("AIS_ETL_HOST", "127.0.0.1"), int(os.environ.get("AIS_ETL_PORT", "8000"))


def _listen() -> socket.socket:
    return listening_socket(*_address())


def _count() -> int:
    text = os.environ.get("NUM_WORKERS", "").strip()
    if text and not (text.isascii() and text.isdigit()):
        raise CannotStart(f"NUM_WORKERS is no number of processes: {text!r}")
    return int(text or 0) or min(6, max(2, os.cpu_count() or 1))


if __name__ == "__main__":
    sys.exit(main())
