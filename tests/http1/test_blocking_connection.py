"""`BlockingConnection` against a peer that breaks the rules, and against one that only is slow."""

from __future__ import annotations

import io
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from aistore.http1.blocking import BlockingConnection
from aistore.http1.body import BlockingBody
from aistore.http1.failures import BadBody, HeadCut, NoAnswer, ReadTimedOut, ShortBody
from aistore.http1.head import BadHead, ResponseHead
from aistore.http1.payload import BytesPayload, FilePayload, IterablePayload, as_payload
from peer import Peer, PeerConnection, once
from waiting import DEADLINE, until

if TYPE_CHECKING:
    from pathlib import Path

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


class Ask:
    """Sends a GET to a peer with this script and reads the answer."""

    def __init__(self, peer: Peer, timeout: float | None = 10.0) -> None:
        self.connection = BlockingConnection.connect("127.0.0.1", peer.port, 5.0)
        self.connection.set_timeout(timeout)

    def get(self, method: str = "GET") -> tuple[ResponseHead, bytes | BlockingBody]:
        self.connection.send_head(GET.replace(b"GET", method.encode()))
        return self.connection.receive(method)

    def content(self) -> bytes:
        _, body = self.get()
        return body if isinstance(body, bytes) else body.read_rest()


@pytest.mark.parametrize(
    ("data", "failure"),
    [
        (b"", NoAnswer),
        (b"HTTP/1.1 200", HeadCut),
        (b"HTTP/1.1 100 Continue\r\n\r\n", HeadCut),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", BadHead),
        (b"HTTP/2 200\r\n\r\n", BadHead),
        (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", BadHead),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", BadHead),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", BadHead),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", BadHead),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", BadHead),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", BadHead),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", BadHead),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 40, BadHead),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123", ShortBody),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", ShortBody),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", ShortBody),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", ShortBody),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", ShortBody),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", BadBody),
    ],
)
def test_a_broken_answer_is_a_failure(data: bytes, failure: type[Exception]) -> None:
    with Peer(once(data)) as peer:
        ask = Ask(peer)
        with pytest.raises(failure):
            ask.content()
        assert not ask.connection.reusable
        ask.connection.close()


@pytest.mark.parametrize(
    ("data", "content", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", b"hello", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more", b"hello", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end", False),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", True),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"ok",
            True,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nT: v\r\n\r\n",
            b"hello world",
            True,
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nsurplus", b"x", False),
    ],
)
def test_framing_decides_body_and_reuse(data: bytes, content: bytes, reusable: bool) -> None:
    # Byte by byte and in one piece: where the answer is cut makes no difference.
    def slowly(connection: PeerConnection) -> None:
        connection.request()
        for at in range(len(data)):
            connection.send(data[at : at + 1])

    for script in (once(data), slowly):
        with Peer(script) as peer:
            ask = Ask(peer)
            assert ask.content() == content
            if script is not slowly or not data.endswith((b"more", b"surplus")):
                assert ask.connection.reusable is reusable
            ask.connection.close()


def test_a_head_answer_has_no_body() -> None:
    def script(connection: PeerConnection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        connection.request()
        connection.answer(200, b"next")

    with Peer(script) as peer:
        ask = Ask(peer)
        head, body = ask.get("HEAD")
        assert (head.headers["content-length"], body) == ("1000", b"")
        assert ask.content() == b"next"
        ask.connection.close()


BIG = bytes(range(251)) * 8000


@pytest.mark.parametrize("chunked", [False, True])
def test_every_way_of_reading_gives_the_same(chunked: bool) -> None:
    def script(connection: PeerConnection) -> None:
        while True:
            connection.request()
            if not chunked:
                connection.answer(200, BIG)
                continue
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for at in range(0, len(BIG), 70_001):
                piece = BIG[at : at + 70_001]
                connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            connection.send(b"0\r\n\r\n")

    with Peer(script) as peer:
        ask = Ask(peer)
        assert ask.content() == BIG
        for size in (1, 7, 65536, 300_000, len(BIG) + 1):
            _, body = ask.get()
            assert isinstance(body, BlockingBody)
            if size == 1:
                assert body.read(1) == BIG[:1]
                got = BIG[:1] + body.read_rest()
            else:
                pieces = list(iter(partial(body.read, size), b""))
                assert all(len(p) == size for p in pieces[:-1])
                got = b"".join(pieces)
            assert got == BIG
            assert body.done
            assert ask.connection.reusable
        _, body = ask.get()
        assert isinstance(body, BlockingBody)
        buffer, got = bytearray(123_456), b""
        while count := body.readinto(memoryview(buffer)):
            got += buffer[:count]
        assert got == BIG
        assert body.read(10) == b""
        assert peer.connections == 1
        ask.connection.close()


def test_what_arrived_before_a_cut_is_handed_out_first() -> None:
    with Peer(once(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 70_000)) as peer:
        ask = Ask(peer)
        _, body = ask.get()
        assert isinstance(body, BlockingBody)
        assert len(body.read(100_000)) == 70_000
        with pytest.raises(ShortBody, match="70000 of 100000"):
            body.read(100_000)
        with pytest.raises(ShortBody):
            body.readinto(memoryview(bytearray(10)))
        ask.connection.close()


def test_a_stalled_head_and_a_stalled_body_time_out() -> None:
    def stalled(data: bytes) -> None:
        def script(connection: PeerConnection) -> None:
            connection.request()
            connection.send(data)
            connection.wait_for_end()

        with Peer(script) as peer:
            ask = Ask(peer, timeout=0.1)
            with pytest.raises(ReadTimedOut):
                ask.content()
            ask.connection.close()

    stalled(b"")
    stalled(b"HTTP/1.1 200 OK\r\nConte")
    stalled(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123")
    stalled(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe")


def test_a_slow_body_is_no_stalled_one() -> None:
    more = threading.Semaphore(0)

    def script(connection: PeerConnection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
        for _ in range(20):
            connection.send(b"x")
            more.acquire(timeout=0.08)

    with Peer(script) as peer:
        ask = Ask(peer, timeout=1.5)
        assert ask.content() == b"x" * 20
        ask.connection.close()


def test_a_reset_before_and_within_the_answer() -> None:
    def before(connection: PeerConnection) -> None:
        connection.request()
        connection.reset()

    def within(connection: PeerConnection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        connection.head()
        connection.reset()

    with Peer(before, within) as peer:
        ask = Ask(peer)
        with pytest.raises(NoAnswer):
            ask.content()
        ask.connection.close()
        ask = Ask(peer)
        _, body = ask.get()
        ask.connection.send_head(GET)
        assert isinstance(body, BlockingBody)
        with pytest.raises(ShortBody, match="of 1000000"):
            body.read_rest()
        ask.connection.close()


def send(peer: Peer, body: object, *, expect: bool = False) -> tuple[ResponseHead, bytes]:
    ask = Ask(peer)
    payload = as_payload(body)  # type: ignore[arg-type]  # the tests hand over bad bodies too
    assert payload is not None
    framing = (
        b"Transfer-Encoding: chunked\r\n" if payload.length is None else b"Content-Length: %d\r\n" % payload.length
    )
    head = b"PUT /o HTTP/1.1\r\nHost: h\r\n" + framing + (b"Expect: 100-continue\r\n" if expect else b"") + b"\r\n"
    try:
        answer = ask.connection.send("PUT", head, payload, expect=expect) or ask.connection.receive("PUT")
        return answer[0], answer[1] if isinstance(answer[1], bytes) else answer[1].read_rest()
    finally:
        ask.connection.close()


def stored(connection: PeerConnection) -> None:
    connection.answer(200, str(len(connection.request().body)).encode())


@pytest.mark.parametrize("expect", [False, True])
def test_every_kind_of_body_arrives_whole(tmp_path: Path, expect: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(BIG)
    with Peer(stored) as peer:
        bodies: list[tuple[object, bytes]] = [
            (b"", b""),
            (b"small", b"small"),
            (bytearray(BIG), BIG),
            (memoryview(BIG)[1:], BIG[1:]),
            (io.BytesIO(BIG), BIG),
            (iter([b"a", b"", memoryview(b"bc"), BIG]), b"abc" + BIG),
            ([b"x", b"y"], b"xy"),
            (iter(()), b""),
        ]
        for body, expected in bodies:
            assert send(peer, body, expect=expect)[0].status == 200
            assert peer.requests[-1].body == expected
        for buffering in (-1, 0):
            with path.open("rb", buffering=buffering) as file:
                file.seek(1000)
                send(peer, file, expect=expect)
                assert peer.requests[-1].body == BIG[1000:]
                assert file.tell() == len(BIG)


def test_a_file_whose_descriptor_shows_other_bytes_is_read(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(BIG))
    with Peer(stored) as peer, gzip.open(path) as file:
        send(peer, file)
        assert peer.requests[-1].body == BIG


def test_a_file_that_shrinks_is_an_error_and_no_hang(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BIG)
    with Peer(stored) as peer, path.open("rb") as file:
        payload = as_payload(file)
        assert isinstance(payload, FilePayload)
        path.write_bytes(b"short")
        ask = Ask(peer)
        with pytest.raises(ValueError, match="ended 2007995 bytes early"):
            ask.connection.send(
                "PUT", b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2008000\r\n\r\n", payload, expect=False
            )
        ask.connection.close()


@pytest.mark.parametrize("body", ["text", 5, object(), io.StringIO("text"), iter(["text"])])
def test_text_and_other_things_are_no_body(body: object) -> None:
    with Peer(stored) as peer, pytest.raises(TypeError, match="bytes"):
        send(peer, body)


def test_what_can_be_sent_again() -> None:
    assert BytesPayload(b"x").rewind()
    again = IterablePayload([b"x"])
    assert list(again.pieces()) == list(again.pieces()) == [b"x"]
    assert again.rewind()
    once_only = IterablePayload(iter([b"x"]))
    assert once_only.rewind(), "nothing was taken yet"
    list(once_only.pieces())
    assert not once_only.rewind()
    file = io.BytesIO(b"0123")
    file.seek(2)
    payload = FilePayload(file)
    assert [b"".join(payload.pieces()), payload.rewind(), b"".join(payload.pieces())] == [b"23", True, b"23"]


class TestExpectContinue:
    """`Expect: 100-continue`: the server's word decides whether the body is sent at all."""

    def test_a_final_answer_saves_the_body(self) -> None:
        def redirecting(connection: PeerConnection) -> None:
            connection.head()
            connection.answer(307, b"", "Location: http://elsewhere/", "Connection: close")
            connection.wait_for_end()

        with Peer(redirecting) as peer:
            source = iter([b"never taken"])
            head, _ = send(peer, source, expect=True)
            assert (head.status, next(source)) == (307, b"never taken")

    def test_other_interim_answers_are_skipped(self) -> None:
        def script(connection: PeerConnection) -> None:
            received = connection.head()
            connection.send(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
            connection.answer(200, connection.body(int(received.headers["content-length"])))

        with Peer(script) as peer:
            assert send(peer, b"body", expect=True)[1] == b"body"

    def test_a_server_that_agrees_and_answers_at_once_is_heard(self) -> None:
        def script(connection: PeerConnection) -> None:
            connection.head()
            connection.send(
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 507 Insufficient Storage\r\nContent-Length: 4\r\n\r\nfull"
            )
            connection.wait_for_end()

        with Peer(script) as peer:
            head, content = send(peer, iter([b"body"]), expect=True)
            assert (head.status, content) == (507, b"full")

    def test_a_server_that_says_nothing_gets_the_body_after_a_while(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("aistore.http1.blocking.EXPECT_WAIT", 0.05)

        def silent(connection: PeerConnection) -> None:
            connection.answer(200, connection.request(agree=False).body)

        with Peer(silent) as peer:
            assert send(peer, b"body", expect=True)[1] == b"body"

    def test_a_connection_on_which_a_body_was_announced_but_not_sent_is_not_reused(self) -> None:
        def refusing(connection: PeerConnection) -> None:
            connection.head()
            connection.answer(403, b"no")
            connection.wait_for_end()

        with Peer(refusing) as peer:
            ask = Ask(peer)
            answer = ask.connection.send(
                "PUT",
                b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
                BytesPayload(b"body"),
                expect=True,
            )
            assert answer is not None
            assert (answer[0].status, answer[1]) == (403, b"no")
            assert not ask.connection.reusable
            ask.connection.close()


@pytest.mark.parametrize("body", [b"x" * 50_000_000, [b"x" * 1_000_000] * 50])
def test_an_answer_that_refuses_the_body_is_read(body: object) -> None:
    def refusing(connection: PeerConnection) -> None:
        connection.head()
        connection.answer(413, b"too much", "Connection: close")
        connection.close()

    with Peer(refusing) as peer:
        head, content = send(peer, body)
        assert (head.status, content) == (413, b"too much")


def test_an_idle_connection_that_the_server_closed_is_not_alive() -> None:
    closed = threading.Event()

    def script(connection: PeerConnection) -> None:
        connection.request()
        connection.answer(200, b"ok")
        connection.request()
        connection.answer(200, b"ok")
        connection.close()
        closed.set()

    with Peer(script) as peer:
        ask = Ask(peer)
        ask.content()
        assert ask.connection.is_alive()
        ask.content()
        assert closed.wait(DEADLINE)
        until(lambda: not ask.connection.is_alive())  # the system tells the other end a moment later
        ask.connection.close()
        assert not ask.connection.is_alive()


@pytest.mark.parametrize("lost", [0, 1, 100_000, 290_000])
def test_some_of_chunks_of_any_size(lost: int) -> None:
    chunks = [bytes([size % 251]) * size for size in (1, 70_000, 65_536, 65_535, 131_072, 3, 300_000)]
    wire = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    wire = wire[: -2 - lost] if lost else wire + b"0\r\n\r\n"

    with Peer(once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + wire)) as peer:
        _, body = Ask(peer).get()
        assert isinstance(body, BlockingBody)
        got = bytearray()
        while len(got) < sum(map(len, chunks)) - lost:
            got += body.read_some()
        assert bytes(got) == b"".join(chunks)[: len(got)]
        if lost:
            with pytest.raises(ShortBody):
                body.read_some()
        else:
            assert body.read_some() == b""
