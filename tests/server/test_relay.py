"""Asking another node: an answer is had whole, or it is none."""

from __future__ import annotations

import asyncio

import pytest

from aistore.server.relay import ask

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello"),
        (b"HTTP/1.1 404 Not Found\r\n\r\nhello", 404, b"hello"),
        (CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", 200, b"hello"),
        (CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n", 502, b""),
        (CHUNKED + b"two\r\n", 502, b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", 502, b""),
        (b"HTTP/1.1 200 OK\r\n", 502, b""),
        (b"hello\r\n\r\n", 502, b""),
        (b"", 502, b""),
    ],
)
def test_what_a_node_answers(answer: bytes, status: int, body: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async def go() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            got = await ask(f"http://127.0.0.1:{port}", "GET", "/v1/daemon")
            assert (got.status, got.body) == (status, body)

    asyncio.run(go())
