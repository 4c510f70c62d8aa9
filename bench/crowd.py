"""A crowd of clients that hold connections, until this process is ended.

    python -m bench.crowd KINDS HOST PORT COUNT PATH

KINDS, joined by `+`, are taken in turn: `idle` asked once and is silent; `head` sends a byte of its head each second; `stalled` stops within
an upload and `dripping` goes on with it by a byte each second; `deaf` asks for an object and never reads, `sipping` reads 16 bytes of it
each second. Writes a line once all have begun.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time

_STORED = 64 << 10  # of an upload that stops


class Client:
    """One connection."""

    def __init__(self, address: tuple[str, int], kind: str, path: str) -> None:
        self.kind = kind
        self.sock = socket.socket()
        if kind in ("deaf", "sipping"):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
        self.sock.settimeout(60.0)
        self.sock.connect(address)
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"
        if kind in ("stalled", "dripping"):
            head = f"PUT {path}-{self.sock.fileno()} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {1 << 20}\r\n"
        self.sock.sendall(f"{head}X-Slow: ".encode() if kind == "head" else f"{head}\r\n".encode())
        if kind == "stalled":
            self.sock.sendall(bytes(_STORED))
        if kind == "idle" and not self.sock.recv(65536).startswith(b"HTTP/1.1 200"):
            raise RuntimeError("the server refused")
        self.sock.setblocking(False)

    def go_on(self) -> None:
        """What it does each second; nothing once the server has closed."""
        with contextlib.suppress(OSError):
            if self.kind in ("head", "dripping"):
                self.sock.send(b"x")
            elif self.kind == "sipping":
                self.sock.recv(16)


def main() -> None:
    """Hold the connections."""
    kinds, host, port, count, path = sys.argv[1:]
    some = kinds.split("+")
    clients = [Client((host, int(port)), some[i % len(some)], path) for i in range(int(count))]
    print("ready", flush=True)
    # A little at a time, so that what is measured beside it is not one heap each second.
    share = max(1, len(clients) // 100)
    while True:
        began = time.monotonic()
        for at in range(0, len(clients), share):
            for client in clients[at : at + share]:
                client.go_on()
            time.sleep(max(0.0, began + (at + share) / len(clients) - time.monotonic()))


if __name__ == "__main__":
    main()
