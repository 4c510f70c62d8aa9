"""Where a transformer listens: where it says, or on the socket that the runtime gives it."""

from __future__ import annotations

import os
import socket
from typing import Final

__all__ = ["BACKLOG", "FD", "listening_socket"]

FD: Final = "AIS_ETL_FD"
"""Variable of the environment: the number of an inherited socket that listens already. It replaces whatever host and port a server names."""

BACKLOG: Final = 1024


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; connections that it accepts send small answers at once. Raises OSError if the port is taken."""
    inherited = os.environ.get(FD)
    if inherited:
        listening = socket.socket(fileno=int(inherited))
    else:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    # Connections inherit it. gunicorn sends head and body one by one: without it, every answer waits 40 ms for an acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
