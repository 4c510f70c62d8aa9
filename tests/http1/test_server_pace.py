"""How fast clients have to send and to take, by a clock that the test moves."""

from __future__ import annotations

import asyncio
import socket

import pytest

from aistore.http1.connection import Connection
from aistore.http1.head import CHUNKED
from aistore.http1.server import HttpServer, Limits
from serving import ShowingService


class StillTransport(asyncio.Transport):
    """A transport whose client takes what it is told to take."""

    def __init__(self) -> None:
        super().__init__()
        self.sock = socket.socket()
        self.unsent = 0
        self.aborted = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": ("127.0.0.1", 1), "socket": self.sock}.get(name, default)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """Bytes come when the test says so."""

    resume_reading = pause_reading

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize(("taken", "lasts"), [(110, True), (90, False)])
def test_an_answer_has_to_be_taken_at_some_rate(taken: int, lasts: bool) -> None:
    """`taken` bytes a second, of answers that wait in memory."""

    async def main() -> None:
        server = HttpServer(ShowingService(), Limits(write=10, rate=100))
        connection = Connection(server)
        transport = StillTransport()
        connection.connection_made(transport)
        transport.unsent = 100_000
        connection.pause_writing()
        assert server.unread.used == 100_000
        while server.now < 300 and not transport.aborted:
            passed = max(1, int(connection.deadline - server.now) + 1)
            server.now += passed
            transport.unsent -= passed * taken
            connection.expire()
            assert transport.aborted or server.unread.used == transport.unsent
        assert transport.aborted is not lasts
        assert bool(transport.sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)[0]) is not lasts
        connection.connection_lost(None)
        assert server.unread.used == 0
        transport.sock.close()

    asyncio.run(main())


@pytest.mark.parametrize(("taken", "lasts"), [(110, True), (90, False)])
def test_a_file_has_to_be_taken_at_some_rate(taken: int, lasts: bool) -> None:
    """`taken` bytes a second, of an answer that is sent from a file, in turns of 5 seconds."""

    async def main() -> None:
        server = HttpServer(ShowingService(), Limits(write=10, rate=100))
        connection = Connection(server)
        transport = StillTransport()
        connection.connection_made(transport)
        sent = -1
        while server.now < 300:
            waiting = asyncio.ensure_future(connection.writable(transport.sock.fileno(), sent))
            await asyncio.sleep(0)
            over = connection.deadline < server.now
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            if over:
                break
            server.now += 5
            sent = 5 * taken
        assert over is not lasts
        transport.sock.close()

    asyncio.run(main())


class Trickle:
    """A connection on a clock of its own, to which one byte comes at a time."""

    def __init__(self, length: int, limits: Limits) -> None:
        self.server = HttpServer(ShowingService(), limits)
        self.transport = StillTransport()
        self.connection = Connection(self.server)
        self.connection.connection_made(self.transport)
        framing = b"Transfer-Encoding: chunked" if length == CHUNKED else b"Content-Length: %d" % length
        self.receive(b"PUT /echo HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % framing)

    def receive(self, data: bytes) -> None:
        while data:
            view = self.connection.get_buffer(-1)
            count = min(len(view), len(data))
            view[:count] = data[:count]
            self.connection.buffer_updated(count)
            data = data[count:]

    async def seconds(self, every: float, data: bytes = b"x") -> float:
        """How long the connection lasts when `data` comes again and again; at most 1000 seconds."""
        while self.server.now < 1000:
            for _ in range(3):  # the handler asks for more
                await asyncio.sleep(0)
            self.server.now += every
            if self.connection.deadline < self.server.now:
                break
            self.receive(data)
        now = self.server.now
        self.transport.sock.close()
        self.connection.connection_lost(None)
        await asyncio.gather(*self.server._tasks)
        return now


@pytest.mark.parametrize(
    ("length", "every", "data", "least", "most"),
    [(60_000, 1.0, b"x", 60, 75), (10_000_000, 1.0, b"x", 10, 15), (10_000_000, 9.0, b"x" * 500, 10, 30),
     (10_000_000, 1.0, b"x" * 1100, 1000, 1001), (10_000_000, 9.0, b"x" * 9100, 1000, 1010)],
)  # fmt: skip
def test_a_body_has_to_come_at_some_rate(length: int, every: float, data: bytes, least: float, most: float) -> None:
    """1000 bytes a second, here; a client that sends a byte now and then held a connection and its memory for days."""

    async def main() -> None:
        assert least <= await Trickle(length, Limits(body=10.0, rate=1000)).seconds(every, data) <= most

    asyncio.run(main())


def test_a_body_in_tiny_chunks_is_taken_in_small_turns() -> None:
    """What the loop does for a byte in a chunk of its own is a thousand times the work for one in a large chunk."""
    tiny, large = b"1\r\nx\r\n", b"10000\r\n%s\r\n" % bytes(0x10000)

    async def main() -> None:
        client = Trickle(CHUNKED, Limits())
        try:
            for data, limit in (
                (b"", 16 << 10),
                (tiny * 1000, 16 << 10),
                (large * 4, 256 << 10),
                (tiny * 1000, 16 << 10),
            ):
                client.receive(data)
                for _ in range(3):
                    await asyncio.sleep(0)
                assert len(client.connection.get_buffer(-1)) == limit
        finally:
            client.transport.sock.close()
            client.connection.connection_lost(None)
            await asyncio.gather(*client.server._tasks)

    asyncio.run(main())
