"""CPU of the client for one small GET, against a server of this script's own: `python bench/client_get.py [SECONDS]`.

Prints microseconds of this process's CPU per call, for the bare system calls and for each way through the transport, in turn, best of
three. The server is another process that answers every request with the same bytes, so its speed shows in wall time only.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import sys
import time
from typing import TYPE_CHECKING

from aistore.transport.aio import AsyncTransport
from aistore.transport.blocking import Transport
from aistore.transport.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST = b"GET /v1/objects/bucket/object?provider=ais HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
BODY = b"x" * 1024
ANSWER = (
    b"HTTP/1.1 200 OK\r\nAis-Checksum-Type: xxhash2\r\nAis-Checksum-Value: d84a5e3a4e1c8e5b\r\nAis-Atime: 1764000000000000000\r\n"
    b"Ais-Version: 1\r\nContent-Length: 1024\r\nContent-Type: application/octet-stream\r\n"
    b"Date: Sat, 22 Nov 2025 12:00:00 GMT\r\n\r\n" + BODY
)


def serve(listener: socket.socket) -> None:
    """Answer every request of one connection after the other."""
    while True:
        peer, _ = listener.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while peer.recv(65536):
            peer.sendall(ANSWER)
        peer.close()


def measure(call: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Microseconds of CPU and of wall time per call."""
    for _ in range(200):
        call()
    count, start, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        for _ in range(100):
            call()
        count += 100
    return (time.process_time() - cpu) / count * 1e6, (time.perf_counter() - start) / count * 1e6


async def measure_async(url: str, seconds: float) -> tuple[float, float]:
    """The same for the asyncio transport, one request after the other."""
    transport = AsyncTransport(url)
    request = Request("GET", "objects/bucket/object", "provider=ais")
    for _ in range(200):
        await transport.exchange(request)
    count, start, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        for _ in range(100):
            await transport.exchange(request)
        count += 100
    result = (time.process_time() - cpu) / count * 1e6, (time.perf_counter() - start) / count * 1e6
    await transport.close()
    return result


def main(seconds: float) -> None:
    """Measure in turn and print the best of three."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = multiprocessing.get_context("fork").Process(target=serve, args=(listener,), daemon=True)
    server.start()
    results: dict[str, list[tuple[float, float]]] = {}
    for _ in range(3):
        with socket.create_connection(listener.getsockname()) as bare:

            def bare_calls(bare: socket.socket = bare) -> None:
                bare.sendall(REQUEST)
                bare.recv(65536)

            results.setdefault("bare system calls", []).append(measure(bare_calls, seconds))
        transport = Transport(url)

        def exchange(transport: Transport = transport) -> bytes:
            return transport.exchange(Request("GET", "objects/bucket/object", "provider=ais")).content

        results.setdefault("Transport.exchange", []).append(measure(exchange, seconds))
        transport.close()
        results.setdefault("AsyncTransport.exchange", []).append(asyncio.run(measure_async(url, seconds)))
    for name, runs in results.items():
        cpu, wall = min(runs)
        print(f"{name:24} {cpu:6.1f} us CPU  {wall:6.1f} us wall")
    server.terminate()
    server.join()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
