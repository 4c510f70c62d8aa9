"""`AsyncTransport`: what the blocking one promises, on an event loop; and cancellation, loops and forks."""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from aistore.transport.aio import AsyncResponse, AsyncTransport
from aistore.transport.base import REFUSAL_MAX
from aistore.transport.errors import (
    BodyNotReplayable,
    ConnectionLost,
    ConnectionRefused,
    IncompleteBody,
    MalformedAnswer,
    ReadTimeout,
    RetriesExhausted,
    TooManyRedirects,
    TransportError,
)
from aistore.transport.request import Request, Timeout
from aistore.transport.response import StreamConsumed
from aistore.transport.tls import TlsConfig
from peer import Peer, PeerConnection, always, closing, echo, once, refuse_at_length
from policies import Policy
from waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

T = TypeVar("T")
BIG = bytes(range(251)) * 8000
FOLDER = Path(__file__).parent / "certificates"


def run(work: Coroutine[object, object, T]) -> T:
    """Run `work` in debug mode, where asyncio reports what was forgotten."""
    return asyncio.run(work, debug=True)


def transport_to(peer: Peer, attempts: int = 1, total: int = 0, **options: object) -> AsyncTransport:
    return AsyncTransport(peer.url, retry=Policy(attempts, total), **options)  # type: ignore[arg-type]  # options of each test


async def get(transport: AsyncTransport, *, stream: bool = False, timeout: Timeout | None = None) -> AsyncResponse:
    return await transport.exchange(Request("GET", "objects/b/o", "provider=ais", stream=stream, timeout=timeout))


def idle(transport: AsyncTransport) -> int:
    """Idle connections that the pool shows."""
    _, _, text = repr(transport).partition("idle ")
    return 0 if text.startswith("none") else int(text.partition(", at most")[0].rpartition(": ")[2])


async def turn() -> None:
    """Let the event loop take what has come."""
    for _ in range(3):
        await asyncio.sleep(0.01)


async def happened(event: threading.Event) -> None:
    """Wait for what the peer does, and let the event loop take it."""
    assert await asyncio.get_running_loop().run_in_executor(None, event.wait, DEADLINE)
    await turn()


def test_every_kind_of_body_arrives_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BIG)

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one", b"", BIG):
            yield piece

    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy())
        with path.open("rb") as file:
            file.seek(100)
            bodies: list[tuple[object, bytes]] = [
                (b"", b""),
                (b"small", b"small"),
                (memoryview(BIG), BIG),
                (file, BIG[100:]),
                (io.BytesIO(BIG), BIG),
                (iter([b"a", BIG]), b"a" + BIG),
                (pieces(), b"one" + BIG),
            ]
            for body, expected in bodies:
                response = await transport.exchange(Request("PUT", "o", body=body))  # type: ignore[arg-type]  # of all kinds
                assert response.content == expected
        assert idle(transport) == 1
        await transport.close()

    with Peer(echo) as peer:
        run(work(peer.url))
        assert peer.connections == 1


@pytest.mark.parametrize("size", [0, 10, 2_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_every_way_of_reading_gives_the_same(size: int, chunked: bool) -> None:
    body = BIG[:size]

    def script(connection: PeerConnection) -> None:
        while True:
            connection.request()
            if not chunked:
                connection.answer(200, body)
                continue
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for at in range(0, size, 70_001):
                connection.send(b"%x\r\n%s\r\n" % (len(body[at : at + 70_001]), body[at : at + 70_001]))
            connection.send(b"0\r\n\r\n")

    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy())
        assert (await get(transport)).content == body
        assert await (await get(transport, stream=True)).read() == body
        response = await get(transport, stream=True)
        first = await response.read(3)
        assert first + await response.read() == body
        assert await response.read() == await response.read(5) == b""
        assert b"".join([c async for c in (await get(transport, stream=True)).chunks(300_001)]) == body
        response, got, buffer = await get(transport, stream=True), b"", bytearray(123_457)
        while count := await response.readinto(memoryview(buffer)):
            got += buffer[:count]
        assert got == body
        assert idle(transport) == 1
        await transport.close()

    with Peer(script) as peer:
        run(work(peer.url))
        assert peer.connections == 1


def test_the_content_of_a_streamed_response_has_to_be_awaited() -> None:
    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy())
        response = await get(transport, stream=True)
        with pytest.raises(StreamConsumed, match="await read"):
            _ = response.content
        with pytest.raises(ValueError, match="not positive"):
            await response.chunks(0).__anext__()
        response.close()
        await transport.close()

    with Peer(always(200, BIG)) as peer:
        run(work(peer.url))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", ConnectionLost),
        (b"HTTP/1.1 20", ConnectionLost),
        (b"HTTP/1.1 100 Continue\r\n\r\n", ConnectionLost),
        (b"garbage\r\n\r\n", MalformedAnswer),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", MalformedAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", IncompleteBody),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000, IncompleteBody),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", IncompleteBody),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", IncompleteBody),
    ],
)
def test_a_broken_answer_is_one_typed_error(data: bytes, error: type[TransportError]) -> None:
    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy(2))
        with pytest.raises(error) as raised:
            await get(transport)
        assert raised.value.attempts == 2
        assert idle(transport) == 0
        assert (await get(transport)).content == b"whole"
        await transport.close()

    with Peer(once(data), once(data), always(200, b"whole")) as peer:
        run(work(peer.url))


def test_a_reset_within_the_body_is_an_incomplete_body() -> None:
    def script(connection: PeerConnection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        reading.wait(DEADLINE)
        connection.reset()

    reading = threading.Event()

    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy())
        response = await get(transport, stream=True)
        assert await response.read(1000) == b"x" * 1000
        reading.set()
        with pytest.raises(IncompleteBody, match="1000 of 1000000"):
            await response.read()
        await transport.close()

    with Peer(script) as peer:
        run(work(peer.url))


def test_what_arrived_before_a_cut_is_handed_out_first() -> None:
    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy())
        response = await get(transport, stream=True)
        assert len(await response.read(200_000)) == 150_000
        with pytest.raises(IncompleteBody, match="150000 of 200000"):
            await response.read(200_000)
        await transport.close()

    with Peer(once(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 150_000)) as peer:
        run(work(peer.url))


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"])
def test_a_stall_times_out(data: bytes) -> None:
    def script(connection: PeerConnection) -> None:
        connection.request()
        connection.send(data)
        connection.wait_for_end()

    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy())
        with pytest.raises(ReadTimeout):
            await get(transport, timeout=Timeout(5, 0.05))
        assert (await get(transport)).content == b"whole"
        await transport.close()

    with Peer(script, always(200, b"whole")) as peer:
        run(work(peer.url))


def test_a_server_that_takes_nothing_times_out() -> None:
    stop = threading.Event()

    def script(connection: PeerConnection) -> None:
        connection.head()
        stop.wait(DEADLINE)

    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy())
        with pytest.raises(ReadTimeout, match="takes no data"):
            await transport.exchange(Request("PUT", "o", body=b"x" * 50_000_000, timeout=Timeout(5, 0.2)))
        stop.set()
        await transport.close()

    with Peer(script) as peer:
        run(work(peer.url))


def test_a_slow_body_is_no_stalled_one() -> None:
    pause = threading.Event()

    def script(connection: PeerConnection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
        for _ in range(20):
            pause.wait(0.08)
            connection.send(b"x")

    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy(), timeout=Timeout(5, 1.5))
        assert (await get(transport)).content == b"x" * 20
        await transport.close()

    with Peer(script) as peer:
        run(work(peer.url))


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_an_idle_connection_that_died_is_replaced_at_once(method: str) -> None:
    def dying(connection: PeerConnection) -> None:
        connection.request()
        connection.answer(200, b"first")
        connection.head()
        connection.reset()

    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy())
        await get(transport)
        response = await transport.exchange(Request(method, "o", body=io.BytesIO(b"body") if method == "PUT" else None))
        assert response.content == b"second"
        await transport.close()

    with Peer(dying, always(200, b"second")) as peer:
        run(work(peer.url))
        assert [r.method for r in peer.requests] == ["GET", method, method]


def test_a_connection_known_to_be_closed_is_not_used() -> None:
    closed = threading.Event()

    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy())
        await get(transport)
        await happened(closed)
        response = await transport.exchange(Request("POST", "o", body=b"{}"))
        assert response.content == b"second"
        await transport.close()

    with Peer(closing(closed), always(200, b"second")) as peer:
        run(work(peer.url))
        assert [r.method for r in peer.requests] == ["GET", "POST"]


def test_surplus_bytes_end_the_connection() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst"

    def script(connection: PeerConnection) -> None:
        connection.request()
        connection.send(answer)
        answered.wait(DEADLINE)
        connection.send(b"more")
        sent.set()
        connection.wait_for_end()

    answered, sent = threading.Event(), threading.Event()

    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy())
        assert (await get(transport)).content == b"first"
        answered.set()
        await happened(sent)
        assert (await get(transport)).content == b"second"
        await transport.close()

    with Peer(script, always(200, b"second")) as peer:
        run(work(peer.url))
        assert peer.connections == 2


def test_redirects_and_repeats_follow_the_same_policy() -> None:
    def target_script(connection: PeerConnection) -> None:
        for status in (503, 200):
            connection.request()
            connection.answer(status, b"data")

    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy(total=1), token="secret")
        response = await get(transport)
        assert response.content == b"data"
        assert repr(response).startswith("<AsyncResponse 200 GET http://")
        await transport.close()

    with Peer(target_script) as target, Peer(always(301, b"<a>", f"Location: {target.url}/x")) as gate:
        run(work(gate.url))
        assert len(target.requests) == 2
        assert "authorization" in gate.requests[0].headers
        assert "authorization" not in target.requests[0].headers


def test_errors_of_the_policy_are_the_same() -> None:
    async def raised(url: str, error: type[TransportError], **request: object) -> None:
        transport = AsyncTransport(url, retry=Policy(3, 1))
        with pytest.raises(error):
            await transport.exchange(Request("PUT", "o", **request))  # type: ignore[arg-type]  # options of each line
        await transport.close()

    with Peer(always(503)) as peer:
        run(raised(peer.url, RetriesExhausted))
    with Peer(always(307, b"", "Location: /again")) as peer:
        run(raised(peer.url, TooManyRedirects))
    with Peer(once(b"")) as peer:
        run(raised(peer.url, BodyNotReplayable, body=iter([b"x"])))
        assert peer.connections == 1
    run(raised("http://127.0.0.1:1", ConnectionRefused))  # where nobody listens, nor will


def test_a_redirect_saves_the_body() -> None:
    def gate_script(connection: PeerConnection) -> None:
        connection.head()
        connection.answer(307, b"", f"Location: {target.url}/x", "Connection: close")
        connection.wait_for_end()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy())
        assert (await transport.exchange(Request("PUT", "o", body=pieces()))).content == b"one two"
        assert (await transport.exchange(Request("PUT", "o", body=BIG))).content == BIG
        await transport.close()

    with Peer(echo) as target, Peer(gate_script) as gate:
        run(work(gate.url))


def test_a_server_that_says_nothing_gets_the_body_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aistore.http1.aio.EXPECT_WAIT", 0.05)

    def silent(connection: PeerConnection) -> None:
        connection.answer(200, connection.request(agree=False).body)

    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy())
        assert (await transport.exchange(Request("PUT", "o", body=iter([b"body"])))).content == b"body"
        await transport.close()

    with Peer(silent) as peer:
        run(work(peer.url))


def test_an_answer_that_refuses_the_body_is_read() -> None:
    def refusing(connection: PeerConnection) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.body(100_000)
        connection.answer(413, b"too much", "Connection: close")
        connection.close()

    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy())
        response = await transport.exchange(Request("PUT", "o", body=b"x" * 50_000_000))
        assert (response.status, response.content) == (413, b"too much")
        assert idle(transport) == 0
        await transport.close()

    with Peer(refusing) as peer:
        run(work(peer.url))


@pytest.mark.parametrize("where", ["head", "body", "stream", "send"])
def test_cancelling_closes_the_connection_in_use_and_nothing_else(where: str) -> None:
    reached = threading.Event()
    ended: list[bool] = []

    def stalling(connection: PeerConnection) -> None:
        connection.head()
        if where in ("body", "stream"):
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        reached.set()
        if where == "send":
            cancelled.wait(DEADLINE)
        connection.wait_for_end()
        ended.append(True)

    cancelled = threading.Event()

    async def one(transport: AsyncTransport) -> None:
        if where == "send":
            await transport.exchange(Request("PUT", "o", body=b"x" * 50_000_000))
        await (await get(transport, stream=where == "stream")).read()

    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy(3))
        task = asyncio.create_task(one(transport))
        await happened(reached)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        cancelled.set()
        assert idle(transport) == 0
        assert (await get(transport)).content == b"whole"
        assert idle(transport) == 1
        await transport.close()

    with Peer(stalling, always(200, b"whole")) as peer:
        run(work(peer.url))
        assert peer.connections == 2
    assert ended == [True]


@pytest.mark.parametrize("leave", ["close", "with", "break", "drop"])
def test_leaving_a_body_early_costs_its_connection_and_nothing_else(leave: str) -> None:
    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy())
        # More often than there are slots: each has to be given back.
        for _ in range(110):
            response = await get(transport, stream=True)
            if leave == "close":
                await response.read(10)
                response.close()
            elif leave == "with":
                async with response:
                    pass
            elif leave == "break":
                chunks = response.chunks(10)
                await chunks.__anext__()
                await chunks.aclose()
            del response
            await asyncio.sleep(0)
        assert idle(transport) == 0
        assert (await get(transport)).content == BIG
        await transport.close()

    with Peer(always(200, BIG)) as peer:
        run(work(peer.url))


def test_many_tasks_share_few_connections() -> None:
    under_way: list[int] = []
    hundred = threading.Barrier(100, lambda: under_way.append(len(peer.requests)))

    def script(connection: PeerConnection) -> None:
        while True:
            received = connection.request()
            if not under_way:
                hundred.wait(DEADLINE)
            connection.answer(200, received.body)

    async def one(transport: AsyncTransport, number: int) -> None:
        body = f"{number}".encode() * 100
        assert (await transport.exchange(Request("PUT", "o", body=body))).content == body

    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy(), pool_size=4)
        await asyncio.gather(*(one(transport, n) for n in range(400)))
        assert 1 <= idle(transport) <= 4
        await transport.close()

    with Peer(script) as peer:
        run(work(peer.url))
        assert len(peer.requests) == 400
        assert under_way == [100]


def test_it_belongs_to_one_loop_and_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(echo) as peer:
        transport = transport_to(peer)

        async def use() -> None:
            await get(transport)
            await transport.close()

        run(use())
        with pytest.raises(RuntimeError, match="another event loop"):
            run(use())
        transport = pickle.loads(pickle.dumps(AsyncTransport(peer.url, token="t")))
        assert transport.token == "t"

        async def use_after_fork() -> None:
            await get(transport)
            pid = os.getpid() + 1
            monkeypatch.setattr("aistore.transport.aio.os.getpid", lambda: pid)
            with pytest.raises(RuntimeError, match="before a fork"):
                await get(transport)
            monkeypatch.undo()
            await transport.close()

        run(use_after_fork())


def test_https() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(FOLDER / "server.pem")

    async def work(url: str) -> None:
        transport = AsyncTransport(url, retry=Policy(), tls=TlsConfig(ca=str(FOLDER / "ca.pem")))
        assert (await transport.exchange(Request("PUT", "o", body=BIG))).content == BIG
        response = await transport.exchange(Request("PUT", "o", body=BIG, stream=True))
        assert b"".join([c async for c in response.chunks(100_001)]) == BIG
        await turn()
        assert idle(transport) == 1
        await transport.close()
        await turn()
        untrusting = AsyncTransport(url, retry=Policy(), tls=TlsConfig(ca=str(FOLDER / "client.pem")))
        with pytest.raises(TransportError, match="does not verify"):
            await get(untrusting)
        await turn()

    with Peer(echo, tls=context) as peer:
        run(work(peer.url))
        peer.failures.clear()


def test_an_error_of_any_length_does_not_fill_the_memory() -> None:
    async def ask(peer: Peer) -> None:
        transport = transport_to(peer)
        response = await transport.exchange(Request("GET", "objects/b/o", "provider=ais"))
        assert (response.status, len(response.content)) == (404, REFUSAL_MAX)
        await transport.close()

    with Peer(refuse_at_length) as peer:
        run(ask(peer))
