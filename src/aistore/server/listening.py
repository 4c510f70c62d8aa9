"""Where a server listens, and what its clients call that."""

from __future__ import annotations

import socket

__all__ = ["bind", "url_of"]


def url_of(host: str, port: int) -> str:
    """The URL of a host or address, and a port."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def bind(host: str, port: int) -> socket.socket:
    """A socket that is bound, and does not listen yet; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock
