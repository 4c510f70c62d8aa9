"""HTTPS: whom the client trusts, as whom it appears, and that everything else works as over plain HTTP."""

from __future__ import annotations

import asyncio
import io
import ssl
import threading
from pathlib import Path

import pytest
import requests

from aistore.transport.aio import AsyncTransport
from aistore.transport.blocking import Transport
from aistore.transport.errors import IncompleteBody, ReadTimeout, TlsError
from aistore.transport.request import Request, Timeout
from aistore.transport.tls import TlsConfig
from peer import Peer, PeerConnection, always, echo, once
from policies import Policy
from waiting import DEADLINE

FOLDER = Path(__file__).parent / "certificates"
CA, SERVER, CLIENT = (str(FOLDER / f"{name}.pem") for name in ("ca", "server", "client"))
BIG = bytes(range(251)) * 8000


def server_context(*, client_certificate: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SERVER)
    if client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(CA)
    return context


def transport_to(peer: Peer, tls: TlsConfig | None = None, **options: object) -> Transport:
    return Transport(peer.url, retry=Policy(), tls=tls or TlsConfig(ca=CA), **options)  # type: ignore[arg-type]  # options of each test


def test_reading_and_writing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BIG)
    with Peer(echo, tls=server_context()) as peer, path.open("rb") as file:
        transport = transport_to(peer)
        for body in (b"small", BIG, io.BytesIO(BIG), file, [b"one", b"two"]):
            expected = body if isinstance(body, bytes) else b"onetwo" if isinstance(body, list) else BIG
            assert transport.exchange(Request("PUT", "o", body=body)).content == expected
        response = transport.exchange(Request("PUT", "o", body=BIG, stream=True))
        assert b"".join(response.chunks(100_001)) == BIG
        out = io.BytesIO()
        transport.exchange(Request("PUT", "o", body=BIG, stream=True)).copy_to(out)
        assert out.getvalue() == BIG
        assert peer.connections == 1
        transport.close()


def test_a_server_that_nobody_vouches_for_is_refused() -> None:
    with Peer(echo, tls=server_context()) as peer:
        with pytest.raises(TlsError, match=r"certificate|verify") as error:
            transport_to(peer, TlsConfig(ca=CLIENT)).exchange(Request("GET", "o"))
        assert isinstance(error.value, requests.exceptions.SSLError)
        assert error.value.untrusted
        peer.failures.clear()


def test_another_name_than_the_certificate_says_is_refused() -> None:
    context = server_context()
    context.load_cert_chain(CLIENT)
    with Peer(echo, tls=context) as peer:
        with pytest.raises(TlsError):
            transport_to(peer).exchange(Request("GET", "o"))
        peer.failures.clear()


def test_verification_can_be_switched_off() -> None:
    with Peer(echo, tls=server_context()) as peer:
        transport = transport_to(peer, TlsConfig(verify=False))
        assert transport.exchange(Request("PUT", "o", body=b"x")).content == b"x"
        transport.close()


def test_the_bundle_of_the_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", CA)
    with Peer(echo, tls=server_context()) as peer:
        transport = transport_to(peer, TlsConfig())
        assert transport.exchange(Request("PUT", "o", body=b"x")).content == b"x"
        transport.close()


def test_a_client_certificate_is_shown() -> None:
    with Peer(echo, tls=server_context(client_certificate=True)) as peer:
        transport = transport_to(peer, TlsConfig(ca=CA, cert=CLIENT))
        assert transport.exchange(Request("PUT", "o", body=b"x")).content == b"x"
        transport.close()
        with pytest.raises((TlsError, requests.ConnectionError)):
            transport_to(peer).exchange(Request("GET", "o"))
        peer.failures.clear()


@pytest.mark.parametrize(
    "config",
    [
        TlsConfig(ca="nowhere.pem"),
        TlsConfig(ca=CA, cert="nowhere.pem"),
        TlsConfig(ca=CA, cert=CLIENT, key="nowhere.pem"),
    ],
)
def test_a_missing_file_is_named(config: TlsConfig) -> None:
    with Peer(echo, tls=server_context()) as peer:
        with pytest.raises(FileNotFoundError, match=r"nowhere\.pem"):
            transport_to(peer, config).exchange(Request("GET", "o"))
        assert peer.connections == 0


@pytest.mark.parametrize("config", [TlsConfig(ca=__file__), TlsConfig(ca=CA, cert=__file__)], ids=["CA", "certificate"])
def test_a_file_that_is_no_certificate_is_named(config: TlsConfig) -> None:
    with pytest.raises(ssl.SSLError, match=r"test_tls\.py.* cannot be used: "):
        config.context()


def test_plain_http_where_tls_is_expected_says_so() -> None:
    def script(connection: PeerConnection) -> None:
        connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.wait_for_end()

    with Peer(script) as peer:
        with pytest.raises(TlsError, match="TLS"):
            Transport(peer.url.replace("http:", "https:"), retry=Policy(), tls=TlsConfig(ca=CA)).exchange(
                Request("GET", "o")
            )
        peer.failures.clear()


def test_stalls_cuts_and_dead_connections() -> None:
    ended = threading.Event()

    def dying(connection: PeerConnection) -> None:
        connection.request()
        connection.answer(200, b"first")
        connection.close()
        ended.set()

    def stalling(connection: PeerConnection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        connection.wait_for_end()

    cut = once(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
    with Peer(dying, stalling, cut, dying, always(200, b"second"), tls=server_context()) as peer:
        transport = transport_to(peer)
        assert transport.exchange(Request("GET", "o")).content == b"first"
        assert ended.wait(DEADLINE)
        with pytest.raises(ReadTimeout):
            transport.exchange(Request("GET", "o", timeout=Timeout(5, 0.2)))
        with pytest.raises(IncompleteBody, match="3 of 100"):
            transport.exchange(Request("GET", "o"))
        ended.clear()
        assert transport.exchange(Request("GET", "o")).content == b"first"
        assert ended.wait(DEADLINE)
        assert transport.exchange(Request("POST", "o")).content == b"second"
        transport.close()
        peer.failures.clear()


@pytest.mark.parametrize("asynchronous", [False, True], ids=["blocking", "asyncio"])
@pytest.mark.parametrize("size", [4, 300_000])
def test_a_body_without_length_ends_where_the_server_says_so(asynchronous: bool, size: int) -> None:
    """Whoever can end the connection could otherwise make a part of an answer look whole (RFC 8446 6.1)."""
    body = b"x" * size

    def cut(connection: PeerConnection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)

    def whole(connection: PeerConnection) -> None:
        cut(connection)
        connection.end_tls()

    def get(peer: Peer) -> bytes:
        async def ask() -> bytes:
            transport = AsyncTransport(peer.url, retry=Policy(), tls=TlsConfig(ca=CA))
            try:
                return await (await transport.exchange(Request("GET", "o", stream=True))).read()
            finally:
                await transport.close()

        return asyncio.run(ask()) if asynchronous else transport_to(peer).exchange(Request("GET", "o")).content

    with Peer(whole, cut, tls=server_context()) as peer:
        assert get(peer) == body
        with pytest.raises(IncompleteBody, match=f"after {size} bytes"):
            get(peer)


def test_a_put_is_redirected_from_its_head_and_keeps_its_token() -> None:
    """What a gateway of the reference does over TLS (protocol/00 9.5): it answers before the body and closes."""
    target = Peer(echo, tls=server_context())

    def gate_script(connection: PeerConnection) -> None:
        received = connection.head()
        if "expect" not in received.headers:
            connection.body(int(received.headers.get("content-length", 0)))
        connection.answer(307, b"", f"Location: {target.url}/v1/objects/b/o?pid=p&utm=1", "Connection: close")

    with target, Peer(gate_script, tls=server_context()) as gate:
        transport = transport_to(gate, token="secret")
        for body in (b"x" * 100_000, b"x" * 1_000_000, iter([b"once"])):
            content = transport.exchange(Request("PUT", "objects/b/o", body=body)).content
            assert content == (body if isinstance(body, bytes) else b"once")
        assert [r.headers.get("authorization") for r in target.requests] == ["Bearer secret"] * 3
        transport.exchange(Request("GET", "objects/b/o"))
        assert target.requests[-1].headers.get("authorization") is None
        transport.close()
        gate.failures.clear()
