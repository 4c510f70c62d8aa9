"""TLS of the server: what stands between a connection and the transport of its socket.

A layer of our own and not asyncio's: a client that does not finish its handshake has no more time than one that does not finish a
head; who speaks plain HTTP is told so; an answer that broke off ends without the record that says that all was sent (RFC 8446 6.1).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from aistore.http1.connection import Connection

__all__ = ["RECEIVE", "TlsTransport"]

logger = logging.getLogger("aistore.server.tls")  # the name under which servers log

RECEIVE: Final = 64 * 1024
"""Bytes received at once, into a buffer that all connections of a loop share."""
# At once, of the two: OpenSSL's buffers never shrink, so what they once held is held for each idle connection. A record has 16 KiB at most.
_DECRYPT: Final = 8 * 1024
_ENCRYPT: Final = 16 * 1024
_SEND: Final = 64 * 1024
_HANDSHAKE_RECORD: Final = 22
_PLAIN: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 48\r\nConnection: close\r\n\r\n"
    b"Client sent an HTTP request to an HTTPS server.\n"
)


class TlsTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """The transport that a connection sees, and the protocol of the socket's own.

    The connection is told at once that it is made, so that its limits hold for the handshake too; what it writes before the handshake is
    done waits for it.
    """

    def __init__(self, context: ssl.SSLContext, connection: Connection, buffer: memoryview) -> None:
        super().__init__()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._connection: Connection | None = connection
        self._buffer = buffer
        self._socket: asyncio.Transport
        self._begun = False  # the first byte was seen
        self._ready = False  # the handshake is done
        self._early = b""  # what is to be sent after it
        self._held = b""  # what came while the connection takes no more
        self._paused = False
        self._decrypting = False
        self._heard_all = False  # the client sends no more
        self._end_is_due = False  # after the handshake
        self._dropping = False  # what it still sends counts for nothing
        self._closing = False

    # -- protocol of the socket's transport --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        assert self._connection is not None
        self._socket = transport
        self._connection.connection_made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        connection, self._connection = self._connection, None  # no cycle is left for the collector
        self._closing = True
        if connection is not None:
            connection.connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio's signature)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._dropping or self._closing:
            return
        if not self._begun:
            self._begun = True
            if self._buffer[0] != _HANDSHAKE_RECORD:
                self._socket.write(_PLAIN)
                self._give_up("no TLS")
                return
        if self._held:
            self._held += self._buffer[:nbytes]
        else:
            self._take(self._buffer[:nbytes])

    def eof_received(self) -> bool:
        if not self._ready or self._dropping:
            return False
        self._go_on()
        self._hear_end()
        return True

    def pause_writing(self) -> None:
        if self._connection is not None:
            self._connection.pause_writing()

    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.resume_writing()

    # -- transport of the connection ---------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: object = None) -> object:
        """As the socket's transport; `ssl_object` is that of this connection."""
        return self._tls if name == "ssl_object" else self._socket.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        if self._closing or self._dropping:
            return
        if not self._ready:
            self._early += data
            return
        view = memoryview(data)
        for start in range(0, len(view), _SEND):
            if self._socket.is_closing():  # the client is gone, which the connection is told soon
                return
            if len(view) <= _ENCRYPT:  # as most answers are
                self._tls.write(view)
                self._socket.write(self._outgoing.read())
                return
            records = []
            for at in range(start, min(start + _SEND, len(view)), _ENCRYPT):
                self._tls.write(view[at : at + _ENCRYPT])
                records.append(self._outgoing.read())
            self._socket.write(b"".join(records))

    def pause_reading(self) -> None:
        """Hand over nothing more."""
        self._paused = True
        self._socket.pause_reading()

    def resume_reading(self) -> None:
        """Hand over what has come, and what comes."""
        self._paused = False
        self._socket.resume_reading()
        if self._ready and not self._decrypting and (self._held or self._incoming.pending or self._tls.pending()):
            asyncio.get_running_loop().call_soon(self._go_on)

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing or self._socket.is_closing()

    def can_write_eof(self) -> bool:
        """Yes."""
        return True

    def write_eof(self) -> None:
        """Say that all was sent; what the client still sends is dropped."""
        if not self._ready:  # what is to be said first waits for the handshake
            self._end_is_due = True
            return
        self._say_end()
        self._dropping = True
        self._socket.write_eof()

    def close(self) -> None:
        """Close when all was sent, and say that it was."""
        if self._closing:
            return
        if self._ready:
            self._say_end()
        self._closing = True
        self._socket.close()

    def abort(self) -> None:
        """Close at once; the client sees that not all was sent."""
        self._closing = True
        self._socket.abort()

    def get_write_buffer_size(self) -> int:
        """Encrypted bytes that the socket has not taken yet."""
        return self._socket.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Of encrypted bytes."""
        self._socket.set_write_buffer_limits(high, low)

    # -- TLS ---------------------------------------------------------------------------------------------------

    def _take(self, data: memoryview) -> None:
        """Decrypt and hand over what has come, as far as the connection takes it."""
        for at in range(0, len(data), _DECRYPT):
            if self._dropping or self._closing:
                return
            if self._paused:
                self._held = bytes(data[at:])
                return
            self._incoming.write(data[at : at + _DECRYPT])
            if self._ready:
                self._decrypt()
            else:
                self._shake_hands()

    def _go_on(self) -> None:
        """Hand over what was held back."""
        self._decrypt()
        held, self._held = self._held, b""
        self._take(memoryview(held))

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._flush()  # the alert that says why
            self._give_up(str(error.reason or error))
            return
        self._ready = True
        self._flush()
        early, self._early = self._early, b""
        if early:
            self.write(early)
        if self._end_is_due:  # refused before it could say anything
            self.write_eof()
        else:
            self._decrypt()

    def _give_up(self, why: str) -> None:
        """End without a connection; the client can still read why."""
        assert self._connection is not None
        logger.info("no TLS connection with %s: %s", self._connection.peer, why)
        self._dropping = True
        self._socket.write_eof()
        self._connection.refused()

    def _decrypt(self) -> None:
        """Hand over what has come."""
        connection = self._connection
        if self._decrypting or connection is None:
            return
        self._decrypting = True
        try:
            while not (self._paused or self._dropping or self._closing):
                view = connection.get_buffer(-1)
                count = cast("int", self._tls.read(len(view), cast("bytearray", view)))  # typeshed knows only bytes
                if not count:
                    self._hear_end()
                    break
                connection.buffer_updated(count)
                if not self._incoming.pending and not self._tls.pending():
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._hear_end()
        except ssl.SSLError as error:
            logger.info("broken TLS record of %s: %s", connection.peer, error.reason)
            self.abort()
            return
        finally:
            self._decrypting = False
        self._flush()

    def _hear_end(self) -> None:
        """The client sends no more, and has said so or not: requests tell how long they are."""
        if not self._heard_all and self._connection is not None:
            self._heard_all = True
            if not self._connection.eof_received():
                self.close()

    def _say_end(self) -> None:
        with contextlib.suppress(ssl.SSLError):  # it wants the client's word too, for which nobody waits
            self._tls.unwrap()
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._socket.write(self._outgoing.read())
