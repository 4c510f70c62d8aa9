"""A disk that fails: what may not last is not acknowledged, and the next start goes on with what there is."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from aistore.server.node import Node
from aistore.server.settings import ServerSettings
from aistore.server.store import content
from serving import request
from store_truth import problems
from waiting import DEADLINE

if TYPE_CHECKING:
    from pathlib import Path

LARGE = b"x" * 20_000


class FailingDisk(sqlite3.Connection):
    """Its commits fail while `armed`."""

    armed = False

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql == "COMMIT" and FailingDisk.armed:
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *args)


async def ask(url: str, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
    """Status and body of the answer."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(request(method, path, body).replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        answer = await asyncio.wait_for(reader.read(), DEADLINE)
    finally:
        writer.close()
        await writer.wait_closed()
    return int(answer[9:12]), answer.partition(b"\r\n\r\n")[2].decode()


async def started(folder: Path) -> Node:
    node = Node(ServerSettings(folder, durability="strict"))
    await node.start()
    return node


async def put(node: Node, name: str, body: bytes) -> tuple[int, str]:
    return await ask(node.url, "PUT", f"/v1/objects/b/{name}", body)


def test_after_a_commit_that_failed_nothing_is_acknowledged_until_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=FailingDisk, **options))

    async def main() -> None:
        node = await started(tmp_path)
        try:
            assert (await ask(node.url, "POST", "/v1/buckets/b", b'{"action": "create-bck"}'))[0] == 200
            assert (await put(node, "o", LARGE))[0] == 200
            monkeypatch.setattr(FailingDisk, "armed", True)
            failed = await put(node, "o", b"y" * 20_000)
            monkeypatch.setattr(FailingDisk, "armed", False)
            later = [await put(node, "o", b"z" * 20_000), await put(node, "small", b"z")]
            later.append(await ask(node.url, "DELETE", "/v1/objects/b/o"))
            for status, text in (failed, *later):
                assert status == 500
                assert "the disk failed to keep a change" in text
                assert "start the server again" in text
            assert await ask(node.url, "GET", "/v1/objects/b/o") == (200, LARGE.decode())
        finally:
            await node.stop()
        node = await started(tmp_path)
        try:
            assert await ask(node.url, "GET", "/v1/objects/b/o") == (200, LARGE.decode())
            assert (await put(node, "o", b"z" * 20_000))[0] == 200
        finally:
            await node.stop()

    asyncio.run(main())
    assert problems(tmp_path) == []


@pytest.mark.parametrize("call", ["sync_file", "sync_folder"])
def test_content_that_could_not_be_made_durable_is_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def main() -> None:
        node = await started(tmp_path)
        try:
            assert (await ask(node.url, "POST", "/v1/buckets/b", b'{"action": "create-bck"}'))[0] == 200
            assert (await put(node, "o", LARGE))[0] == 200
            with monkeypatch.context() as failing:
                failing.setattr(content, call, fail)
                status, text = await put(node, "o", b"y" * 20_000)
                assert (status, "Input/output error" in text) == (500, True)
                assert (await put(node, "new", LARGE))[0] == 500
            assert await ask(node.url, "GET", "/v1/objects/b/o") == (200, LARGE.decode())
            assert (await ask(node.url, "GET", "/v1/objects/b/new"))[0] == 404
            # Another file is another matter.
            assert (await put(node, "new", LARGE))[0] == 200
        finally:
            await node.stop()

    asyncio.run(main())
    assert problems(tmp_path) == []
