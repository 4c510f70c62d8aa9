"""An attached cluster that answers nonsense: a clear error, within bounded memory and time."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import msgspec
import pytest

from aistore import LocalCluster
from aistore.sdk import ListObjectFlag, Namespace
from aistore.server.backends import ais
from aistore.server.backends.errors import RemoteError
from aistore.server.backends.options import ClusterAccess
from aistore.wire.names import BucketId
from calling import Caller

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUCKET = "b?provider=ais&namespace=%40hostile"
_LIST = b'{"action":"list","value":{}}'


class Hostile:
    """Answers with what it is told."""

    def __init__(self) -> None:
        self.url = ""
        self.headers: list[tuple[str, str]] = []
        self.listing = b""
        self.content = b""
        self.status = 200
        self.asked = 0

    def page(self, token: str, *entries: dict[str, object]) -> None:
        self.listing = msgspec.msgpack.encode({"UUID": "u", "ContinuationToken": token, "Entries": entries, "Flags": 0})


@contextmanager
def serving() -> Iterator[Hostile]:
    hostile = Hostile()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body, headers = b"", hostile.headers if "/v1/objects/" in self.path else []
            if "what=smap" in self.path:
                body = b'{"uuid": "hostile"}'
            elif "/v1/buckets/" in self.path and self.command == "GET":
                hostile.asked += 1
                body = hostile.listing
            elif "/v1/objects/" in self.path:
                body = hostile.content
            self.send_response(hostile.status if "/v1/objects/" in self.path else 200)
            self.send_header("Content-Length", str(len(body)))
            for key, value in headers:
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = answer

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    hostile.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hostile
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def hostile() -> Iterator[tuple[Hostile, LocalCluster]]:
    with serving() as far, LocalCluster(backends={"ais": {"far": far.url}}) as near:
        yield far, near


@pytest.mark.parametrize("path", [f"/v1/buckets/{_BUCKET}", "/s3/b"])
def test_a_listing_that_does_not_go_on_ends(hostile: tuple[Hostile, LocalCluster], path: str) -> None:
    far, near = hostile
    with Caller(near.url) as call:
        far.page("")
        assert call("GET", f"/v1/buckets/{_BUCKET}", _LIST).status == 200  # registered
        for entries in ([], [{"n": "a", "s": 1}]):
            far.page("a", *entries)
            message = {"action": "list", "value": {"continuation_token": "a"}}
            there = path + ("?marker=a" if "s3" in path else "")
            before = far.asked
            answer = call("GET", there, None if "s3" in path else json.dumps(message).encode())
            assert answer.status == 502
            assert b"does not go on" in answer.body
            assert far.asked == before + 1


@pytest.mark.parametrize(
    ("listing", "said"),
    [
        (b"\xc1", b"not what was asked for"),
        (msgspec.msgpack.encode({"Entries": 5}), b"not what was asked for"),
        (msgspec.msgpack.encode({"UUID": "u", "Entries": [{"n": "a", "s": -1}]}), b"less than no bytes"),
    ],
)
def test_a_listing_that_is_none_is_said_to_be(
    hostile: tuple[Hostile, LocalCluster], listing: bytes, said: bytes
) -> None:
    far, near = hostile
    far.listing = listing
    with Caller(near.url) as call:
        answer = call("GET", f"/v1/buckets/{_BUCKET}", _LIST)
    assert answer.status == 502
    assert said in answer.body
    assert far.url.encode() in answer.body


@pytest.mark.parametrize("size", ["9" * 30, "9" * 5000, "\xb2", "-1"])
def test_a_size_that_is_none_is_said_to_be(hostile: tuple[Hostile, LocalCluster], size: str) -> None:
    far, near = hostile
    far.headers = [("Content-Range", f"bytes 0-0/{size}")]
    with Caller(near.url) as call:
        answer = call("GET", f"/v1/objects/b/o{_BUCKET[1:]}")
    assert answer.status == 502
    assert b"does not tell the object's size" in answer.body


def test_an_answer_that_never_ends_does_not_fill_the_memory(
    hostile: tuple[Hostile, LocalCluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    far, _ = hostile
    monkeypatch.setattr(ais, "_DOCUMENT_MAX", 1000)
    far.page("", {"n": "a" * 2000, "s": 1})

    async def ask() -> None:
        backend = ais.RemoteCluster("hostile", "far", far.url, ClusterAccess())
        try:
            with pytest.raises(RemoteError, match="too long"):
                await backend.list(BucketId("ais", "hostile", "", "b"), "", "", 10, recursive=True)
        finally:
            await backend.close()

    asyncio.run(ask())


def test_names_that_no_object_has_do_not_come_into_the_cache(hostile: tuple[Hostile, LocalCluster]) -> None:
    far, near = hostile
    far.headers, far.content = [], b"x"
    far.page("", *({"n": name, "s": 1} for name in ("", "../up", "/abs", "a/../b", "good", "n\0l", "x" * 5000)))
    with near.client() as client:
        bucket = client.bucket("b", namespace=Namespace(uuid="hostile"))
        with Caller(near.url) as call:
            message = b'{"action":"prefetch-listrange","value":{"template":""}}'
            job = call("POST", f"/v1/buckets/{_BUCKET}", message).body.decode()
        client.job(job).wait(timeout=60)
        assert [entry.name for entry in bucket.list_all_objects(flags=[ListObjectFlag.CACHED])] == ["good"]


def test_an_error_of_any_length_is_cut(hostile: tuple[Hostile, LocalCluster]) -> None:
    far, near = hostile
    far.status, far.content = 418, b"E" * 500_000
    try:
        with Caller(near.url) as call:
            answer = call("GET", f"/v1/objects/b/long{_BUCKET[1:]}")
    finally:
        far.status = 200
    assert answer.status == 418
    assert b"EEE" in answer.body
    assert len(answer.body) < 5000
