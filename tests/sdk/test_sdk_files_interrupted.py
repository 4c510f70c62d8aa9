"""Transfers that are interrupted or killed: nothing half written stays visible, and the next one goes on."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from answering import checksum
from peer import Peer
from waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aistore import LocalCluster
    from aistore.sdk import Bucket
    from peer import PeerConnection
    from programs import Program

CONTENTS = {f"{i % 5}/{i:03}": os.urandom(100_000) for i in range(300)}

BLOCKING = """
import signal, sys, threading
from aistore.sdk import Client

url, name, call, folder = sys.argv[1:]
bucket = Client(url).bucket(name)
for_ever = threading.Event()
seen = 0

def each(moved):  # the third one, and all behind it, wait: the signal comes in the middle
    global seen
    seen += 1
    if seen == 3:
        print("now", flush=True)
    if seen >= 3:
        for_ever.wait()

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    if call == "get":
        bucket.get_files(folder, on_each=each)
    else:
        bucket.sync(source=folder, on_each=each)
except KeyboardInterrupt as error:
    print("interrupted", error.summary.moved, flush=True)
"""

ASYNCIO = """
import asyncio, signal, sys
from aistore import AsyncClient

url, name, call, folder = sys.argv[1:]
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])

async def main():
    async with AsyncClient(url) as client:
        bucket = client.bucket(name)
        seen = 0
        me = asyncio.current_task()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, me.cancel)

        def each(moved):
            nonlocal seen
            seen += 1
            if seen == 3:
                print("now", flush=True)
                signal.sigwait([signal.SIGUSR1])  # the loop stands still until the test has sent both
        try:
            if call == "get":
                await bucket.get_files(folder, on_each=each)
            else:
                await bucket.sync(source=folder, on_each=each)
        except asyncio.CancelledError as error:
            print("interrupted", seen, flush=True)

asyncio.run(main())
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for name, content in CONTENTS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def files_in(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def objects_in(bucket: Bucket) -> dict[str, bytes]:
    return {entry.name: bucket.object(entry.name).get_reader().read_all() for entry in bucket.list_objects_iter()}


@pytest.mark.parametrize("code", [BLOCKING, ASYNCIO], ids=["threads", "tasks"])
@pytest.mark.parametrize("call", ["get", "put"])
def test_ctrl_c_leaves_nothing_half_written(
    cluster: LocalCluster,
    bucket: Bucket,
    source: Path,
    tmp_path: Path,
    program: Callable[..., Program],
    call: str,
    code: str,
) -> None:
    out = tmp_path / "out"
    if call == "get":
        bucket.put_files(source, recursive=True, verbose=False)
    running = program(code, cluster.url, bucket.name, call, out if call == "get" else source)
    assert running.line() == "now"
    running.process.send_signal(signal.SIGINT)
    if code is ASYNCIO:
        running.process.send_signal(signal.SIGUSR1)
    assert running.line().startswith("interrupted")
    assert running.process.wait(DEADLINE) == 0
    there = files_in(out) if call == "get" else objects_in(bucket)
    assert there.items() <= CONTENTS.items()
    assert 0 < len(there) < len(CONTENTS)
    again = bucket.get_files(out) if call == "get" else bucket.sync(source=source)
    assert (again.moved, again.skipped, again.failed) == (len(CONTENTS) - len(there), len(there), 0)
    assert (files_in(out) if call == "get" else objects_in(bucket)) == CONTENTS


@pytest.mark.parametrize("call", ["get", "put"])
def test_a_killed_transfer_goes_on_where_it_was(
    cluster: LocalCluster, bucket: Bucket, source: Path, tmp_path: Path, program: Callable[..., Program], call: str
) -> None:
    out = tmp_path / "out"
    if call == "get":
        bucket.put_files(source, recursive=True, verbose=False)
    running = program(BLOCKING, cluster.url, bucket.name, call, out if call == "get" else source)
    assert running.line() == "now"
    running.kill()
    whole = {name for name in files_in(out) if not name.endswith(".part")} if call == "get" else set(objects_in(bucket))
    assert 0 < len(whole) < len(CONTENTS)
    again = bucket.get_files(out) if call == "get" else bucket.sync(source=source)
    assert (again.moved + again.skipped, again.failed) == (len(CONTENTS), 0)
    assert again.skipped >= len(whole)  # what was on its way when the sender died may have arrived since
    there = files_in(out) if call == "get" else objects_in(bucket)
    assert {name: content for name, content in there.items() if not name.endswith(".part")} == CONTENTS


@pytest.fixture
def stalling() -> Iterator[tuple[Peer, threading.Event]]:
    """A cluster with one large object, half of which comes and then nothing; and whether that half was sent."""
    half = threading.Event()
    page = {"UUID": "u", "ContinuationToken": "", "Flags": 0, "Entries": [{"n": "large", "s": 8 << 20}]}

    def script(connection: PeerConnection) -> None:
        while True:
            received = connection.request()
            if received.method == "HEAD":
                connection.answer()
            elif received.target.startswith("/v1/buckets/"):
                connection.answer(200, msgspec.msgpack.encode(page), "Content-Type: application/msgpack")
            else:
                kind, value = checksum(b"")
                connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {8 << 20}\r\n{kind}\r\n{value}\r\n\r\n".encode())
                connection.send(bytes(4 << 20))
                half.set()
                connection.wait_for_end()

    with Peer(script) as peer:
        yield peer, half


def test_ctrl_c_does_not_wait_for_a_cluster_that_hangs(
    stalling: tuple[Peer, threading.Event], tmp_path: Path, program: Callable[..., Program]
) -> None:
    peer, half = stalling
    running = program(BLOCKING, peer.url, "b", "get", tmp_path / "out")
    assert half.wait(DEADLINE)
    running.process.send_signal(signal.SIGINT)
    assert running.line() == "interrupted 0"
    assert running.process.wait(DEADLINE) == 0
    assert files_in(tmp_path / "out") == {}
