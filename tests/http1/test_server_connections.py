"""Clients that leave, stall, do not read, or are too many; and the server's own end."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from aistore.http1 import server as server_module
from aistore.http1.failures import MemoryFull
from aistore.http1.server import BrokenRequest, Limits
from serving import Raw, Serving, chunked, expected, pass_time, request
from store_truth import open_descriptors
from waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

BIG = bytes(range(256)) * 1200


@pytest.fixture(scope="module")
def shared() -> Iterator[Serving]:
    with Serving() as started:
        yield started


@pytest.fixture
def serving(shared: Serving) -> Iterator[Serving]:
    """A server that has nothing to do; tests after this one find it so, too."""
    yield shared
    at_rest(shared)


def at_rest(serving: Serving) -> None:
    """Wait until all who were there are gone, with what was done for them."""
    server, service = serving.server, serving.service
    serving.until(lambda: not (server.connections or server._tasks or service.files_open or service.generators_open))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    """A server that waits for nobody."""
    monkeypatch.setattr(server_module, "_TICK", 0.02)
    with Serving(Limits(head=0.2, idle=0.2, body=0.2, write=0.2, linger=0.2)) as started:
        yield started


# -- clients that leave ---------------------------------------------------------------------------------------------

CUT = {
    "head": request("GET", "/echo")[:-2],
    "small body": request("PUT", "/echo", b"content")[:-1],
    "large body": request("PUT", "/echo", BIG)[:-1],
    "large body at once": request("PUT", "/echo", BIG)[:100],
    "chunk": chunked("PUT", "/echo", [BIG])[:-100],
    "last chunk": chunked("PUT", "/echo", [b"content"])[:-1],
}


@pytest.mark.parametrize("shape", CUT)
@pytest.mark.parametrize("way", ["end", "reset"])
def test_a_request_that_is_cut_off_is_never_whole(shape: str, way: str) -> None:
    with Serving() as serving:
        with serving.connect() as raw:
            raw.send(CUT[shape])
            if shape not in ("head", "small body"):
                serving.until(lambda: serving.service.seen == [("PUT", "/echo")])
            if way == "end":
                raw.end()
                rest = raw.rest()
                told = shape not in ("head", "small body")
                assert rest.startswith(b"HTTP/1.1 400 ") if told else rest == b""
            else:
                raw.reset()
        at_rest(serving)
        assert len(serving.service.seen) == len(serving.service.errors)
        assert all(isinstance(error, BrokenRequest) for error in serving.service.errors)


def test_a_client_may_end_its_side_and_read_on(serving: Serving) -> None:
    whole = [
        request("GET", "/file/3000000"),
        request("PUT", "/echo", BIG),
        chunked("PUT", "/echo", [BIG]),
        request("GET", "/pending"),
        request("GET", "/pieces/200000"),
        request("PUT", "/ignore", BIG),
        request("GET", "/raw/3"),
    ]
    for count in range(1, len(whole) + 1):
        with serving.connect() as raw:
            raw.send(b"".join(whole[:count]) + b"GET /echo HTTP/1.1\r\n")  # and one that is cut off
            raw.end()
            for one in whole[:count]:
                answer = raw.answer()
                assert answer.status == (404 if b"ignore" in one else 200)
                if b"echo" in one:
                    assert answer.shown == expected("PUT", "/echo", BIG)
            assert raw.rest() == b""


@pytest.mark.parametrize("path", ["/file/50000000", "/pieces/50000000"])
@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_download_that_is_broken_off_lets_go_of_everything(path: str, way: str) -> None:
    before = open_descriptors()
    with Serving() as serving:
        for _ in range(3):
            with Raw(serving.port, receive_buffer=4096) as raw:
                raw.send(request("GET", path))
                raw.sock.recv(1000)
                serving.until(lambda: serving.service.files_open + serving.service.generators_open == 1)
                if way == "reset":
                    raw.reset()
            serving.until(lambda: serving.service.files_open + serving.service.generators_open == 0)
        serving.until(lambda: serving.server.connections == 0)
    assert not open_descriptors() - before


def test_a_body_that_breaks_off_is_not_taken_for_whole(serving: Serving) -> None:
    with serving.connect() as raw:
        raw.send(request("GET", "/broken"))
        with pytest.raises((EOFError, ConnectionResetError)):
            raw.answer()
    serving.until(lambda: [str(error) for error in serving.service.errors[-1:]] == ["broke off"])
    serving.until(lambda: serving.service.generators_open == 0)


def test_a_thousand_connections_of_all_kinds_leave_nothing() -> None:
    with Serving() as serving:
        before = open_descriptors()
        for i in range(1000):
            with serving.connect() as raw:
                match = i % 10
                if match < 3:
                    assert raw.ask("GET", "/file/100000").status == 200
                elif match == 3:
                    raw.send(CUT[list(CUT)[i // 10 % len(CUT)]])
                elif match == 4:
                    raw.send(b"nonsense\r\n\r\n")
                    assert raw.answer().status == 400
                elif match == 5:
                    raw.send(request("GET", "/file/9000000"))
                    raw.reset()
                elif match == 6:
                    raw.send(request("GET", "/pieces/9000000") * 2)
                elif match == 7:
                    assert raw.ask("GET", "/echo", headers="Connection: close\r\n").status == 200
                elif match == 8:
                    assert raw.ask("PUT", "/echo", BIG).status == 200
        serving.until(lambda: serving.server.accepted == 1000)
        at_rest(serving)
        assert not open_descriptors() - before


# -- clients that stall ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [b"", b"GET /echo HT", *CUT.values()], ids=["nothing", "line", *CUT])
def test_a_client_that_stalls_is_dropped(impatient: Serving, start: bytes) -> None:
    with impatient.connect() as raw:
        with contextlib.suppress(ConnectionError):
            raw.send(start)
            raw.rest()
        impatient.until(lambda: impatient.server.connections == 0)
    assert all(isinstance(error, BrokenRequest) for error in impatient.service.errors)


@pytest.mark.parametrize("path", ["/raw/5", "/echo", "/pending", "/file/70000"])
def test_an_idle_client_is_dropped(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no other: who goes on asking is not held to the time that the first request had."""
    with Serving(Limits(head=16, idle=75)) as serving, serving.connect() as raw:
        assert raw.ask("GET", path).status == 200
        for _ in range(3):
            pass_time(serving, 50, monkeypatch)
            assert raw.ask("GET", path).status == 200
        pass_time(serving, 100, monkeypatch)
        assert raw.rest() == b""


@pytest.mark.parametrize("drips", [[b"\r\n"], [b"x"], [b"\r", b"\n"]])
def test_a_head_has_to_come_in_time_as_a_whole(impatient: Serving, drips: list[bytes]) -> None:
    with impatient.connect() as raw:
        stop = threading.Event()

        def send() -> None:
            for each in itertools.cycle(drips):
                if stop.wait(0.01):
                    return
                try:
                    raw.send(each)
                except OSError:
                    return

        dripping = threading.Thread(target=send)
        dripping.start()
        try:
            impatient.until(lambda: impatient.server.accepted == 1)
            impatient.until(lambda: impatient.server.connections == 0)
        finally:
            stop.set()
            dripping.join()


@pytest.mark.parametrize("path", ["/file/50000000", "/pieces/50000000", "/raw/60000"])
def test_a_client_that_never_reads_is_dropped(impatient: Serving, path: str) -> None:
    with Raw(impatient.port, receive_buffer=4096) as raw:
        sending = threading.Thread(target=send_until_it_breaks, args=(raw, request("GET", path) * 100))
        sending.start()
        impatient.until(lambda: impatient.server.accepted == 1)
        impatient.until(lambda: impatient.server.connections == 0)
        raw.reset()
        sending.join(DEADLINE)
        assert not sending.is_alive()
    impatient.until(lambda: impatient.service.files_open + impatient.service.generators_open == 0)


def send_until_it_breaks(raw: Raw, data: bytes) -> None:
    try:
        while True:
            raw.send(data)
    except OSError:
        pass


def test_answers_that_nobody_reads_do_not_pile_up(serving: Serving) -> None:
    """Requests are short and answers long: they are served as fast as the answers are taken."""
    before = len(serving.service.seen)
    count = 1000
    with Raw(serving.port, receive_buffer=4096) as raw:
        sending = threading.Thread(target=raw.send, args=(request("GET", "/raw/60000") * count,))
        sending.start()
        with serving.connect() as other:  # the server is not held up meanwhile
            for _ in range(50):
                assert other.ask("GET", "/echo").status == 200
        assert len(serving.service.seen) - before < 250
        for _ in range(count):
            assert len(raw.answer().body) == 60_000
        sending.join(DEADLINE)


def test_a_flood_of_pipelined_requests_waits_outside(serving: Serving) -> None:
    with serving.connect() as raw:
        raw.send(request("GET", "/late"))
        raw.sock.setblocking(False)
        sent, flood = 0, request("GET", "/raw/1") * 5000
        with contextlib.suppress(BlockingIOError):
            while sent < 100_000_000:
                sent += raw.sock.send(flood)
        serving.until(lambda: any(connection._paused for connection in serving.server._connections))
        (held,) = [len(connection._pending) for connection in serving.server._connections]
        assert held < 2 * (256 << 10) + 1
        assert sent < 100_000_000
        raw.reset()
    serving.call(serving.service.release.set)
    serving.until(lambda: serving.server.connections == 0)


def test_a_handler_may_take_its_time_after_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limits are for clients: a slow disk must not cost the connection."""
    with Serving() as serving, serving.connect() as raw:
        raw.send(request("PUT", "/late", BIG))
        serving.until(lambda: serving.service.seen == [("PUT", "/late")])
        pass_time(serving, 3600, monkeypatch)  # far beyond each limit
        serving.call(serving.service.release.set)
        assert raw.answer().status == 200


def test_long_answers_that_nobody_takes_have_a_common_limit() -> None:
    size = 8_000_000  # the kernel takes some
    with Serving(Limits(unread=20_000_000)) as serving, contextlib.ExitStack() as stack:
        deaf = [stack.enter_context(Raw(serving.port, receive_buffer=4096)) for _ in range(12)]
        for raw in deaf:
            raw.send(request("GET", f"/whole/{size}"))
        serving.until(lambda: len(serving.service.seen) == len(deaf))
        assert any(isinstance(error, MemoryFull) for error in serving.service.errors)
        assert serving.server.unread.used <= 20_000_000
        with serving.connect() as other:  # what is short is answered still
            assert other.ask("GET", "/echo").status == 200
        statuses = [raw.answer().status for raw in deaf]
        assert statuses[0] == 200
        assert set(statuses) == {200, 503}
        serving.until(lambda: serving.server.unread.used == 0)
        with serving.connect() as other:
            assert len(other.ask("GET", f"/whole/{size}").body) == size


# -- too many of them, and the end ----------------------------------------------------------------------------------


def test_connections_beyond_the_limit_are_told_so(caplog: pytest.LogCaptureFixture) -> None:
    with Serving(Limits(connections=3)) as serving:
        refuses_a_fourth(serving, request("GET", "/echo"))
    (told,) = caplog.records
    assert (told.name, told.levelname) == ("aistore.server.connections", "WARNING")
    assert "too many connections: that of 127.0.0.1:" in told.getMessage()


def refuses_a_fourth(serving: Serving, asked: bytes) -> None:
    clients = [serving.connect() for _ in range(3)]
    assert [client.ask("GET", "/echo").status for client in clients] == [200] * 3
    with serving.connect() as refused:
        refused.send(asked)
        answer = refused.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert refused.rest() == b""
    serving.until(lambda: serving.server.connections == 3)
    clients.pop().sock.close()
    serving.until(lambda: serving.server.connections == 2)
    with serving.connect() as raw:
        assert raw.ask("GET", "/echo").status == 200
    for client in clients:
        assert client.ask("GET", "/echo").status == 200
        client.sock.close()
    serving.until(lambda: serving.server.connections == 0)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::7", "20010db800010002"),
        ("fe80::1%eth0", "fe80000000000000"),
        ("127.0.0.1", ""),
        ("127.3.4.5", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("", ""),
    ],
)
def test_whose_connections_count_together(address: str, network: str) -> None:
    assert server_module.origin_of(address) == network


def test_connections_from_one_address_beyond_the_limit_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "origin_of", lambda address: address)  # as if loopback were elsewhere
    with Serving(Limits(per_address=3)) as serving:
        refuses_a_fourth(serving, b"")
        assert serving.server._from == {}


def test_stopping_finishes_what_is_being_answered() -> None:
    serving = Serving()
    with serving:
        idle, partial, late, download = (serving.connect() for _ in range(4))
        assert idle.ask("GET", "/echo").status == 200
        partial.send(request("PUT", "/echo", b"content")[:-1])
        late.send(request("GET", "/late") + request("GET", "/raw/1"))
        download.send(request("GET", "/file/30000000"))
        serving.until(lambda: len(serving.service.seen) == 3 and serving.server.memory.used == len(b"content"))
        stopping = threading.Thread(target=serving.stop)
        stopping.start()
        assert idle.rest() == b""
        partial.send(b"t")  # its last byte: what had begun is taken
        answer = partial.answer()
        assert answer.shown == expected("PUT", "/echo", b"content")
        assert answer.headers["connection"] == "close"
        serving.call(serving.service.release.set)
        answer = late.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert late.rest() == b""
        assert len(download.answer().body) == 30_000_000
        stopping.join(DEADLINE)
        with pytest.raises(ConnectionRefusedError):
            serving.connect()
        for client in (idle, partial, late, download):
            client.sock.close()


def test_stopping_does_not_wait_for_ever() -> None:
    with Serving() as serving, serving.connect() as raw, serving.connect() as other:
        raw.send(request("GET", "/late"))
        other.send(request("PUT", "/echo", BIG)[:-1])
        serving.until(lambda: len(serving.service.seen) == 2)

        async def stop() -> None:
            assert await serving.server.stop(grace=0.05) == 2

        serving.run(stop())
        for client in (raw, other):
            with pytest.raises((EOFError, ConnectionResetError)):
                client.answer()


def test_stopping_does_not_wait_for_clients_that_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_TICK", 0.02)
    with Serving() as serving, serving.connect() as sender, Raw(serving.port, receive_buffer=4096) as reader:
        sender.send(request("PUT", "/echo", BIG)[:-1])
        reader.send(request("GET", "/file/50000000"))
        serving.until(lambda: len(serving.service.seen) == 2)

        async def stop() -> None:
            assert await serving.server.stop(grace=10.0) == 0  # nobody was left

        serving.run(stop())
        assert serving.server.connections == 0


def test_servers_in_several_threads_do_not_mix_their_bytes() -> None:
    with Serving() as one, Serving() as two, one.connect() as a, two.connect() as b:
        failures: list[BaseException] = []

        def ask(raw: Raw, fill: bytes) -> None:
            try:
                for _ in range(300):
                    body = fill * 60_000
                    assert raw.ask("PUT", "/echo", body).shown == expected("PUT", "/echo", body)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=ask, args=(raw, fill)) for raw, fill in ((a, b"a"), (b, b"b"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failures == []


def test_small_answers_are_not_held_back(serving: Serving) -> None:
    with serving.connect() as raw:
        raw.ask("GET", "/echo")
        nodelay: list[int] = []

        def look() -> None:
            for connection in serving.server._connections:
                sock = connection.transport.get_extra_info("socket")
                nodelay.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

        serving.call(look)
        serving.until(lambda: bool(nodelay))
        assert all(nodelay)


# -- bodies that are held, and bodies that trickle ------------------------------------------------------------------


def test_bodies_in_memory_have_a_common_limit() -> None:
    with Serving(Limits(memory=400_000)) as serving:
        waiting = [serving.connect() for _ in range(5)]
        for raw in waiting:
            raw.send(request("PUT", "/echo", b"x" * 60_000)[:-1])
        serving.until(lambda: serving.server.memory.used == 300_000)
        with serving.connect() as large, serving.connect() as small, serving.connect() as other:
            assert large.ask("PUT", "/echo", b"x" * 300_000).status == 503
            small.send(request("PUT", "/echo", b"x" * 60_000)[:-1])
            serving.until(lambda: serving.server.memory.used == 360_000)
            other.send(request("PUT", "/echo", b"x" * 60_000)[:-1])
            answer = other.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            small.send(b"x")
            assert small.answer().status == 200
            waiting.pop().sock.close()
            waiting[0].send(b"x")
            assert waiting[0].answer().status == 200
            serving.until(lambda: serving.server.memory.used == 180_000)
            assert large.ask("PUT", "/echo", b"x" * 150_000).status == 200  # the connection is as good as before
            assert large.ask("PUT", "/ignore", b"x" * 1_000_000).status == 404
        for raw in waiting:
            raw.sock.close()
        serving.until(lambda: serving.server.memory.used == 0)


def test_a_body_in_tiny_chunks_is_read_as_it_is(serving: Serving) -> None:
    content = bytes(range(256)) * 400
    with serving.connect() as raw:
        raw.send(b"PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        raw.send(b"".join(b"1\r\n%c\r\n" % byte for byte in content) + b"0\r\n\r\n")
        assert json.loads(raw.answer().body) == expected("PUT", "/echo", content)
        assert raw.ask("GET", "/echo").status == 200
