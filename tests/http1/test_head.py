"""Heads: what the grammar allows, compared with what h11, httptools and http.client make of the same bytes.

Two readers of one connection that understand a head differently are how requests are smuggled. So whatever is accepted here has to be
accepted by the others too, with the same meaning; what they accept and we refuse (folded lines, bare line feeds) harms nobody.
"""

from __future__ import annotations

import http.client
import io
from typing import NamedTuple

import h11
import httptools
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aistore.http1.head import (
    CHUNKED,
    MAX_HEAD,
    NO_LENGTH,
    BadHead,
    find_head_end,
    parse_request,
    parse_response,
    response_framing,
)


class Seen(NamedTuple):
    """What a parser makes of a request's head."""

    method: str
    target: bytes
    headers: list[tuple[str, bytes]]
    length: int
    keep_alive: bool


def by_us(head: bytes) -> Seen:
    end = find_head_end(head)
    if end != len(head):
        raise BadHead(400, "ends elsewhere")
    seen = parse_request(head)
    headers = [(name, value.encode("latin-1")) for name in seen.headers for value in seen.headers.lines(name)]
    return Seen(seen.method, seen.target, sorted(headers), seen.headers.length, seen.keep_alive)


def by_h11(head: bytes) -> Seen:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2 * MAX_HEAD)
    connection.receive_data(head)
    event = connection.next_event()
    assert isinstance(event, h11.Request), event
    length = NO_LENGTH
    for name, value in event.headers:
        if name == b"transfer-encoding":
            length = CHUNKED
        elif name == b"content-length":
            length = int(value)
    headers = sorted((name.decode(), value) for name, value in event.headers)
    keep_alive = connection.our_state is not h11.MUST_CLOSE and connection.their_state is not h11.MUST_CLOSE
    if keep_alive:  # h11 tells after the exchange
        connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        connection.send(h11.EndOfMessage())
        keep_alive = connection.our_state is not h11.MUST_CLOSE
    return Seen(event.method.decode(), event.target, headers, length, keep_alive)


class Collector:
    """What httptools calls."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[str, bytes]] = []
        self.complete = False
        self.keep_alive = False
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1").lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True
        self.keep_alive = bool(self.parser.should_keep_alive())


def by_httptools(head: bytes) -> Seen:
    seen = Collector()
    seen.parser.feed_data(head)
    if not seen.complete:
        raise httptools.HttpParserError("incomplete")
    length = NO_LENGTH
    for name, value in seen.headers:
        if name == "transfer-encoding":
            length = CHUNKED
        elif name == "content-length":
            length = int(value)
    return Seen(seen.parser.get_method().decode(), seen.target, sorted(seen.headers), length, seen.keep_alive)


METHODS = ["GET", "PUT", "HEAD", "DELETE", "POST", "PATCH", "OPTIONS"]
TARGETS = [
    "/",
    "/v1/objects/b/o%20x?provider=ais&x=%2F",
    "http://h:1/x?y",
    "*",
    "/a//b/../c",
    "/x?a=b#c",
    "/a b",
    "",
    "/\x7f",
    "/ä",
]
NAMES = [
    "X",
    "x-long-name_1",
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Host",
    "Ais-Custom-Md",
    "Bad Name",
    "",
    "x:",
    "é",
    "X\t",
]
VALUES = [
    "",
    "1",
    "5",
    "5, 5",
    "+5",
    "chunked",
    "Chunked",
    "gzip, chunked",
    "chunked, chunked",
    "close",
    "keep-alive",
    "Keep-Alive, x",
    "a=b",
    "\x01",
    "é",
    " x ",
    "a\tb",
    "\x7f",
    "a\rb",
    "0x5",
    "1_0",
    "٣",
]
ENDS = ["\r\n"] * 40 + ["\n", "\r", "\r\n ", "\r\r\n", ""]

plain_value = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12).map(str.strip)
good_header = st.sampled_from(
    [
        "X: 1\r\n", "x:2\r\n", "Ais-Custom-Md: a=b\r\n", "Connection: close\r\n", "Connection: keep-alive\r\n", "Connection: x, Close\r\n",
        "Content-Length: 5\r\n", "content-length: 0\r\n", "Transfer-Encoding: chunked\r\n", "transfer-encoding:\tChunked \r\n", "X:\r\n",
    ]
)  # fmt: skip
any_header = st.tuples(
    st.sampled_from(NAMES),
    st.sampled_from([": ", ":", ":\t ", " : ", ""]),
    st.sampled_from(VALUES) | plain_value,
    st.sampled_from(ENDS),
).map("".join)
header_lines = st.lists(good_header | good_header | good_header | any_header, max_size=4).map("".join)
request_line = st.tuples(
    st.sampled_from([*METHODS * 3, "get", "M-SEARCH", "G ET", ""]),
    st.sampled_from([" "] * 20 + ["  ", "\t"]),
    st.sampled_from(TARGETS[:4] * 4 + TARGETS),
    st.sampled_from([" HTTP/1.1"] * 20 + [" HTTP/1.0"] * 4 + [" HTTP/1.2", " HTTP/2.0", " HTTP/11", " http/1.1", ""]),
    st.sampled_from(ENDS),
).map("".join)
heads = st.builds(
    lambda line, host, headers, end: (line + host + headers + end).encode("latin-1", "replace"),
    request_line,
    st.sampled_from(["Host: a\r\n"] * 8 + [""]),
    header_lines,
    st.sampled_from(["\r\n"] * 10 + ["\n", "\r\n\r\n"]),
)
mutations: st.SearchStrategy[list[tuple[int, bytes]]] = (
    st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=2)), max_size=1) | st.just([]) | st.just([])
)


def mutated(head: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    for at, new in changes:
        at %= len(head) + 1
        head = head[:at] + new + head[at + 1 :]
    return head


@settings(max_examples=1500)
@given(heads, mutations)
def test_requests_mean_to_others_what_they_mean_to_us(head: bytes, changes: list[tuple[int, bytes]]) -> None:
    head = mutated(head, changes)
    try:
        ours = by_us(head)
    except BadHead as error:
        assert error.status in (400, 431, 501, 505)
        return
    # Lengths are compared as numbers; h11 gives codings in lower case.
    comparable = ours._replace(headers=[pair for pair in ours.headers if pair[0] != "content-length"])
    if ours.target.isascii():  # h11 takes no others
        theirs = by_h11(head)
        plain = [pair for pair in theirs.headers if pair[0] not in ("content-length", "transfer-encoding")]
        assert theirs._replace(headers=plain, keep_alive=ours.keep_alive) == comparable._replace(
            headers=[pair for pair in comparable.headers if pair[0] != "transfer-encoding"]
        )
        # h11 always closes to HTTP/1.0; closing is always safe
        assert theirs.keep_alive or not ours.keep_alive or b"HTTP/1.0" in head
    # llhttp knows a list of methods and versions, looks into targets, and refuses equal lengths too (RFC 9112 6.3 allows both).
    once = [name for name, _ in ours.headers].count("content-length") <= 1
    if (
        once
        and ours.method in METHODS
        and b"HTTP/1.2" not in head
        and ours.target.isascii()
        and ours.target[:1] == b"/"
    ):
        tools = by_httptools(head)
        others = [pair for pair in tools.headers if pair[0] != "content-length"]
        assert tools._replace(headers=others, keep_alive=ours.keep_alive) == comparable
        assert tools.keep_alive or not ours.keep_alive


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_are_a_head_or_refused(data: bytes, start: int) -> None:
    try:
        end = find_head_end(data + b"\r\n\r\n", min(start, len(data)))
        parse_request((data + b"\r\n\r\n")[:end])
    except BadHead:
        pass


@settings(max_examples=200)
@given(heads, st.lists(st.integers(1, 30), max_size=30))
def test_the_end_is_found_however_the_head_arrives(head: bytes, steps: list[int]) -> None:
    def find(pieces: list[int]) -> int | str:
        data, scanned = b"", 0
        try:
            for size in pieces:
                data += head[len(data) : len(data) + size]
                end = find_head_end(data, scanned)
                if end >= 0:
                    return end
                scanned = len(data)
        except BadHead as error:
            return error.reason
        return -1

    at_once, in_pieces = find([len(head)]), find([*steps, len(head)])
    # A bare line feed is found at once while the head is not complete, and by the parser otherwise.
    if in_pieces != "bare line feed in head":
        assert at_once == in_pieces
    else:
        with pytest.raises(BadHead):
            parse_request(head[:at_once] if isinstance(at_once, int) and at_once >= 0 else head)


status_lines = st.builds(
    "HTTP/{} {}{}{}".format,
    st.sampled_from(["1.1"] * 12 + ["1.0", "2.0", "1"]),
    st.sampled_from([200, 204, 206, 301, 304, 404, 503] * 2 + [99, 600, 1000, "2x0"]),
    st.sampled_from([" OK", "", " ", " Très bien", "  two"] * 3 + ["\x01"]),
    st.sampled_from(ENDS),
)
responses = st.builds(
    lambda line, headers: (line + headers + "\r\n").encode("latin-1", "replace"), status_lines, header_lines
)


class Source:
    """What http.client reads an answer from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


@settings(max_examples=700)
@given(responses, mutations)
def test_responses_mean_to_others_what_they_mean_to_us(head: bytes, changes: list[tuple[int, bytes]]) -> None:
    head = mutated(head, changes)
    try:
        if find_head_end(head) != len(head):
            return
        ours = parse_response(head)
    except BadHead:
        return
    assume(ours.status >= 200)
    length = response_framing(ours, "GET")
    theirs = http.client.HTTPResponse(Source(head), method="GET")  # type: ignore[arg-type]  # all it takes of a socket
    theirs.begin()
    assert theirs.status == ours.status
    assert (theirs.reason or "") == ours.reason.strip()
    assert sorted(name.lower() for name, _ in theirs.getheaders()) == sorted(
        name for name in ours.headers for _ in ours.headers.lines(name)
    )
    for name in ours.headers:
        got = theirs.msg.get_all(name)
        assert got is not None
        # It decodes values as Latin-1 and keeps blanks behind them.
        assert [value.strip() for value in got] == [value.strip() for value in ours.headers.lines(name)]
    if length == CHUNKED:
        assert theirs.chunked or theirs.msg["transfer-encoding"].lower() != "chunked"  # it does not expect blanks
    elif length == NO_LENGTH:
        assert theirs.length is None and not theirs.chunked
    else:
        assert theirs.length == length


def test_repeated_lines_are_kept_apart_and_joined() -> None:
    seen = parse_request(b"GET / HTTP/1.1\r\nHost: a\r\nAis-Custom-Md: a=1\r\nX: y\r\nais-custom-md: b=2,3\r\n\r\n")
    assert seen.headers.lines("ais-custom-md") == ["a=1", "b=2,3"]
    assert seen.headers["ais-custom-md"] == "a=1, b=2,3"
    assert seen.headers.lines("x") == ["y"]
    assert seen.headers.lines("none") == []


def test_equal_header_blocks_are_parsed_once() -> None:
    first, second = (parse_request(b"GET /%d HTTP/1.1\r\nHost: same\r\nA: b\r\n\r\n" % i) for i in range(2))
    assert first.headers is second.headers
    # but not where that would let a request pass that lacks its Host
    parse_request(b"GET / HTTP/1.0\r\nNo-Host: 1\r\n\r\n")
    with pytest.raises(BadHead, match="missing Host"):
        parse_request(b"GET / HTTP/1.1\r\nNo-Host: 1\r\n\r\n")
