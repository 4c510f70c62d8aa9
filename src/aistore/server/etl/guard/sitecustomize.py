"""Imported by Python at the start of a transformer with a command of its own: whatever it binds is on loopback, and at our port.

`AIS_ETL_CONTAINER_PORT` is the port that the image documents, `AIS_ETL_PORT` the one that the server asks at. Another `sitecustomize`
that the interpreter has is run as well.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import socket
import sys


def _guard() -> None:
    wanted, given = os.environ.get("AIS_ETL_CONTAINER_PORT", ""), os.environ.get("AIS_ETL_PORT", "")
    if not (wanted.isdigit() and given.isdigit()):
        return
    bind = socket.socket.bind

    def bind_here(sock: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and sock.family in (socket.AF_INET, socket.AF_INET6):
            here = "127.0.0.1" if sock.family == socket.AF_INET else "::1"
            port = int(given) if address[1] == int(wanted) else address[1]
            address = (here, port, *address[2:])
        bind(sock, address)  # type: ignore[arg-type]  # the address that the caller gave, of whatever kind

    socket.socket.bind = bind_here  # type: ignore[assignment, method-assign]  # what this module is for


def _other() -> None:
    """Run the `sitecustomize` that this one hides."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (imported before everything else)
    rest = [place for place in sys.path if os.path.abspath(place) != here]  # noqa: PTH100
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", rest)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


_guard()
_other()
