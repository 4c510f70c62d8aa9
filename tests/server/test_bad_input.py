"""Bad input gets an error of the protocol and leaves nothing behind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from aistore import LocalCluster
from calling import Caller, where
from serving import Raw, request
from store_truth import problems
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

BIG = b"large content " * 10_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as started:
        with Caller(started.url) as call:
            call.make_bucket("b")
            assert call.put("b", "there", b"unharmed", {"Ais-Custom-Md": "k=v"}).status == 200
        yield started


@pytest.fixture
def call(cluster: LocalCluster) -> Iterator[Caller]:
    with Caller(cluster.url) as caller:
        yield caller
        # whatever the test did, what was there is there, and nothing else
        assert caller.names("b") == ["there"]
        got = caller.get("b", "there")
        assert (got.status, got.body, got.headers["Ais-Version"]) == (200, b"unharmed", "1")
        until(lambda: problems(cluster.path, recovered=False) == [])  # the server may be at it while this looks


def raw(cluster: LocalCluster) -> Raw:
    return Raw(urlsplit(cluster.url).port or 0)


BAD_NAMES = [
    "../x", "a/../x", "..", ".", "a/./b", "a/..", "%2e%2e/x", "%2E%2E", "a/%2e%2e/x", "a%2f..%2fx", "..%2fx", "~/x", "nul%00", "%00",
    "a%00b", "x" * 1025, "a/" + "%C3%A4" * 600, "x/" * 4100 + "x", "a/", "%ff", "a%c3", "%zz", "%", "\xff",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=[ascii(name)[:40] for name in BAD_NAMES])
@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD", "DELETE", "PATCH", "POST", "append", "copy"])
def test_names(cluster: LocalCluster, call: Caller, name: str, method: str) -> None:
    query, body = "", b"content"
    if method == "PATCH":
        body = b'{"value": {"a": "b"}}'
    elif method == "POST":
        body = b'{"action": "check-lock"}'
    elif method == "append":
        method, query = "PUT", "?append_type=append"
    elif method == "copy":
        method, query, name = "PUT", f"?object_to=ais/@%23/b/{name}", "there"
    with raw(cluster) as client:
        path = f"/v1/objects/b/{name}{query}".encode("latin-1")
        client.send(
            method.encode()
            + b" "
            + path
            + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )
        answer = client.answer(method)
    assert answer.status == (404 if (method, name) == ("HEAD", "a/") else 400)


@pytest.mark.parametrize("name", ["a\r\nX-Evil: 1", "a\nb", "\t", "é\u2028", "x" * 1024, "a?b#c%20", " ", "\u0080"])
def test_strange_names_are_names_and_nothing_else(cluster: LocalCluster, call: Caller, name: str) -> None:
    assert call.put("b", name, b"content").status == 200
    for method in ("HEAD", "GET"):
        got = call(method, where("b", name))
        assert got.status == 200
        assert "X-Evil" not in got.headers
    assert name in call.names("b")
    got = call("GET", where("b", name + "/!"))
    assert got.status == 404
    assert "X-Evil" not in got.headers
    missing = call("HEAD", where("b", name + "/!"))
    assert "X-Evil" not in missing.headers
    assert json.loads(missing.headers["Hdr-Error"])["status"] == 404
    assert call.delete("b", name).status == 200


@pytest.mark.parametrize(
    ("key", "value"),
    [("k", "a\r\nX-Evil: 1"), ("k\r\nX-Evil: 1", "v"), ("k", "\0\x1f\x7f"), ("ETag", 'x"\r\nX-Evil: 1'), ("Last-Modified", "\r\nX-Evil: 1"),
     ("k", "\u2028é"), ("source", "web\r\nX-Evil: 1")],
)  # fmt: skip
def test_custom_metadata_makes_no_headers(call: Caller, key: str, value: str) -> None:
    call.put("b", "o", b"content")
    body = json.dumps({"value": {key: value}}).encode()
    try:
        if call("PATCH", where("b", "o"), body).status == 200:
            for path in (where("b", "o"), where("b", "o") + "?props=custom,etag,last-modified"):
                for method in ("GET", "HEAD"):
                    got = call(method, path)
                    assert got.status == 200
                    assert "X-Evil" not in got.headers
            assert call.put("b", "o", b"again").status == 200
            assert "X-Evil" not in call.get("b", "o").headers
    finally:
        assert call.delete("b", "o").status == 200


@pytest.mark.parametrize(
    "line",
    [b"k=\xff", b"\xffk=v", b"novalue", b"=v", b"k=" + b"v" * 2048, b"k=a\x01b".replace(b"\x01", b"\xe3\x2f\xbd")],
)
@pytest.mark.parametrize("content", [b"small", BIG])
def test_custom_metadata_of_a_put(cluster: LocalCluster, call: Caller, line: bytes, content: bytes) -> None:
    with raw(cluster) as client:
        client.send(
            b"PUT /v1/objects/b/o HTTP/1.1\r\nHost: localhost\r\nAis-Custom-Md: %s\r\nContent-Length: %d\r\n\r\n%s"
            % (line, len(content), content)
        )
        answer = client.answer()
        assert answer.status == 400
        assert json.loads(answer.body)["status"] == 400
        assert client.ask("GET", "/v1/objects/b/there").status == 200


@pytest.mark.parametrize("way", ["PATCH", "PUT", "large PUT"])
def test_custom_metadata_has_an_end(call: Caller, way: str) -> None:
    """The limit of what one request adds is not the limit of what many add."""
    assert call.put("b", "o", b"content").status == 200
    try:
        statuses = []
        for i in range(20):
            pairs = {f"key{i}": "v" * 2000}
            if way == "PATCH":
                got = call("PATCH", where("b", "o"), json.dumps({"value": pairs}).encode())
            else:
                body = b"content" if way == "PUT" else BIG
                got = call.put("b", "o", body, {"Ais-Custom-Md": f"key{i}={pairs[f'key{i}']}"})
            statuses.append(got.status)
        assert statuses == [200] * 8 + [400] * 12
        assert len(call("HEAD", where("b", "o")).headers.get_all("Ais-Custom-Md", [])) == 8
        assert call.put("b", "o", b"again").status == 200  # what it has stays
    finally:
        assert call.delete("b", "o").status == 200


BAD_JSON = [
    b"", b"{", b"[]", b"1", b"null", b'"x"', b"\xff\xfe", b'{"value": {"a": 1}}', b'{"value": [1]}', b'{"value": {"a": "\\ud800"}}',
    b'{"value": {"": "x"}}', b'{"value": {"a": "' + b"x" * 2048 + b'"}}', b"[" * 100_000, b'{"value":' * 20_000, b"{}" + b" " * (2 << 20),
    b'{"action": 5}', b'{"value": {"a": "\x01"}}', b'{"value": {"a": "\xed\xa0\x80"}}', b'{"action": "\xff"}',
]  # fmt: skip


@pytest.mark.parametrize("body", BAD_JSON, ids=[ascii(body)[2:40] for body in BAD_JSON])
@pytest.mark.parametrize("way", ["PATCH", "POST", "DELETE"])
def test_messages(cluster: LocalCluster, call: Caller, body: bytes, way: str) -> None:
    path = where("b", "there" if way != "DELETE" else "missing")
    got = call(way, path, body)
    harmless = body in (b"", b"null", b"{}") or body.startswith(
        (b'{"value": {"a"', b'{"value": [1]}', b'{"value": {""', b"{}")
    )
    if way == "PATCH" and body == b"null":
        assert got.status == 200  # nothing is set
        return
    if way == "DELETE" and harmless:
        assert got.status in (400, 404, 413)  # it takes any message
    else:
        assert got.status in (400, 413), got.body[:300]
    assert got.error["method"] == way


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "FOO", "get"])
def test_methods(call: Caller, method: str) -> None:
    got = call(method, where("b", "there"))
    assert got.status == (200 if method == "OPTIONS" else 405)
    if method != "FOO" and method != "get":
        assert set(got.headers["Allow"].split(", ")) >= {"GET", "PUT", "HEAD", "DELETE"}


@pytest.mark.parametrize(
    ("value", "status"),
    [("bytes=0-", 206), ("bytes=", 416), ("bytes=-", 416), ("bytes=8-", 416), ("bytes=5-2", 416), ("bytes=x-1", 416), ("lines=0-1", 416),
     ("bytes=0-1,3-4", 416), ("bytes=" + "9" * 5000 + "-", 416), ("bytes=0-" + "9" * 5000, 416), ("bytes=-0", 416), ("bytes=--1", 416),
     ("bytes=0-0,", 206), ("bytes= 0 - 1 ", 206)],
)  # fmt: skip
@pytest.mark.parametrize("size", [8, 100_000])
def test_ranges(call: Caller, value: str, status: int, size: int) -> None:
    if size != 8:
        value = value.replace("8-", f"{size}-")
    call.put("b", "r", bytes(size))
    try:
        got = call.get("b", "r", {"Range": value})
        assert got.status == status
        assert call.get("b", "r").body == bytes(size)
    finally:
        call.delete("b", "r")


def test_versions_are_counters(call: Caller) -> None:
    """What a client says of a version must not make the next PUT fail."""
    for given, version in (("5", "6"), ("²", "1"), ("x", "1"), ("9" * 5000, "1"), ("-3", "1")):
        assert call.put("b", "v", b"content", {"Ais-Version": given}).headers["Ais-Version"] == version
        assert call.put("b", "v", b"content").status == 200
        assert call.delete("b", "v").status == 200


CHECKSUMS = [("md5", "x"), ("xxhash2", "0" * 16), ("nonsense", "1"), ("crc32c", "ü"), ("sha512", "a" * 60_000)]


@pytest.mark.parametrize(("kind", "value"), CHECKSUMS)
@pytest.mark.parametrize("content", [b"small", BIG])
def test_checksums(call: Caller, kind: str, value: str, content: bytes) -> None:
    got = call.put("b", "c", content, {"Ais-Checksum-Type": kind, "Ais-Checksum-Value": value})
    assert got.status == (400 if kind == "nonsense" else 500)
    assert (
        call.put("b", "there", content, {"Ais-Checksum-Type": kind, "Ais-Checksum-Value": value}).status == got.status
    )


HANDLES = ["x", "|||", "t|append-abc|xxhash2|MQ==", "{t}|../../catalog.db|xxhash2|MQ==", "{t}|append-../x|xxhash2|MQ==", "{t}|append-abc|xxhash2|LTE=",
           "{t}|append-abc|xxhash2|²", "{t}|append-abc|xxhash2|" + "OTk5OTk5OTk5" * 50, "{t}|append-é|xxhash2|MQ==",
           "{t}|append-" + "a" * 300 + "|xxhash2|MQ==", "{t}|append-abcdefghi|xxhash2|MQ==", "{t}|append-abcdefghij|xxhash2|MC4w"]  # fmt: skip


@pytest.mark.parametrize("handle", HANDLES)
@pytest.mark.parametrize("kind", ["append", "flush", "nonsense"])
def test_append_handles(call: Caller, handle: str, kind: str) -> None:
    target = next(iter(json.loads(call("GET", "/v1/daemon?what=smap").body)["tmap"]))
    from urllib.parse import quote

    path = f"{where('b', 'a')}?append_type={kind}&append_handle={quote(handle.replace('{t}', target))}"
    assert call("PUT", path, b"content").status == 400


@pytest.mark.parametrize(
    "change",
    [{"ec": {"data_slices": 10**100}}, {"ec": {"data_slices": -5}}, {"ec": {"parity_slices": 33}}, {"lru": {"batch_size": 1 << 63}},
     {"mirror": {"burst_buffer": 10**19}}, {"extra": {"aws": {"max_pagesize": -(10**30)}}}],
)  # fmt: skip
def test_numbers_of_properties(call: Caller, change: object) -> None:
    got = call.action("PATCH", "/v1/buckets/b", "set-bprops", change)
    assert got.status == 400, got.body


@pytest.mark.parametrize("copies", ["9" * 5000, 10**30, -1, True, "x"])
def test_numbers_of_copies(call: Caller, copies: object) -> None:
    assert call.action("POST", "/v1/buckets/b", "make-n-copies", copies).status == 400


@pytest.mark.parametrize(
    ("query", "value"),
    [("log.level=%ff", {"log": {"level": 5}}), ("disk.disk_util_max_wm=101", {"disk": {"disk_util_max_wm": 10**100}}),
     ("space.lowwm=-1", {"space": {"out_of_space": 1000}}), ("fshc.error_limit=99999999999999999999", {"fshc": {"error_limit": -1}}),
     ("ec.data_slices=" + "9" * 100, {"ec": {"data_slices": 10**100}})],
)  # fmt: skip
def test_numbers_of_the_configuration(call: Caller, query: str, value: object) -> None:
    before = call("GET", "/v1/cluster?what=cluster_config").body
    assert call("PUT", f"/v1/cluster/set-config?{query}").status == 400
    assert call.action("PUT", "/v1/cluster", "set-config", value).status == 400
    assert call("GET", "/v1/cluster?what=cluster_config").body == before


def test_a_client_that_breaks_off_stores_nothing(cluster: LocalCluster, call: Caller) -> None:
    for content in (b"small", BIG):
        for name in ("new", "there"):
            whole = request("PUT", f"/v1/objects/b/{name}", content)
            for way in ("end", "reset"):
                with raw(cluster) as client:
                    client.send(whole[:-1])
                    if way == "end":
                        client.end()
                        client.rest()
                    else:
                        client.reset()
    assert call.get("b", "new").status == 404
