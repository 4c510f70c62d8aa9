"""Where a server listens, and what its clients call that."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["bind", "bind_private", "private_address", "url_of"]


def url_of(host: str, port: int, *, tls: bool = False) -> str:
    """The URL of a host or address, and a port."""
    return f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"


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


def bind_private(data_dir: Path, node_id: str) -> socket.socket:
    """A socket in a data folder, which only its user's processes reach; takes the place of one that a killed process left."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with private_address(data_dir, node_id) as address:
            Path(address).unlink(missing_ok=True)
            sock.bind(address)
            Path(address).chmod(0o600)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def private_address(data_dir: Path, node_id: str) -> Iterator[str]:
    """Where the socket of a node in a data folder is bound and reached.

    Such addresses have at most 107 bytes (103 on macOS): on Linux the folder is named by a descriptor, which is open as long as the block.
    """
    name = f"{node_id}.sock"
    if sys.platform != "linux":
        yield str(data_dir / name)
        return
    folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{name}"
    finally:
        os.close(folder)
