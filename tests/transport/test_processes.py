"""Forks, spawned processes, Ctrl-C, memory and imports: each in a process of its own."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING

import pytest

from aistore.transport.blocking import Transport
from aistore.transport.request import Request, Timeout
from aistore.transport.tls import TlsConfig
from peer import Peer, PeerConnection, always, echo
from waiting import DEADLINE

if TYPE_CHECKING:
    from pathlib import Path

PRELUDE = """
import multiprocessing, os, resource, sys
from aistore.transport.blocking import Transport
from aistore.transport.request import Request, Timeout

def echo(transport, text):
    got = transport.exchange(Request("PUT", "x", body=text.encode())).content.decode()
    assert got == text, (got, text)

def work(transport, name):
    for turn in range(30):
        echo(transport, f"{name} {turn}")
    return repr(transport)

def peak():
    "Highest memory of this process so far, in bytes."
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

def main(url):
"""


def program(tmp_path: Path, body: str) -> Path:
    """A script whose `main(url)` is `body`."""
    path = tmp_path / "program.py"
    path.write_text(
        PRELUDE
        + textwrap.indent(textwrap.dedent(body), "    ")
        + "\nif __name__ == '__main__':\n    main(sys.argv[1])\n"
    )
    return path


def run(path: Path, url: str) -> str:
    """Output of the script."""
    done = subprocess.run(
        [sys.executable, "-W", "error", path, url], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.strip()


def test_forked_children_open_connections_of_their_own(tmp_path: Path) -> None:
    path = program(
        tmp_path,
        """
        transport = Transport(url)
        echo(transport, "before")
        children = []
        for number in range(4):
            pid = os.fork()
            if not pid:
                work(transport, number)
                os._exit(0)
            children.append(pid)
        work(transport, "parent")
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
        echo(transport, "after")
        transport.close()
        """,
    )
    with Peer(echo) as peer:
        run(path, peer.url)
        assert peer.connections == 5, "the parent's connection outlives its children"
        assert len(peer.requests) == 152


def test_a_fork_does_not_disturb_a_body_that_is_being_read(tmp_path: Path) -> None:
    path = program(
        tmp_path,
        """
        transport = Transport(url)
        response = transport.exchange(Request("GET", "x", stream=True))
        first = response.read(1000)
        pid = os.fork()
        if not pid:
            assert transport.exchange(Request("GET", "x")).content == b"0123456789" * 100_000
            del response
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert first + response.read() == b"0123456789" * 100_000
        transport.close()
        """,
    )
    with Peer(always(200, b"0123456789" * 100_000)) as peer:
        run(path, peer.url)
        assert peer.connections == 2


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_transport_travels_to_worker_processes(tmp_path: Path, method: str) -> None:
    path = program(
        tmp_path,
        f"""
        transport = Transport(url, timeout=Timeout(3, 15), token="t", pool_size=4)
        echo(transport, "before")
        with multiprocessing.get_context("{method}").Pool(2) as pool:
            for text in pool.starmap(work, [(transport, n) for n in range(4)]):
                assert "idle http://127.0.0.1" in text, text
        echo(transport, "after")
        transport.close()
        """,
    )
    with Peer(echo) as peer:
        run(path, peer.url)
        assert len(peer.requests) == 122


def test_what_a_pickled_transport_keeps() -> None:
    transport = Transport(
        "http://h:1/x/", timeout=Timeout(1, 2), token="t", tls=TlsConfig(ca="a", verify=False), pool_size=3
    )
    again = pickle.loads(pickle.dumps(transport))
    assert (again.base_url, again.timeout, again.token, again.tls, again.pool_size) == (
        "http://h:1/x/v1",
        Timeout(1, 2),
        "t",
        TlsConfig(ca="a", verify=False),
        3,
    )


@pytest.mark.parametrize("where", ["head", "body", "content"])
def test_an_interrupt_leaves_the_pool_usable(tmp_path: Path, where: str) -> None:
    path = program(
        tmp_path,
        f"""
        transport = Transport(url, timeout=Timeout(5, None))
        echo(transport, "before")
        try:
            response = transport.exchange(Request("GET", "x", stream={where == "body"}))
            response.read()
        except KeyboardInterrupt:
            print(repr(transport).rpartition(" <Pool")[2].partition("idle ")[2].partition(",")[0], flush=True)
        echo(transport, "after")
        transport.close()
        """,
    )
    process: subprocess.Popen[str] | None = None
    started = threading.Event()

    def stalling(connection: PeerConnection) -> None:
        received = connection.request()
        connection.answer(200, received.body)
        connection.request()
        if where != "head":
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        started.wait(DEADLINE)
        assert process is not None
        process.send_signal(signal.SIGINT)
        connection.wait_for_end()

    with Peer(stalling, echo) as peer:
        process = subprocess.Popen([sys.executable, path, peer.url], stdout=subprocess.PIPE, text=True)
        started.set()
        out, _ = process.communicate(timeout=60)
        assert (process.returncode, out.strip()) == (0, "none")
        assert peer.connections == 2


def many_megabytes(connection: PeerConnection) -> None:
    """Takes any body, gives 192 MiB."""
    piece = b"x" * 1024 * 1024
    while True:
        received = connection.head()
        if "expect" in received.headers:
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        left = int(received.headers.get("content-length", 0))
        while left > 0:
            left -= len(connection.body(min(left, len(piece))))
        if "transfer-encoding" in received.headers:
            connection.body(-1)
        if received.method == "PUT":
            connection.answer()
            continue
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (192 * len(piece)))
        for _ in range(192):
            connection.send(piece)


@pytest.mark.parametrize(
    ("what", "allowed"),
    [
        ("response = get(True); assert sum(len(c) for c in response.chunks(1 << 20)) == 192 << 20", 16),
        ("assert get(True).copy_to(open(os.devnull, 'wb')) == 192 << 20", 16),
        ("assert len(get(False).content) == 192 << 20", 192 + 16),
        ("transport.exchange(Request('PUT', 'x', body=open(path, 'rb')))", 16),
        ("transport.exchange(Request('PUT', 'x', body=gzip_like(open(path, 'rb'))))", 16),
    ],
    ids=["chunks", "file", "content", "sendfile", "read"],
)
def test_memory_does_not_grow_with_the_body(tmp_path: Path, what: str, allowed: int) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(192 << 20)
    path = program(
        tmp_path,
        f"""
        class gzip_like:
            "A reader without descriptor and position."
            def __init__(self, file):
                self.read = file.read
        path = {str(big)!r}
        transport = Transport(url)
        def get(stream):
            return transport.exchange(Request("GET", "x", stream=stream))
        before = peak()
        {what}
        print((peak() - before) >> 20)
        transport.close()
        """,
    )
    with Peer(many_megabytes) as peer:
        done = subprocess.run([sys.executable, path, peer.url], capture_output=True, text=True, timeout=60, check=True)
        assert int(done.stdout) <= allowed


def test_reading_imports_nothing_that_is_slow(tmp_path: Path) -> None:
    path = program(
        tmp_path,
        """
        before = set(sys.modules)
        transport = Transport(url)
        assert transport.exchange(Request("GET", "moved")).content == b"data"
        assert transport.exchange(Request("GET", "missing")).status == 404
        transport.close()
        slow = {"requests", "urllib3", "pydantic", "tenacity", "asyncio", "ssl", "http.client", "email"}
        print(sorted(slow & (set(sys.modules) - {"multiprocessing"})))
        """,
    )
    path.write_text(path.read_text().replace("import multiprocessing, os", "import os"))

    def script(connection: PeerConnection) -> None:
        while True:
            received = connection.request()
            if received.target == "/v1/moved":
                connection.answer(301, b"", "Location: /v1/here")
            else:
                connection.answer(*((200, b"data") if received.target == "/v1/here" else (404, b"{}")))

    with Peer(script) as peer:
        assert run(path, peer.url) == "[]"


def test_this_process_has_no_stray_descriptors() -> None:
    if not os.path.isdir("/proc/self/fd"):  # noqa: PTH112  # a probe, not a path of ours
        pytest.skip("needs /proc")
    with Peer(always(200, b"x" * 500_000)) as peer:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # as above
        for _ in range(5):
            transport = Transport(peer.url)
            transport.exchange(Request("GET", "x"))
            transport.exchange(Request("GET", "x", stream=True)).read(10)
            del transport
        after = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # as above
        # The peer closes its ends when it notices.
        assert after - before <= 10
