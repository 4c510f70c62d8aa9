"""A proxy of the environment: taken for other than loopback, with the same answers and errors as without."""

from __future__ import annotations

import asyncio
import io
import ssl
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aistore.transport.aio import AsyncTransport
from aistore.transport.blocking import Transport
from aistore.transport.errors import ConnectionFailed, IncompleteBody, ReadTimeout
from aistore.transport.request import Request, Timeout
from aistore.transport.tls import TlsConfig
from peer import Peer, PeerConnection, always, echo, once
from policies import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BIG = bytes(range(251)) * 8000
ENDPOINT = "http://aistore.example:8080"


@pytest.fixture(autouse=True)
def no_proxy_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "REQUEST_METHOD",
    ):
        monkeypatch.delenv(name, raising=False)


def test_requests_go_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(echo) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        transport = Transport(ENDPOINT, retry=Policy(), token="secret")
        for body in (b"small", io.BytesIO(BIG), BIG, [b"one", b"two"]):
            response = transport.exchange(Request("PUT", "objects/b/o", "provider=ais", (("X", "y"),), body))
            assert response.content == (b"onetwo" if isinstance(body, list) else b"small" if body == b"small" else BIG)
        received = proxy.requests[0]
        assert (received.method, received.target) == ("PUT", f"{ENDPOINT}/v1/objects/b/o?provider=ais")
        assert received.headers["host"] == "aistore.example:8080"
        assert (received.headers["authorization"], received.headers["x"]) == ("Bearer secret", "y")
        assert received.headers["content-length"] == "5"
        assert response.headers["content-length"] == "6"
        response = transport.exchange(Request("PUT", "o", body=BIG, stream=True))
        assert b"".join(response.chunks(100_001)) == BIG
        buffer = bytearray(len(BIG) + 5)
        view = memoryview(buffer)
        response = transport.exchange(Request("PUT", "o", body=BIG, stream=True))
        got = 0
        while count := response.readinto(view[got:]):
            got += count
        assert buffer[:got] == BIG
        assert proxy.connections == 1
        transport.close()


def test_those_of_the_asynchronous_transport_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        transport = AsyncTransport(ENDPOINT, retry=Policy())
        assert (await transport.exchange(Request("PUT", "o", body=b"body"))).content == b"body"
        response = await transport.exchange(Request("PUT", "o", body=BIG, stream=True))
        buffer = bytearray(10)
        assert await response.readinto(memoryview(buffer)) == 10
        assert bytes(buffer) + await response.read(10) + await response.read() == BIG
        response.close()
        await transport.close()

    with Peer(echo) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        asyncio.run(work(), debug=True)
        assert proxy.requests[0].target == f"{ENDPOINT}/v1/o"


def begin_tunnel(connection: PeerConnection) -> None:
    """Accept CONNECT, and speak TLS from then on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).parent / "certificates" / "server.pem")
    connection.head()
    connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
    connection.start_tls(context)


@contextmanager
def unverified_transport() -> Iterator[Transport]:
    """One to an HTTPS address that is not there: what a proxy in front of it says is believed."""
    transport = Transport("https://aistore.example", retry=Policy(), tls=TlsConfig(verify=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # urllib3 warns of what the user asked for
        yield transport
    transport.close()


def test_https_goes_through_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    def tunnel(connection: PeerConnection) -> None:
        begin_tunnel(connection)
        try:
            echo(connection)
        finally:
            connection.close()

    with Peer(tunnel) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with unverified_transport() as transport:
            assert transport.exchange(Request("PUT", "o", body=b"body")).content == b"body"
        assert [(r.method, r.target) for r in proxy.requests] == [("CONNECT", "aistore.example:443"), ("PUT", "/v1/o")]


def test_a_body_from_a_tunnel_that_breaks_off_is_incomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    def tunnel(connection: PeerConnection) -> None:
        begin_tunnel(connection)
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\nthe first half")
        connection.close()

    with Peer(tunnel) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with unverified_transport() as transport, pytest.raises(IncompleteBody):
            transport.exchange(Request("GET", "o"))


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_which_variables_count(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    with Peer(always(200, b"proxied")) as proxy:
        monkeypatch.setenv(variable, proxy.url.replace("http://", "http://user:pass@"))
        transport = Transport(ENDPOINT, retry=Policy())
        assert transport.exchange(Request("GET", "o")).content == b"proxied"
        assert proxy.requests[0].headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
        transport.close()


def test_loopback_and_exceptions_are_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(echo) as proxy, Peer(always(200, b"direct")) as peer:
        monkeypatch.setenv("http_proxy", proxy.url)
        transport = Transport(peer.url, retry=Policy())
        assert transport.exchange(Request("GET", "o")).content == b"direct"
        transport.close()
        monkeypatch.setenv("no_proxy", ".invalid")
        with pytest.raises(ConnectionFailed, match="has no address"):
            Transport("http://aistore.invalid", retry=Policy()).exchange(Request("GET", "o"))
        assert proxy.connections == 0


def test_redirects_and_repeats_work_as_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(connection: PeerConnection) -> None:
        for answer in ((307, b"", "Location: /elsewhere"), (503, b"busy"), (200, b"data")):
            connection.request()
            connection.answer(*answer)

    with Peer(script) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        transport = Transport(ENDPOINT, retry=Policy(total=1))
        response = transport.exchange(Request("GET", "o"))
        assert (response.content, response.url) == (b"data", f"{ENDPOINT}/elsewhere")
        assert [r.target for r in proxy.requests] == [
            f"{ENDPOINT}/v1/o",
            f"{ENDPOINT}/elsewhere",
            f"{ENDPOINT}/elsewhere",
        ]
        transport.close()


def stalling(connection: PeerConnection) -> None:
    connection.request()
    connection.wait_for_end()


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (once(b""), ConnectionFailed),
        (stalling, ReadTimeout),
        (once(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"), IncompleteBody),
    ],
)
def test_failures_are_the_same_errors(
    monkeypatch: pytest.MonkeyPatch, script: Callable[[PeerConnection], None], error: type[Exception]
) -> None:
    with Peer(script) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://user:pass@"))
        transport = Transport(ENDPOINT, timeout=Timeout(5, 0.1 if script is stalling else 10), retry=Policy(2))
        with pytest.raises(error, match=f"through the proxy {proxy.url}") as raised:
            transport.exchange(Request("GET", "o"))
        assert "pass" not in str(raised.value).replace("pass ", "")
        assert len(proxy.seen(2)) == 2


def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "127.0.0.1:1")
    with pytest.raises(ConnectionFailed, match=r"through the proxy http://127\.0\.0\.1:1"):
        Transport(ENDPOINT, retry=Policy()).exchange(Request("GET", "o"))
