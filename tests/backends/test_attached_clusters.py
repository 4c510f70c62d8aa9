"""Attached clusters that ask for a token and speak HTTPS, and what is said where they do not answer."""

from __future__ import annotations

import http.client
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from aistore import LocalCluster
from aistore.sdk import Namespace
from aistore.sdk.errors import AISError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.sdk import Bucket

CERTIFICATES = Path(__file__).parents[1] / "transport" / "certificates"
TOKEN = "a.long.token"


@contextmanager
def front_of(cluster: LocalCluster) -> Iterator[str]:
    """What stands in front of a cluster: HTTPS, and nothing for those who have no token; its URL."""
    address = urlsplit(cluster.url).netloc

    class Front(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.send_response(401)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            connection = http.client.HTTPConnection(address, timeout=60)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            self.send_response_only(answer.status)
            for key, value in answer.getheaders():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = relay

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Front)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def far_front() -> Iterator[str]:
    with LocalCluster() as far, far.client() as client, front_of(far) as url:
        client.bucket("data").create().object("a").get_writer().put_content(b"far away")
        yield url


def _data(near: LocalCluster) -> Bucket:
    return near.client().bucket("data", "ais", Namespace(uuid="far"))


@pytest.fixture
def stranger() -> Iterator[tuple[str, list[str | None]]]:
    """What answers a question for the cluster map with a uuid; its URL, and the tokens that it was shown."""
    shown: list[str | None] = []

    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"uuid": "stranger"}')

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", shown
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("trust", ["ca", "skip_verify"])
@pytest.mark.parametrize("targets", [1, 3])
def test_a_cluster_is_reached_over_https_with_a_token(far_front: str, tmp_path: Path, trust: str, targets: int) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    options = {
        "endpoint": far_front,
        **({"ca": str(CERTIFICATES / "ca.pem")} if trust == "ca" else {"skip_verify": "true"}),
        **({"token": TOKEN} if targets == 1 else {"token_file": str(tmp_path / "token")}),
    }
    kept = tmp_path / "data"
    with LocalCluster(kept, backends={"ais.far": options}, targets=targets) as near:
        assert _data(near).object("a").get_reader().read_all() == b"far away"
        _data(near).object("b").get_writer().put_content(b"new")
        assert sorted(entry.name for entry in _data(near).list_all_objects()) == ["a", "b"]
        _data(near).object("b").delete()
    assert not [path for path in kept.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


def test_a_wrong_token_is_said_to_be(far_front: str) -> None:
    options = {"endpoint": far_front, "skip_verify": "true"}
    with LocalCluster(backends={"ais.far": {**options, "token": "wrong"}}) as near:
        with pytest.raises(AISError) as caught:
            _data(near).object("a").get_reader().read_all()
        assert "wrong" not in str(caught.value)
        assert far_front in str(caught.value)


def test_a_certificate_that_nobody_vouches_for_is_refused(far_front: str) -> None:
    with LocalCluster(backends={"ais.far": {"endpoint": far_front, "token": TOKEN}}) as near:
        with pytest.raises(AISError) as caught:
            _data(near).object("a").get_reader().read_all()
        assert far_front in str(caught.value)


def test_a_token_goes_only_to_the_endpoint_that_is_configured(stranger: tuple[str, list[str | None]]) -> None:
    url, shown = stranger
    with LocalCluster(backends={"ais.far": {"endpoint": "http://127.0.0.1:1", "token": TOKEN}}) as near:
        connection = http.client.HTTPConnection(urlsplit(near.url).netloc, timeout=60)
        named = {"ais-remote-ais-alias": "far", "ais-remote-ais-url": url}
        connection.request("PUT", "/v1/cluster/attach?what=remote", headers=named)
        assert connection.getresponse().status == 200
        connection.close()
    assert shown
    assert set(shown) == {None}
