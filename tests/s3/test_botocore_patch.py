"""`aistore.botocore_patch`: boto3 follows the redirects of a cluster whose gateway does not answer itself."""

from __future__ import annotations

import io
import random
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, HTTPClientError

from aistore.botocore_patch import botocore  # noqa: F401 (patches boto3)
from s3.conftest import boto_client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore import LocalCluster


class Gateway(ThreadingHTTPServer):
    """Sends calls on objects to where `target` says, as a gateway does; all other calls too."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Redirect)
        self.target = target
        self.seen: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/s3"


class _Redirect(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gateway

    def _answer(self) -> None:
        self.server.seen.append(f"{self.command} {self.path}")
        mark = "&" if "?" in self.path else "?"
        # As a gateway does: from the head alone, and names are not escaped again.
        location = f"{self.server.target}{self.path}{mark}pid=p1&utm=1"
        body = b"<Error><Code>TemporaryRedirect</Code></Error>"
        self.send_response(307)
        self.send_header("Location", location)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")  # a body that is still to come is not read as a request
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        while self.rfile.read1(65536):
            pass

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

    def handle_expect_100(self) -> bool:
        return True  # the answer comes instead of the leave to go on

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        pass


@pytest.fixture
def gateway(cluster: LocalCluster) -> Iterator[Gateway]:
    with Gateway(cluster.url) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def patched(gateway: Gateway) -> Iterator[Any]:
    client = boto_client(gateway.url)
    yield client
    client.close()


def test_every_call_follows_redirects(patched: Any, gateway: Gateway) -> None:
    patched.create_bucket(Bucket="patched")
    try:
        content = random.Random(1).randbytes(9 << 20)
        patched.put_object(Bucket="patched", Key="dir/ö +", Body=b"small")
        patched.upload_fileobj(io.BytesIO(content), "patched", "large")
        assert patched.get_object(Bucket="patched", Key="dir/ö +")["Body"].read() == b"small"
        assert patched.head_object(Bucket="patched", Key="large")["ContentLength"] == len(content)
        back = io.BytesIO()
        patched.download_fileobj("patched", "large", back)
        assert back.getvalue() == content
        assert len(patched.list_objects_v2(Bucket="patched")["Contents"]) == 2
        patched.delete_object(Bucket="patched", Key="large")
        with pytest.raises(ClientError, match="404"):
            patched.head_object(Bucket="patched", Key="large")
    finally:
        patched.delete_bucket(Bucket="patched")
    assert any(line.startswith("PUT /s3/patched/large?") for line in gateway.seen)


def test_a_body_that_cannot_be_sent_again_is_not_sent_in_part(patched: Any) -> None:
    class Stream(io.RawIOBase):
        def __init__(self) -> None:
            self._left = io.BytesIO(bytes(100_000))

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            return self._left.readinto(buffer)

    patched.create_bucket(Bucket="streams")
    try:
        with pytest.raises(Exception, match=r"rewind|seek"):
            patched.put_object(Bucket="streams", Key="k", Body=Stream(), ContentLength=100_000)
        assert "Contents" not in patched.list_objects_v2(Bucket="streams")
    finally:
        patched.delete_bucket(Bucket="streams")


def test_redirects_in_a_circle_end(patched: Any, gateway: Gateway) -> None:
    gateway.target = gateway.url.removesuffix("/s3")
    with pytest.raises(HTTPClientError, match="more than 5 redirects"):
        patched.head_bucket(Bucket="x")


def test_redirects_out_of_http_are_not_followed(patched: Any, gateway: Gateway) -> None:
    gateway.target = "file:///etc"
    with pytest.raises(HTTPClientError, match="not followed"):
        patched.head_bucket(Bucket="x")


def test_without_boto3_the_import_says_what_to_install() -> None:
    code = "import sys; sys.modules['botocore'] = None\nimport aistore.botocore_patch.botocore"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "ImportError: aistore.botocore_patch needs boto3: pip install 'aistore-py[botocore]'" in done.stderr
