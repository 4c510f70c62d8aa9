"""Large content: memory stays flat, and whoever breaks off leaves nothing open."""

from __future__ import annotations

import http.client
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from aistore import LocalCluster
from calling import Caller
from serving import Raw, request
from store_truth import open_descriptors
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """One of its own: its memory and its descriptors are looked at."""
    with LocalCluster(tmp_path / "data", durability="relaxed") as started:
        with Caller(started.url) as call:
            call.make_bucket("b")
        yield started


def peak_memory(pid: int) -> int:
    """Most bytes that a process has had in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the system does not tell")


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs /proc to look into the server's process"
)


def pieces(total: int) -> Iterator[bytes]:
    piece = bytes(range(256)) * 4096
    for _ in range(total // len(piece)):
        yield piece


@needs_proc
@pytest.mark.parametrize("mebibytes", [256, pytest.param(1024, marks=pytest.mark.long)])
@pytest.mark.parametrize("chunked", [False, True])
def test_memory_is_flat_while_large_content_passes(cluster: LocalCluster, chunked: bool, mebibytes: int) -> None:
    total = mebibytes * MIB
    with Caller(cluster.url) as call:
        headers = {} if chunked else {"Content-Length": str(total)}
        assert call("PUT", "/v1/objects/b/large", pieces(total), headers).status == 200
    connection = http.client.HTTPConnection(urlsplit(cluster.url).netloc, timeout=60)
    connection.request("GET", "/v1/objects/b/large")
    response = connection.getresponse()
    assert response.headers["Content-Length"] == str(total)
    buffer, expected, got = bytearray(MIB), next(pieces(MIB)), 0
    while n := response.readinto(buffer):
        start = got % MIB
        if n == MIB and start == 0:
            assert buffer == expected
        got += n
    connection.close()
    assert got == total
    assert peak_memory(cluster.pid) < 64 * MIB


@needs_proc
def test_a_thousand_connections_of_all_kinds_leave_nothing_open(cluster: LocalCluster) -> None:
    port = urlsplit(cluster.url).port or 0
    content = bytes(300_000)
    with Caller(cluster.url) as call:
        assert call.put("b", "large", content).status == 200
        assert call.put("b", "small", b"small").status == 200
        before = len(open_descriptors(cluster.pid))
        for i in range(1000):
            with Raw(port, receive_buffer=4096) as raw:
                way = i % 8
                if way == 0:
                    assert raw.ask("GET", "/v1/objects/b/large").body == content
                elif way == 1:
                    assert raw.ask("PUT", f"/v1/objects/b/n{i % 50}", content).status == 200
                elif way == 2:
                    raw.send(request("PUT", "/v1/objects/b/cut", content)[:200_000])
                elif way == 3:
                    raw.send(request("GET", "/v1/objects/b/large"))
                elif way == 4:
                    raw.send(request("GET", "/v1/objects/b/large") * 3)
                    raw.sock.recv(100)
                    raw.reset()
                elif way == 5:
                    assert raw.ask("GET", "/v1/objects/b/none", headers="Connection: close\r\n").status == 404
                elif way == 6:
                    raw.send(b"x\r\n\r\n")
                else:
                    raw.send(request("PUT", "/v1/objects/b/o?append_type=append", content)[:-1])
                    raw.end()
                    raw.rest()
        until(lambda: len(open_descriptors(cluster.pid)) <= before)
        assert call.get("b", "cut").status == 404
        assert locks(call, "large") == 200


def locks(call: Caller, name: str) -> int:
    return call.action("POST", f"/v1/objects/b/{name}", "check-lock").status


@pytest.mark.parametrize("way", ["close", "reset", "read on"])
def test_a_download_locks_the_object_as_long_as_it_lasts(cluster: LocalCluster, way: str) -> None:
    size = 30 * MIB
    with Caller(cluster.url) as call:
        assert locks(call, "large") == 200
        for headers, length in (("", size), ("Range: bytes=10-20000009\r\n", 20_000_000)):
            assert call.put("b", "large", b"1" * size).status == 200
            with Raw(urlsplit(cluster.url).port or 0, receive_buffer=4096) as raw:
                raw.send(request("GET", "/v1/objects/b/large", headers=headers))
                until(lambda: locks(call, "large") == 202)
                if way == "reset":
                    raw.reset()
                elif way == "read on":  # what is being sent stays what it was, whatever becomes of the object
                    assert call.put("b", "large", b"2" * size).status == 200
                    assert call.delete("b", "large").status == 200
                    until(lambda: not any((cluster.path / "content").glob("*/*")))
                    raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                    assert raw.answer().body == b"1" * length
            until(lambda: locks(call, "large") == 200)


def test_what_is_sent_slowly_is_stored_whole(cluster: LocalCluster) -> None:
    content = os.urandom(200_000)
    with Raw(urlsplit(cluster.url).port or 0) as raw:
        raw.send(request("PUT", "/v1/objects/b/slow", content), step=997)
        assert raw.answer().status == 200
        assert raw.ask("GET", "/v1/objects/b/slow").body == content


def test_a_stop_in_the_middle_of_transfers(cluster: LocalCluster) -> None:
    """What is under way ends or breaks off; nothing half written is there afterwards."""
    port = urlsplit(cluster.url).port or 0
    with Caller(cluster.url) as call:
        assert call.put("b", "large", bytes(300_000)).status == 200
    with Raw(port) as upload, Raw(port) as other:
        upload.send(request("PUT", "/v1/objects/b/cut", bytes(5 * MIB))[:-1])
        assert other.ask("GET", "/v1/objects/b/large").status == 200
        cluster.restart()
        with suppress(OSError, EOFError):
            upload.send(b"\0")
            assert upload.answer().status >= 400
    with Caller(cluster.url) as call:
        assert call.get("b", "cut").status == 404
        assert call.get("b", "large").body == bytes(300_000)
    until(lambda: len(list((cluster.path / "content").glob("*/*"))) == 1)
