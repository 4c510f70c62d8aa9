"""Redirects: what is sent again, where it may go, and when it ends (protocol/00 9.4)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
import requests

from aistore.transport.blocking import Transport
from aistore.transport.errors import BodyNotReplayable, MalformedAnswer, TooManyRedirects
from aistore.transport.request import Request
from peer import Peer, PeerConnection, always, echo
from policies import Policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def redirecting(status: int, location: str, *headers: str, body: bytes = b"") -> Callable[[PeerConnection], None]:
    return always(status, body, f"Location: {location}", *headers)


def transport_to(peer: Peer, **options: object) -> Transport:
    return Transport(peer.url, retry=Policy(), **options)  # type: ignore[arg-type]  # options of each test


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "PATCH", "DELETE"])
def test_method_body_and_headers_are_sent_again(status: int, method: str) -> None:
    with (
        Peer(echo) as target,
        Peer(redirecting(status, f"{target.url}/v1/objects/b/o?provider=ais&pid=p&utm=1")) as gate,
    ):
        transport = transport_to(gate)
        response = transport.exchange(
            Request(method, "objects/b/o", "provider=ais", (("Range", "bytes=0-1"), ("Ais-X", "y")), b"body")
        )
        assert response.content == b"body"
        assert response.url == f"{target.url}/v1/objects/b/o?provider=ais&pid=p&utm=1"
        received = target.requests[0]
        assert (received.method, received.target) == (method, "/v1/objects/b/o?provider=ais&pid=p&utm=1")
        assert (received.headers["range"], received.headers["ais-x"]) == ("bytes=0-1", "y")
        assert received.headers["host"] == f"127.0.0.1:{target.port}"
        transport.close()


def test_a_head_request_is_redirected_too() -> None:
    def gate_script(connection: PeerConnection) -> None:
        connection.request()
        connection.send(
            f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {target.url}/x\r\nContent-Length: 40\r\n\r\n".encode()
        )

    def target_script(connection: PeerConnection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")

    with Peer(target_script) as target, Peer(gate_script) as gate:
        transport = transport_to(gate)
        response = transport.exchange(Request("HEAD", "objects/b/o"))
        assert (response.status, response.headers["content-length"], response.content) == (200, "1234", b"")
        transport.close()


def test_a_301_is_not_remembered() -> None:
    with Peer(always(200, b"data")) as target, Peer(redirecting(301, f"{target.url}/x", body=b"<a>moved</a>")) as gate:
        transport = transport_to(gate)
        for _ in range(3):
            assert transport.exchange(Request("GET", "objects/b/o")).content == b"data"
        assert (len(gate.requests), gate.connections, len(target.requests), target.connections) == (3, 1, 3, 1)
        transport.close()


def test_the_token_is_not_shown_to_another_origin() -> None:
    with Peer(echo) as target, Peer(redirecting(307, f"{target.url}/x")) as gate:
        transport = transport_to(gate, token="secret")
        transport.exchange(Request("GET", "objects/b/o"))
        transport.exchange(Request("GET", "objects/b/o", headers=(("Authorization", "Bearer other"),)))
        assert [r.headers.get("authorization") for r in gate.requests] == ["Bearer secret", "Bearer other"]
        assert [r.headers.get("authorization") for r in target.requests] == [None, None]
        transport.close()


def test_the_token_is_shown_to_the_same_origin() -> None:
    def script(connection: PeerConnection) -> None:
        connection.request()
        connection.answer(307, b"", "Location: /elsewhere")
        connection.request()
        connection.answer(200, b"here")

    with Peer(script) as peer:
        transport = transport_to(peer, token="secret")
        assert transport.exchange(Request("GET", "objects/b/o")).content == b"here"
        assert [(r.target, r.headers["authorization"]) for r in peer.requests] == [
            ("/v1/objects/b/o", "Bearer secret"),
            ("/elsewhere", "Bearer secret"),
        ]
        transport.close()


def test_a_body_without_promise_is_rewound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 20)
    with Peer(echo) as target, Peer(redirecting(307, f"{target.url}/x")) as gate, path.open("rb") as file:
        transport = transport_to(gate)
        file.seek(10)
        assert transport.exchange(Request("PUT", "o", body=file)).content == path.read_bytes()[10:]
        stream = io.BytesIO(b"skipped and sent")
        stream.seek(8)
        assert transport.exchange(Request("PUT", "o", body=stream)).content == b"and sent"
        assert [r.body for r in gate.requests] == [r.body for r in target.requests]
        transport.close()


def test_a_body_that_can_be_read_once_is_redirected_before_it_is_sent() -> None:
    def gate_script(connection: PeerConnection) -> None:
        connection.head()
        connection.answer(307, b"", f"Location: {target.url}/x", "Connection: close")

    with Peer(echo) as target, Peer(gate_script) as gate:
        transport = transport_to(gate)
        assert transport.exchange(Request("PUT", "o", body=iter([b"one ", b"two"]))).content == b"one two"
        big = b"x" * 1_000_000
        assert transport.exchange(Request("PUT", "o", body=big)).content == big
        transport.close()


def test_a_body_that_can_be_read_once_and_is_gone_is_an_error() -> None:
    with Peer(echo) as target, Peer(redirecting(307, f"{target.url}/x")) as gate:
        transport = transport_to(gate)
        with pytest.raises(BodyNotReplayable, match="seekable") as error:
            transport.exchange(Request("PUT", "o", body=iter([b"one", b"two"])))
        assert isinstance(error.value, requests.exceptions.UnrewindableBodyError)
        assert not target.requests
        transport.close()


def test_a_redirect_whose_body_is_cut_is_followed() -> None:
    def gate_script(connection: PeerConnection) -> None:
        connection.request()
        connection.send(f"HTTP/1.1 307 x\r\nLocation: {target.url}/x\r\nContent-Length: 100\r\n\r\n<a".encode())

    with Peer(always(200, b"data")) as target, Peer(gate_script) as gate:
        transport = transport_to(gate)
        assert transport.exchange(Request("GET", "o")).content == b"data"
        transport.close()


def test_bytes_that_a_url_may_not_hold_are_escaped() -> None:
    def gate_script(connection: PeerConnection) -> None:
        connection.request()
        connection.send(
            f"HTTP/1.1 307 x\r\nLocation: {target.url}/v1/objects/b/ü b\r\nContent-Length: 0\r\n\r\n".encode()
        )

    with Peer(echo) as target, Peer(gate_script) as gate:
        transport = transport_to(gate)
        transport.exchange(Request("GET", "o"))
        assert target.requests[0].target == "/v1/objects/b/%C3%BC%20b"
        transport.close()


def test_a_circle_ends() -> None:
    with Peer(redirecting(307, "/again")) as peer:
        transport = transport_to(peer)
        with pytest.raises(TooManyRedirects, match="in a circle") as error:
            transport.exchange(Request("GET", "o"))
        assert isinstance(error.value, requests.TooManyRedirects)
        assert len(peer.requests) == 31
        transport.close()


@pytest.mark.parametrize("headers", [(), ("Location: ftp://t/x",), ("Location: http://",)])
def test_a_redirect_to_nowhere_is_an_error(headers: tuple[str, ...]) -> None:
    with Peer(always(307, b"", *headers)) as peer:
        transport = transport_to(peer)
        with pytest.raises(MalformedAnswer, match="redirect 307"):
            transport.exchange(Request("GET", "o"))
        transport.close()


@pytest.mark.parametrize("status", [300, 303, 304, 305])
def test_other_3xx_are_answers(status: int) -> None:
    with Peer(redirecting(status, "/x")) as peer:
        transport = transport_to(peer)
        assert transport.exchange(Request("GET", "o")).status == status
        transport.close()
