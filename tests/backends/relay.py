"""A relay in front of a backend that can be told to misbehave: to refuse, and to cut answers."""

from __future__ import annotations

import contextlib
import re
import socket
import threading

_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n")


def refuse(status: str, body: bytes = b"", *lines: str) -> bytes:
    """An answer that refuses a request, for `Relay.answers`."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Relay:
    """Passes connections on to `address`, in threads, for as long as the `with` block."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._to = (host, int(port))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._requests: list[tuple[str, str]] = []
        self.refuses = False
        """Close what connects, unheard."""
        self.cuts: list[int] = []
        """Bytes after which the next connections whose answers get that long are cut, one each."""
        self.answers: list[bytes] = []
        """What the next requests are answered instead of being passed on, one each; see `refuse`."""
        self.answers_all = b""
        """What every request is answered."""
        self.cuts_all = 0
        """Bytes after which every connection is cut; 0 for none."""
        self._server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.drop()

    def drop(self) -> None:
        """Break all connections."""
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def cut_off(self) -> None:
        """From now on nobody gets through."""
        with self._lock:
            self.refuses = True
        self.drop()

    def restore(self) -> None:
        """Behave again."""
        self.refuses, self.cuts_all, self.cuts, self.answers, self.answers_all = False, 0, [], [], b""

    def requests(self, method: str, part: str) -> int:
        """How many requests of this method there were with `part` in their target."""
        with self._lock:
            return sum(1 for sent, target in self._requests if sent == method and part in target)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            try:
                server = socket.create_connection(self._to)
            except OSError:
                client.close()
                continue
            with self._lock:
                refuses = self.refuses  # from a moment ago: whoever set it has dropped what was open
                if not refuses:
                    self._open |= {client, server}
            if refuses:
                client.close()
                server.close()
                continue
            threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, asks: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if asks:
                    if found := _REQUEST.match(data):
                        with self._lock:
                            self._requests.append((found[1].decode(), found[2].decode()))
                            answer = self.answers.pop(0) if self.answers else self.answers_all
                        if answer:
                            self._answer(source, answer)
                            break
                else:
                    passed += len(data)
                    if self._cuts(passed):
                        break
                sink.sendall(data)
        with self._lock:
            self._open -= {source}
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        source.close()

    @staticmethod
    def _answer(client: socket.socket, answer: bytes) -> None:
        """Answer and close, after having read what the client still sends: it would lose the answer else."""
        client.sendall(answer)
        client.shutdown(socket.SHUT_WR)
        while client.recv(1 << 16):
            pass

    def _cuts(self, passed: int) -> bool:
        if self.cuts_all and passed > self.cuts_all:
            return True
        with self._lock:
            if self.cuts and passed > self.cuts[0]:
                self.cuts.pop(0)
                return True
        return False
