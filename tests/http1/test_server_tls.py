"""Connections of the server over TLS: the limits of plain ones hold, and what is cut never looks whole."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from pathlib import Path

import pytest

from aistore.http1.server import Limits
from serving import Raw, Serving, pass_time, request
from waiting import DEADLINE

FOLDER = Path(__file__).parents[1] / "transport" / "certificates"
CA, SERVER = str(FOLDER / "ca.pem"), str(FOLDER / "server.pem")


class TlsServing(Serving):
    """The server in a thread, over TLS."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(limits)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(SERVER)
        self.tls = lambda: self.context


class TlsRaw(Raw):
    """A client's end over TLS; an end that was not announced raises."""

    def __enter__(self) -> TlsRaw:
        return self

    def __init__(self, port: int, *, session: ssl.SSLSession | None = None, receive_buffer: int | None = None) -> None:
        super().__init__(port, receive_buffer=receive_buffer)
        context = ssl.create_default_context(cafile=CA)
        try:
            self.tls = context.wrap_socket(
                self.sock, server_hostname="localhost", suppress_ragged_eofs=False, session=session
            )
        except BaseException:
            self.sock.close()
            raise
        self.sock = self.tls


def test_requests_answers_files_and_bodies_of_all_sizes() -> None:
    with TlsServing() as server, TlsRaw(server.port) as client:
        for size in (0, 1, 16_384, 100_000, 3_000_000):
            body = bytes(size)
            assert client.ask("PUT", "/echo", body).shown[2] == size
            for kind in ("raw", "file", "pieces"):
                assert len(client.ask("GET", f"/{kind}/{size}").body) == size
        client.send(b"GET /raw/3 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
        assert [client.answer().body for _ in range(100)] == [b"xxx"] * 100
        assert server.service.files_open == 0


def test_records_in_pieces_and_a_body_a_byte_at_a_time() -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context(cafile=CA).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with TlsServing() as server, Raw(server.port) as client:
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                break
            client.send(outgoing.read(), step=100)
            incoming.write(client.sock.recv(1 << 16))
        tls.write(b"PUT /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000))
        client.send(outgoing.read(), step=1000)
        answer = b""
        while b"/echo" not in answer:
            incoming.write(client.sock.recv(1 << 16))
            with contextlib.suppress(ssl.SSLWantReadError):
                answer += tls.read(1 << 16)
        assert b"200 OK" in answer


def test_what_comes_while_the_server_takes_no_more_keeps_its_order() -> None:
    sizes = [number % 97 for number in range(9000)]
    with TlsServing() as server, TlsRaw(server.port) as client:
        flood = b"".join(request("GET", f"/raw/{size}") for size in sizes)
        client.send(request("GET", "/late") + flood)  # what the server does not take yet, the system holds
        server.until(lambda: any(connection._paused for connection in server.server._connections))
        server.call(server.service.release.set)
        assert client.answer().status == 200
        assert [len(client.answer().body) for _ in sizes] == sizes


@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"])
def test_a_handshake_that_is_not_finished_has_the_time_of_a_head(sent: bytes) -> None:
    with TlsServing(Limits(head=0.2)) as server, Raw(server.port) as client:
        client.send(sent)
        assert client.sock.recv(100) == b""
        server.until(lambda: server.server.connections == 0)


def test_half_a_record_has_the_time_of_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    with TlsServing() as server, TlsRaw(server.port) as client:
        below = socket.socket(fileno=client.tls.detach())
        with below:
            below.settimeout(DEADLINE)
            below.sendall(b"\x17\x03\x03\x01\x00abc")
            pass_time(server, 20, monkeypatch)
            with contextlib.suppress(ConnectionResetError):
                while below.recv(1 << 16):
                    pass
            assert server.server.connections == 0


def test_a_broken_record_ends_the_connection() -> None:
    with TlsServing() as server, TlsRaw(server.port) as client:
        below = socket.socket(fileno=client.tls.detach())
        with below:
            below.settimeout(DEADLINE)
            below.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            with contextlib.suppress(ConnectionResetError):
                while below.recv(1 << 16):
                    pass
            server.until(lambda: server.server.connections == 0)


def test_too_many_connections_are_told_so() -> None:
    with TlsServing(Limits(connections=1)) as server, TlsRaw(server.port), TlsRaw(server.port) as second:
        assert second.answer().status == 503
        assert second.rest() == b""


def test_who_speaks_plain_http_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "aistore.server"), TlsServing() as server, Raw(server.port) as client:
        answer = client.ask("GET", "/raw/1")
        assert (answer.status, answer.body) == (400, b"Client sent an HTTP request to an HTTPS server.\n")
        assert client.rest() == b""
        assert [record.name for record in caplog.records] == ["aistore.server.tls"]  # as the log of a server takes it


def test_who_speaks_tls_to_a_plain_server_is_told_at_once() -> None:
    with Serving() as server:
        client = Raw(server.port)
        with client, pytest.raises(ssl.SSLError, match=r"(?i)wrong.version|record"):
            ssl.create_default_context(cafile=CA).wrap_socket(client.sock, server_hostname="localhost")


def test_an_answer_that_broke_off_does_not_end_well() -> None:
    with TlsServing() as server, TlsRaw(server.port) as client:
        client.send(b"GET /broken HTTP/1.0\r\n\r\n")
        with pytest.raises(ssl.SSLEOFError):
            client.answer()
    with TlsServing() as server, TlsRaw(server.port) as client:
        client.send(b"GET /pieces/100000 HTTP/1.0\r\n\r\n")
        assert len(client.answer().body) == 100_000  # and its end was announced


def test_a_client_may_end_its_side_and_read_on() -> None:
    with TlsServing() as server, TlsRaw(server.port) as client:
        client.send(b"GET /raw/100 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert len(client.answer().body) == 100
        plain = client.tls.unwrap()  # says that nothing more comes, and waits for the server to say so
        with plain:
            assert plain.recv(10) == b""


def test_a_request_that_is_cut_is_not_served_as_whole() -> None:
    with TlsServing() as server:
        with TlsRaw(server.port) as client:
            client.send(b"PUT /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n" + bytes(1000))
        server.until(lambda: server.server.connections == 0)
        server.until(lambda: len(server.service.errors) == 1)


def test_a_reader_that_stalls_is_closed() -> None:
    with TlsServing(Limits(write=0.2)) as server, TlsRaw(server.port, receive_buffer=4096) as client:
        client.send(b"GET /file/50000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        server.until(lambda: server.service.files_open == 1)
        server.until(lambda: server.service.files_open == 0 and server.server.connections == 0)


def test_stopping_finishes_what_runs() -> None:
    with TlsServing() as server, TlsRaw(server.port) as client:
        client.send(b"GET /late HTTP/1.1\r\nHost: localhost\r\n\r\n")
        server.until(lambda: len(server.service.seen) == 1)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        server.call(server.service.release.set)
        assert client.answer().status == 200
        stopping.join(DEADLINE)
        assert client.rest() == b""


def test_sessions_are_resumed() -> None:
    with TlsServing() as server:
        with TlsRaw(server.port) as first:
            first.ask("GET", "/raw/1")
            session, context = first.tls.session, first.tls.context
        with Raw(server.port) as second:
            again = context.wrap_socket(second.sock, server_hostname="localhost", session=session)
            second.sock = again
            second.ask("GET", "/raw/1")
            assert again.session_reused


def test_a_put_without_a_byte_of_its_body_is_answered_from_its_head() -> None:
    with TlsServing() as server:
        server.call(lambda: setattr(server.server, "is_first_leg", lambda request: request.path == "/ignore"))
        for length in (1000, 1 << 30):
            with TlsRaw(server.port) as client:
                client.send(f"PUT /ignore HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode())
                answer = client.answer()
                assert (answer.status, answer.headers["connection"]) == (404, "close")
        with TlsRaw(server.port) as client:  # who sends it at once does not wait for a redirect
            assert client.ask("PUT", "/ignore", bytes(1000)).headers.get("connection") is None
            head = b"PUT /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
            client.send(head)
            assert client.answer().status == 100
            client.send(b"abc")
            assert client.answer().shown[2] == 3


def test_many_connections_at_once() -> None:
    async def one(port: int) -> int:
        context = ssl.create_default_context(cafile=CA)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        writer.write(b"GET /file/100000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        data = await reader.read(-1)
        writer.close()
        return len(data.partition(b"\r\n\r\n")[2])

    async def all_of_them(port: int) -> list[int]:
        return await asyncio.gather(*(one(port) for _ in range(50)))

    with TlsServing() as server:
        assert asyncio.run(all_of_them(server.port)) == [100_000] * 50
