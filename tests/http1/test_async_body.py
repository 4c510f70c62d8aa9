"""Bodies of answers on an asyncio connection: how much a read gives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from aistore.http1.aio import AsyncConnection
from aistore.http1.aio_body import AsyncBody
from peer import Peer

if TYPE_CHECKING:
    from peer import PeerConnection

CONTENT = bytes(range(251)) * 3000
PIECE = 7000

HEADS = {
    "sized": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CONTENT),
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "closing": b"HTTP/1.0 200 OK\r\n\r\n",
}


@pytest.mark.parametrize("framing", HEADS)
def test_a_read_gives_less_than_it_was_asked_for_at_the_end_only(framing: str) -> None:
    def script(connection: PeerConnection) -> None:
        connection.request()
        connection.send(HEADS[framing])
        for at in range(0, len(CONTENT), PIECE):
            piece = CONTENT[at : at + PIECE]
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece)
        connection.send(b"0\r\n\r\n" if framing == "chunked" else b"")

    async def read(port: int, size: int) -> list[bytes]:
        connection = await AsyncConnection.connect("127.0.0.1", port, 10)
        try:
            await connection.send("GET", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", None, expect=False)
            _, body = await connection.receive("GET")
            assert isinstance(body, AsyncBody)
            found = []
            while data := await body.read(size):
                found.append(data)
            return found
        finally:
            connection.close()

    for size in (1000, 300_000, 2_000_000):
        with Peer(script) as peer:
            found = asyncio.run(read(peer.port, size))
        assert b"".join(found) == CONTENT
        assert {len(data) for data in found[:-1]} <= {size}
