"""`Transport.exchange`: what goes over the wire, what comes back, and which connection it takes."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING

import pytest

from aistore.transport.base import REFUSAL_MAX
from aistore.transport.blocking import Transport
from aistore.transport.errors import ConnectionLost, IncompleteBody, ReadTimeout
from aistore.transport.request import Request, Timeout
from aistore.transport.response import Response, StreamConsumed
from aistore.version import __version__
from peer import Peer, PeerConnection, always, closing, echo, once, refuse_at_length
from policies import Policy
from waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

BIG = bytes(range(251)) * 8000


def transport_to(peer: Peer, attempts: int = 1, total: int = 0, **options: object) -> Transport:
    return Transport(peer.url, retry=Policy(attempts, total), **options)  # type: ignore[arg-type]  # options of each test


def get(transport: Transport, path: str = "objects/b/o", *, stream: bool = False) -> Response:
    return transport.exchange(Request("GET", path, "provider=ais", stream=stream))


def idle(transport: Transport) -> int:
    """Idle connections that the pool shows."""
    _, _, text = repr(transport).partition("idle ")
    return 0 if text.startswith("none") else int(text.partition(": ")[2].rpartition(": ")[2].partition(",")[0])


def test_a_request_carries_the_headers_of_the_protocol() -> None:
    with Peer(echo) as peer:
        transport = transport_to(peer, token="secret")
        response = transport.exchange(
            Request("PUT", "objects/b/a%20b", "provider=ais", (("Ais-Custom", "x=y"),), b"body")
        )
        assert (response.status, response.reason, response.content) == (200, "Some Reason", b"body")
        assert response.url == f"{peer.url}/v1/objects/b/a%20b?provider=ais"
        assert response.headers["CONTENT-length"] == "4"
        assert "Content-Length" in response.headers
        transport.close()
    received = peer.requests[0]
    assert (received.method, received.target) == ("PUT", "/v1/objects/b/a%20b?provider=ais")
    assert received.headers == {
        "host": f"127.0.0.1:{peer.port}",
        "user-agent": f"ais/python/{__version__}",
        "accept": "*/*",
        "content-type": "application/json",
        "authorization": "Bearer secret",
        "ais-custom": "x=y",
        "content-length": "4",
    }


@pytest.mark.parametrize(
    ("method", "length"), [("GET", None), ("HEAD", None), ("DELETE", None), ("PUT", "0"), ("POST", "0"), ("PATCH", "0")]
)
def test_no_body_is_announced_where_one_is_expected(method: str, length: str | None) -> None:
    def script(connection: PeerConnection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with Peer(script) as peer:
        transport = transport_to(peer)
        transport.exchange(Request(method, "x"))
        assert peer.requests[0].headers.get("content-length") == length
        transport.close()


def test_a_header_of_the_request_replaces_the_constant_one() -> None:
    with Peer(echo) as peer:
        transport = transport_to(peer, token="secret")
        transport.exchange(
            Request("GET", "x", headers=(("content-type", "text/plain"), ("AUTHORIZATION", "Bearer other")))
        )
        assert peer.requests[0].headers["content-type"] == "text/plain"
        assert peer.requests[0].headers["authorization"] == "Bearer other"
        transport.close()


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "Connection", "Expect"])
def test_a_header_that_frames_the_message_is_refused(name: str) -> None:
    with Peer(echo) as peer:
        transport = transport_to(peer)
        with pytest.raises(ValueError, match="transport's own"):
            transport.exchange(Request("GET", "x", headers=((name, "1"),)))
        assert peer.connections == 0


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "a b"),
        Request("GET", "a\r\nX: y"),
        Request("GET", "x", "a=\n"),
        Request("GET", "x", headers=(("A", "b\r\nC: d"),)),
    ],
)
def test_nothing_can_be_smuggled_into_a_request(request_: Request) -> None:
    with Peer(echo) as peer:
        transport = transport_to(peer)
        with pytest.raises(ValueError, match=r"percent-encoded|control character"):
            transport.exchange(request_)
        assert peer.connections == 0


def test_another_base_than_the_endpoint() -> None:
    with Peer(always(200, b"target")) as target, Peer(always(200, b"gate")) as gate:
        transport = transport_to(gate)
        response = transport.exchange(Request("GET", "objects/b/o", base=f"{target.url}/v1"))
        assert (response.content, response.url) == (b"target", f"{target.url}/v1/objects/b/o")
        transport.close()


class TestReading:
    """The body of a streamed response."""

    @pytest.fixture(params=[10, 2_000_000], ids=["with its head", "later"])
    def response(self, request: pytest.FixtureRequest) -> Iterator[tuple[Response, bytes, Transport]]:
        body = BIG[: request.param]
        with Peer(always(200, body)) as peer:
            transport = transport_to(peer)
            response = get(transport, stream=True)
            yield response, body, transport
            response.close()
            transport.close()

    def test_as_content(self, response: tuple[Response, bytes, Transport]) -> None:
        answer, body, transport = response
        assert answer.content == body
        assert answer.content is answer.content
        assert idle(transport) == 1

    def test_in_parts(self, response: tuple[Response, bytes, Transport]) -> None:
        answer, body, transport = response
        buffer = bytearray(4)
        assert answer.read(3) == body[:3]
        assert answer.readinto(memoryview(buffer)) == 4
        assert buffer == body[3:7]
        assert answer.read() == body[7:]
        assert answer.read() == answer.read(5) == b""
        assert answer.readinto(memoryview(buffer)) == 0
        assert idle(transport) == 1

    def test_in_chunks(self, response: tuple[Response, bytes, Transport]) -> None:
        answer, body, transport = response
        chunks = list(answer.chunks(300_001))
        assert b"".join(chunks) == body
        assert all(len(c) == 300_001 for c in chunks[:-1])
        assert idle(transport) == 1
        with pytest.raises(ValueError, match="not positive"):
            next(answer.chunks(0))

    def test_into_a_file(self, response: tuple[Response, bytes, Transport]) -> None:
        answer, body, transport = response
        file = io.BytesIO()
        assert answer.copy_to(file, 70_000) == len(body)
        assert file.getvalue() == body
        assert idle(transport) == 1


def test_content_after_a_part_was_read_is_an_error() -> None:
    with Peer(always(200, BIG)) as peer:
        transport = transport_to(peer)
        response = get(transport, stream=True)
        response.read(1)
        with pytest.raises(StreamConsumed):
            _ = response.content
        response.close()
        with pytest.raises(StreamConsumed):
            _ = response.content
        assert response.read() == b""


@pytest.mark.parametrize("leave", ["close", "with", "break", "drop"])
def test_leaving_a_body_early_costs_its_connection_and_nothing_else(leave: str) -> None:
    with Peer(always(200, BIG * 4)) as peer:
        transport = transport_to(peer)
        response = get(transport, stream=True)
        if leave == "close":
            response.read(10)
            response.close()
        elif leave == "with":
            with response:
                pass
        elif leave == "break":
            for _ in response.chunks(10):
                break
        del response
        assert idle(transport) == 0
        assert get(transport).content == BIG * 4
        assert (idle(transport), peer.connections) == (1, 2)
        transport.close()


def test_an_error_of_any_length_does_not_fill_the_memory() -> None:
    with Peer(refuse_at_length) as peer:
        transport = transport_to(peer)
        response = get(transport)
        assert (response.status, len(response.content), idle(transport)) == (404, REFUSAL_MAX, 0)
        transport.close()


def test_an_error_status_is_read_at_once_even_when_streamed() -> None:
    with Peer(always(404, BIG)) as peer:
        transport = transport_to(peer)
        response = get(transport, stream=True)
        assert (response.status, idle(transport)) == (404, 1)
        assert response.content == BIG
        transport.close()


class TestPool:
    """Connections are kept, checked and given up."""

    def test_one_connection_serves_all_calls_in_turn(self) -> None:
        with Peer(echo) as peer:
            transport = transport_to(peer)
            for method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
                transport.exchange(Request(method, "x", body=None if method == "HEAD" else b""))
            assert (peer.connections, idle(transport)) == (1, 1)
            transport.close()
            assert idle(transport) == 0
            transport.exchange(Request("GET", "x"))
            assert peer.connections == 2
            transport.close()

    def test_excess_connections_are_opened_and_dropped(self) -> None:
        together = threading.Barrier(6)

        def script(connection: PeerConnection) -> None:
            connection.request()
            together.wait(DEADLINE)
            connection.answer(200, b"x")
            connection.wait_for_end()

        with Peer(script) as peer:
            transport = transport_to(peer, pool_size=2)
            threads = [threading.Thread(target=get, args=(transport,)) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(DEADLINE)
            assert (peer.connections, idle(transport)) == (6, 2)
            transport.close()

    def test_many_threads_share_it(self) -> None:
        with Peer(echo) as peer:
            transport = transport_to(peer, pool_size=3)
            wrong: list[bytes] = []

            def work(number: int) -> None:
                for turn in range(40):
                    body = f"{number} {turn}".encode() * 50
                    answer = transport.exchange(Request("PUT", "x", body=body)).content
                    if answer != body:
                        wrong.append(answer)

            threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(DEADLINE)
            assert not wrong
            assert len(peer.requests) == 320
            assert 0 < idle(transport) <= 3
            transport.close()

    @pytest.mark.parametrize("how", ["close", "reset"])
    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    def test_an_idle_connection_that_died_is_replaced_at_once(self, how: str, method: str) -> None:
        def dying(connection: PeerConnection) -> None:
            connection.request()
            connection.answer(200, b"first")
            connection.head()
            if how == "reset":
                connection.reset()

        with Peer(dying, always(200, b"second")) as peer:
            transport = transport_to(peer)
            get(transport)
            body = None if method == "GET" else io.BytesIO(b"body")
            assert transport.exchange(Request(method, "x", body=body)).content == b"second"
            assert [r.method for r in peer.requests] == ["GET", method, method]
            assert peer.requests[-1].body == (b"" if body is None else b"body")
            transport.close()

    @pytest.mark.parametrize(("method", "query"), [("POST", ""), ("PATCH", ""), ("PUT", "append_type=append")])
    def test_what_must_not_run_twice_is_not_sent_twice(self, method: str, query: str) -> None:
        def dying(connection: PeerConnection) -> None:
            connection.request()
            connection.answer()
            connection.request()

        with Peer(dying, always()) as peer:
            transport = transport_to(peer)
            get(transport)
            with pytest.raises(ConnectionLost):
                transport.exchange(Request(method, "x", query, body=b"body"))
            assert peer.connections == 1

    def test_a_connection_known_to_be_closed_is_not_used_for_a_post(self) -> None:
        closed = threading.Event()
        with Peer(closing(closed), always(200, b"second")) as peer:
            transport = transport_to(peer)
            get(transport)
            assert closed.wait(DEADLINE)
            assert transport.exchange(Request("POST", "x", body=b"{}")).content == b"second"
            assert [r.method for r in peer.requests] == ["GET", "POST"]
            transport.close()

    def test_a_consumed_iterator_is_not_sent_again_over_a_fresh_connection(self) -> None:
        def dying(connection: PeerConnection) -> None:
            connection.request()
            connection.answer()
            connection.request()

        with Peer(dying, echo) as peer:
            transport = transport_to(peer)
            get(transport)
            with pytest.raises(ConnectionLost):
                transport.exchange(Request("PUT", "x", body=iter([b"one", b"two"])))
            assert peer.connections == 1

    def test_a_fresh_connection_that_dies_is_no_old_one(self) -> None:
        with Peer(once(b""), always()) as peer:
            with pytest.raises(ConnectionLost, match="without an answer"):
                get(transport_to(peer))
            assert peer.connections == 1

    def test_a_cut_body_closes_its_connection(self) -> None:
        with Peer(once(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123"), always(200, b"whole")) as peer:
            transport = transport_to(peer)
            with pytest.raises(IncompleteBody, match="3 of 10 bytes"):
                get(transport)
            assert idle(transport) == 0
            assert get(transport).content == b"whole"
            transport.close()

    def test_two_answers_to_one_request_are_not_mixed_up(self) -> None:
        twice = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst"

        def script(connection: PeerConnection) -> None:
            connection.request()
            connection.send(twice + twice)
            connection.wait_for_end()

        with Peer(script, always(200, b"second")) as peer:
            transport = transport_to(peer)
            assert get(transport).content == b"first"
            assert get(transport).content == b"second"
            transport.close()


def test_timeouts_of_the_client_and_of_one_call() -> None:
    def stalling(connection: PeerConnection) -> None:
        connection.request()
        connection.wait_for_end()

    with Peer(stalling) as peer:
        transport = transport_to(peer, timeout=Timeout(5, 0.05))
        with pytest.raises(ReadTimeout, match="raise `timeout`"):
            get(transport)
        transport = transport_to(peer, timeout=Timeout(5, None))
        with pytest.raises(ReadTimeout):
            transport.exchange(Request("GET", "x", timeout=Timeout(5, 0.05)))


def test_negative_pool_size_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        Transport("http://h", pool_size=-1)


def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one() -> None:
    sent = threading.Event()

    def script(connection: PeerConnection) -> None:
        name = connection.request().target.rpartition("/")[2].partition("?")[0]
        connection.answer(200, f"content of {name}".encode())
        if name == "first":
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
            sent.set()
        connection.wait_for_end()

    with Peer(script) as peer:
        transport = transport_to(peer)
        assert get(transport, "objects/b/first").content == b"content of first"
        assert sent.wait(DEADLINE)
        assert get(transport, "objects/b/second").content == b"content of second"
        transport.close()


def test_a_token_is_stripped_and_never_shown() -> None:
    with Peer(always(200)) as peer:
        transport = transport_to(peer, token="secret\n")
        get(transport)
        transport.close()
        assert peer.requests[0].headers["authorization"] == "Bearer secret"
        broken = transport_to(peer, token="sec\x01ret")
        with pytest.raises(ValueError, match="control character") as info:
            get(broken)
        assert "sec" not in str(info.value)


def test_an_endpoint_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="user and password") as info:
        Transport("http://user:s3cret@127.0.0.1:8080")
    assert "s3cret" not in str(info.value)
