"""Small writes do not wait for large ones."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aistore.server.node import Node
from aistore.server.settings import ServerSettings
from serving import request
from waiting import DEADLINE

if TYPE_CHECKING:
    from pathlib import Path


async def status(url: str, data: bytes) -> bytes:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(data)
    line = await asyncio.wait_for(reader.readline(), DEADLINE)
    writer.close()
    await writer.wait_closed()
    return line


def test_small_files_are_written_beside_long_work(tmp_path: Path) -> None:
    async def main() -> None:
        hold = threading.Event()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        node = Node(ServerSettings(tmp_path))
        await node.start()
        busy = asyncio.get_running_loop().run_in_executor(None, hold.wait)
        try:
            for data in (
                request("POST", "/v1/buckets/b", b'{"action": "create-bck"}'),
                request("PUT", "/v1/objects/b/o", b"x" * 20_000),
                request("PUT", "/v1/objects/b/a?append_type=append", b"x" * 20_000),
                request("GET", "/v1/objects/b/o"),
            ):
                assert await status(node.url, data) == b"HTTP/1.1 200 OK\r\n"
        finally:
            hold.set()
            await busy
            await node.stop()

    asyncio.run(main())
