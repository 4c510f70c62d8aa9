"""A blocking client socket over TLS that receives many records with one call of the system.

Python's own takes two for each record of 16 KiB, and more with a timeout: reading 1 GiB costs 0.9 s of CPU with it, and 0.5 s here.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    import socket

__all__ = ["TlsSocket"]

_RECEIVE: Final = 256 * 1024
_ENCRYPT: Final = 256 * 1024


class TlsSocket:
    """What a connection uses of a socket. `sock` is blocking; its timeouts are the system's, and raise `BlockingIOError`.

    An end that the server did not announce is a `ConnectionResetError`: what came before may be cut (RFC 8446 6.1).
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        """Shakes hands; `ssl.SSLError` when the peer is not who it should be, or the socket's `OSError`."""
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._buffer = memoryview(bytearray(16 * 1024))
        try:
            self._shake_hands()
        finally:
            with suppress(OSError):  # the alert that says why
                self._flush()

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if not self._receive():
                    raise ConnectionResetError("the connection ended within the TLS handshake") from None
            else:
                return

    def recv(self, size: int, flags: int = 0) -> bytes:  # noqa: ARG002  as of a socket; there is none that it can follow
        """Some bytes, none at the announced end."""
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._more()
            except ssl.SSLZeroReturnError:
                return b""

    def recv_into(self, view: memoryview) -> int:
        """As many bytes as are there, one at least; 0 at the announced end."""
        got = 0
        try:
            while got < len(view):
                if got and not self._incoming.pending:
                    break
                with view[got:] as part:  # released whatever happens: its owner may be resized then
                    count = self._read_into(part)
                if not count:
                    break
                got += count
        except ssl.SSLError:
            if not got:
                raise
        return got

    def _read_into(self, view: memoryview) -> int:
        while True:
            try:
                return cast("int", self._tls.read(len(view), cast("bytearray", view)))  # typeshed knows only bytes
            except ssl.SSLWantReadError:
                self._more()
            except ssl.SSLZeroReturnError:
                return 0

    def sendall(self, data: bytes | memoryview, flags: int = 0) -> None:  # noqa: ARG002  as of a socket
        """Send all of `data`."""
        with memoryview(data) as view:
            for at in range(0, len(view), _ENCRYPT):
                with view[at : at + _ENCRYPT] as part:
                    self._tls.write(part)
                self._flush()

    def is_quiet(self) -> bool:
        """Whether all that came was read."""
        return not self._incoming.pending and not self._tls.pending()

    def setsockopt(self, level: int, name: int, value: bytes) -> None:
        """As of a socket."""
        self._sock.setsockopt(level, name, value)

    @property
    def raw(self) -> socket.socket:
        """The socket below."""
        return self._sock

    def close(self) -> None:
        """Close, and say nothing: a forked child closes its copies too."""
        self._sock.close()

    def _more(self) -> None:
        self._flush()
        if not self._receive():
            raise ConnectionResetError("the server closed the connection without saying that this was all")

    def _receive(self) -> int:
        count = self._sock.recv_into(self._buffer)
        self._incoming.write(self._buffer[:count])
        if count == len(self._buffer) < _RECEIVE:  # a long answer
            self._buffer = memoryview(bytearray(_RECEIVE))
        return count

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._sock.sendall(self._outgoing.read())
