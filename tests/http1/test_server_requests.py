"""Requests in every shape that they may come in, and those that are none."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistore.http1.head import MAX_HEAD, MAX_LINES
from aistore.http1.server import Limits
from serving import Raw, Serving, chunked, expected, request
from waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

BIG = bytes(range(256)) * 1200  # read by the handler while it arrives


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    with Serving() as started:
        yield started


@pytest.fixture
def raw(serving: Serving) -> Iterator[Raw]:
    with serving.connect() as client:
        yield client


SHAPES = {
    "no body": (request("GET", "/echo"), b""),
    "small body": (request("PUT", "/echo", b"content"), b"content"),
    "largest small body": (request("PUT", "/echo", BIG[: 64 * 1024]), BIG[: 64 * 1024]),
    "large body": (request("PUT", "/echo", BIG), BIG),
    "chunks": (chunked("PUT", "/echo", [b"one", b"two" * 100, b"3"]), b"one" + b"two" * 100 + b"3"),
    "no chunks": (chunked("PUT", "/echo", []), b""),
    "large chunks": (chunked("PUT", "/echo", [BIG, b"x", BIG]), BIG + b"x" + BIG),
    "trailers": (chunked("PUT", "/echo", [b"a"], b"X-Sum: 1\r\nX-More: 2\r\n"), b"a"),
    "chunk extensions": (
        b"PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y;z\r\nabc\r\n00;q\r\n\r\n",
        b"abc",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", [0, 1, 2, 7, 4096])
def test_in_pieces_of_any_size(raw: Raw, shape: str, step: int) -> None:
    data, body = SHAPES[shape]
    if len(data) > 50_000 * max(step, 1) and step:
        step *= 997
    for _ in range(2):  # and the connection can be used again
        raw.send(data, step)
        answer = raw.answer()
        assert (answer.status, answer.shown) == (200, expected(data.split(b" ")[0].decode(), "/echo", body))


def test_pipelined_requests_are_answered_in_order(raw: Raw) -> None:
    order = list(SHAPES) * 3
    ways = [
        b"",
        request("GET", "/raw/10"),
        request("GET", "/file/70000"),
        request("GET", "/pieces/70000"),
        request("GET", "/pending"),
    ]
    sizes = [0, 10, 70_000, 70_000, 1]
    raw.send(b"".join(SHAPES[shape][0] + ways[i % 5] for i, shape in enumerate(order)))
    for i, shape in enumerate(order):
        data, body = SHAPES[shape]
        assert raw.answer().shown == expected(data.split(b" ")[0].decode(), "/echo", body), (i, shape)
        if i % 5:
            assert len(raw.answer().body) == sizes[i % 5]


@settings(max_examples=60)
@given(st.lists(st.sampled_from(sorted(SHAPES)), min_size=1, max_size=6), st.lists(st.integers(1, 400_000), max_size=8))
def test_a_pipeline_split_anywhere(serving: Serving, order: list[str], splits: list[int]) -> None:
    data = b"".join(SHAPES[shape][0] for shape in order)
    with serving.connect() as raw:
        at = 0
        for size in [*splits, len(data)]:
            raw.send(data[at : at + size])
            at += size
        for shape in order:
            sent, body = SHAPES[shape]
            assert raw.answer().shown == expected(sent.split(b" ")[0].decode(), "/echo", body)


@pytest.mark.parametrize("path", ["/refuse", "/ignore", "/echo"])
def test_thousands_of_pipelined_requests_with_bodies(serving: Serving, path: str) -> None:
    count = 4000
    with serving.connect() as raw:
        raw.sock.settimeout(60)
        one = chunked("PUT", path, [b"x"])
        for _ in range(10):
            raw.send(one * (count // 10))
            for _ in range(count // 10):
                assert raw.answer().status == {"/refuse": 500, "/ignore": 404, "/echo": 200}[path]


@pytest.mark.parametrize("length", [64 * 1024 + 1, 5_000_000])
def test_a_body_that_nobody_reads_is_skipped(raw: Raw, length: int) -> None:
    for _ in range(3):
        raw.send(request("PUT", "/ignore", bytes(length)))
        raw.send(chunked("PUT", "/refuse", [bytes(length), b"x"]) + request("GET", "/echo"))
        assert raw.answer().body == b"not looked at"
        assert raw.answer().body == b"refused"
        assert raw.answer().shown == expected("GET", "/echo")


def test_blank_lines_before_a_request_do_not_count(raw: Raw) -> None:
    raw.send(b"\r\n\r\n" + request("GET", "/echo") + b"\r\n" + request("GET", "/echo"), 1)
    assert raw.answer().status == 200
    assert raw.answer().status == 200


def test_head_and_its_body(raw: Raw) -> None:
    for path in ("/echo", "/file/100000", "/pieces/100000", "/refuse"):
        answer = raw.ask("HEAD", path, b"a body, which HEAD may have")
        assert answer.body == b""
    assert raw.ask("GET", "/echo").shown == expected("GET", "/echo")


def test_methods_targets_and_values_pass_unchanged(raw: Raw) -> None:
    assert raw.ask("PROPFIND", "/echo").shown[0] == "PROPFIND"
    assert raw.ask("GET", "/echo/%C3%A4%20b%2Fc").shown[1] == "/echo/ä b/c"
    assert raw.ask("GET", "http://elsewhere:80/echo?q").shown[1] == "/echo"
    assert raw.ask("GET", "//echo").status == 200


def test_line_breaks_in_values_of_answers_become_blanks(raw: Raw) -> None:
    assert raw.ask("GET", "/echo").headers["x-blank"] == "a  b c"


BAD = {
    b"\x00" * 40 + b"\r\n\r\n": 400,
    b"GET / HTTP/1.1\nHost: a\n\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\n\r\n\r\n": 400,
    b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\n\r\n": 400,
    b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n": 400,
    b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET echo HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET / HTTP/2.0\r\nHost: a\r\n\r\n": 505,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 505,
    b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n": 417,
    b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n": 400,
    b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n": 400,
    b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n": 400,
    b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n": 400,
    b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n": 400,
    b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x10\r\n\r\n": 400,
    b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n": 400,
    b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: \xb2\r\n\r\n": 400,
    b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n": 400,
    b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999999999\r\n\r\n": 413,
    b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n": 501,
    b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n": 501,
    b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n": 501,
    b"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
}


@pytest.mark.parametrize("head", BAD, ids=[ascii(head)[2:70] for head in BAD])
@pytest.mark.parametrize("step", [0, 1])
def test_what_is_no_request_is_refused(serving: Serving, head: bytes, step: int) -> None:
    before = len(serving.service.seen)
    with serving.connect() as raw:
        try:
            raw.send(head + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", step)
        except ConnectionError:  # refused before the last piece was sent
            assert step
        answer = raw.answer()
        assert (answer.status, answer.headers["connection"]) == (BAD[head], "close")
        assert answer.headers["content-type"].startswith("text/plain")
        assert raw.rest() == b""
    assert serving.service.seen[before:] == []


@pytest.mark.parametrize("step", [0, 1000])
def test_a_head_that_is_too_large(serving: Serving, step: int) -> None:
    line = b"GET /echo HTTP/1.1\r\nHost: a\r\nX: "
    with serving.connect() as raw:
        raw.send(line + b"x" * (MAX_HEAD - len(line)) + b"\r\n\r\n", step)
        assert raw.answer().status == 200
        raw.send(line + b"x" * (MAX_HEAD - len(line) + 1) + b"\r\n\r\n", step)
        assert raw.answer().status == 431
        assert raw.rest() == b""
    with serving.connect() as raw:
        raw.send(line + b"x" * MAX_HEAD, step)  # and no end in sight
        assert raw.answer().status == 431


def test_a_head_of_too_many_lines(serving: Serving) -> None:
    for count, status in ((MAX_LINES, 200), (MAX_LINES + 1, 431)):
        with serving.connect() as raw:
            raw.send(b"GET /echo HTTP/1.1\r\nHost: x\r\n" + b"a:b\r\n" * (count - 1) + b"\r\n")
            assert raw.answer().status == status


def test_a_refusal_can_be_read_while_more_is_sent(serving: Serving) -> None:
    """Closing a socket that holds unread bytes would reset the connection and destroy the answer."""
    for head in (
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999999999\r\n\r\n",
    ):
        with serving.connect() as raw:
            raw.send(head + bytes(3_000_000))
            assert raw.answer().status in (413, 431)
            assert raw.rest() == b""


@pytest.mark.parametrize(
    "body",
    [b"x\r\n", b"-3\r\nabc\r\n", b"3\nabc\r\n", b"3\r\nabcd\r\n", b"3\r\nabc\n0\r\n\r\n", b"1" * 20 + b"\r\n", b"3 " + b";" * 5000,
     b"3\r\nabc\r\n0\r\nX : y\r\n\r\n", b"0\r\n" + b"X: y\r\n" * 5000, b"\r\n3\r\nabc\r\n"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/echo", "/ignore"])
@pytest.mark.parametrize("separately", [False, True])
def test_chunks_that_are_none(serving: Serving, body: bytes, path: str, separately: bool) -> None:
    head = f"PUT {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with serving.connect() as raw:
        raw.send(head)
        if separately:
            serving.until(lambda: serving.service.seen[-1:] == [("PUT", path)])
        raw.send(body)
        # what nobody looks at is only found to be wrong after the answer
        assert raw.answer().status in ((400,) if path == "/echo" else (400, 404))
        assert raw.rest() == b""  # one answer, then the end


def test_leave_to_send_a_body(raw: Raw) -> None:
    expect = "Expect: 100-continue\r\n"
    for body in (b"small", BIG):
        raw.send(request("PUT", "/echo", body, expect)[: -len(body)])
        assert raw.answer().status == 100
        raw.send(body)
        assert raw.answer().shown == expected("PUT", "/echo", body)
    raw.send(request("PUT", "/echo", b"", expect + "Transfer-Encoding: chunked\r\n"))
    assert raw.answer().status == 100
    raw.send(b"1\r\na\r\n0\r\n\r\n")
    assert raw.answer().shown == expected("PUT", "/echo", b"a")


def test_leave_that_is_not_given_ends_the_connection(raw: Raw) -> None:
    """The client may send the body or not: nobody can tell what would come next."""
    raw.send(request("PUT", "/ignore", BIG, "Expect: 100-continue\r\n")[: -len(BIG)])
    answer = raw.answer()
    assert (answer.status, answer.headers["connection"]) == (404, "close")
    raw.send(BIG)
    assert raw.rest() == b""


def test_http_1_0(serving: Serving) -> None:
    for path, length in (("/raw/5", 5), ("/file/70000", 70_000), ("/pieces/70000", 70_000)):
        with serving.connect() as raw:
            raw.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = raw.answer()
            assert "transfer-encoding" not in answer.headers
            assert answer.headers["connection"] == "close"
            assert len(answer.body) == length
            assert raw.rest() == b""
        with serving.connect() as raw:
            raw.send(f"GET {path} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n".encode())
            answer = raw.answer()
            assert len(answer.body) == length
            kept = "content-length" in answer.headers
            assert answer.headers["connection"] == ("keep-alive" if kept else "close")
            assert ("content-length" in answer.headers) == (path != "/pieces/70000")
            if kept:
                raw.send(b"GET /echo HTTP/1.0\r\n\r\n")
                assert raw.answer().status == 200
            assert raw.rest() == b""
    with serving.connect() as raw:  # leave to send is of HTTP/1.1
        raw.send(b"PUT /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc")
        assert raw.answer().shown == expected("PUT", "/echo", b"abc")


@pytest.mark.parametrize("path", ["/raw/5", "/file/70000", "/pieces/70000", "/echo", "/pending", "/refuse"])
@pytest.mark.parametrize("value", ["close", "Close", "upgrade , close"])
def test_connection_close(serving: Serving, path: str, value: str) -> None:
    with serving.connect() as raw:
        answer = raw.ask("GET", path, headers=f"Connection: {value}\r\n")
        assert answer.headers["connection"] == "close"
        assert raw.rest() == b""


def test_an_option_that_only_sounds_like_close(raw: Raw) -> None:
    for _ in range(2):
        assert "connection" not in raw.ask("GET", "/echo", headers="Connection: close-later\r\n").headers


def test_a_large_body_with_connection_close_is_taken_before_the_end(raw: Raw) -> None:
    raw.send(request("PUT", "/ignore", bytes(5_000_000), "Connection: close\r\n"))
    assert raw.answer().status == 404
    assert raw.rest() == b""


def test_the_connection_lives_on_after_errors(raw: Raw) -> None:
    for _ in range(3):
        assert raw.ask("GET", "/refuse").status == 500
        assert raw.ask("PUT", "/refuse", BIG).status == 500
        assert raw.ask("PUT", "/echo", BIG).shown == expected("PUT", "/echo", BIG)


def test_a_body_over_the_limit() -> None:
    with Serving(Limits(max_body=1000)) as serving, serving.connect() as raw:
        assert raw.ask("PUT", "/echo", bytes(1000)).status == 200
        raw.send(request("PUT", "/echo", bytes(1001)))
        assert raw.answer().status == 413


@pytest.mark.parametrize("cut", [0, 400], ids=["at once", "while its handler reads"])
def test_a_chunked_body_over_the_limit(cut: int) -> None:
    with Serving(Limits(max_body=1000)) as serving:
        with serving.connect() as raw:
            raw.send(chunked("PUT", "/echo", [bytes(500), bytes(500)]))
            assert raw.answer().status == 200
        with serving.connect() as raw:
            whole = chunked("PUT", "/echo", [bytes(500), bytes(501)])
            raw.send(whole[: cut or len(whole)])
            if cut:
                serving.until(lambda: len(serving.service.seen) == 2)
                raw.send(whole[cut:])
            assert raw.answer().status == 413
            assert raw.rest() == b""


def test_blank_lines_before_a_request(raw: Raw) -> None:
    raw.send(b"\r\n" * 500_000)
    for step in (0, 1):
        raw.send(b"\r\n" * 3 + request("GET", "/echo"), step)
        assert raw.answer().status == 200


def test_a_long_pipeline_lets_others_have_their_turn() -> None:
    with Serving() as serving, serving.connect() as long, serving.connect() as short:
        for client in (long, short):  # both are known to the loop
            assert client.ask("GET", "/echo").status == 200
        hold = threading.Event()
        serving.call(lambda: hold.wait(DEADLINE))
        long.send(request("GET", "/echo") * 1000)
        short.send(request("GET", "/raw/1"))
        hold.set()
        assert short.answer().status == 200
        for _ in range(1000):
            assert long.answer().status == 200
        assert serving.service.seen.index(("GET", "/raw/1")) < 200
