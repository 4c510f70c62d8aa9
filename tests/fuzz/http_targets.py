"""Fuzzing of what reads HTTP: heads, chunks, request targets and queries.

What is accepted here must mean the same to h11 and httptools: two readers of one connection that disagree are how requests are smuggled.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import h11
import httptools

from aistore.http1.chunked import MAX_CHUNK_LINE, MAX_TRAILERS, ChunkedDecoder
from aistore.http1.failures import BadBody
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
from aistore.http1.message import parse_params, split_target
from fuzz.engine import Target

if TYPE_CHECKING:
    from collections.abc import Hashable

_METHODS: Final = frozenset(("GET", "PUT", "HEAD", "DELETE", "POST", "PATCH", "OPTIONS"))
_WORDS: Final = (
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b": ", b":", b" ", b"\t", b"\r\n ", b"\x00", b"\x0b", b"\x0c", b"\x85", b"\xa0", b",", b";",
    b"Content-Length: ", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: ", b"chunked", b"gzip, chunked",
    b"identity", b"Connection: ", b"close", b"keep-alive", b"Host: a\r\n", b"Host: ", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"GET ", b"PUT ",
    b"http://a/", b"%2F", b"%00", b"%zz", b"?", b"&", b"=", b"+", b"#", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n", b"+5", b"0x5", b"1_0",
    b"5, 5", b"05", b"5 ", b" 5", b"\xb2", b"\xd9\xa3", b"Trailer: x\r\n", b"TE: trailers\r\n", b"X: y\r\n",
)  # fmt: skip
_REQUESTS: Final = (
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PUT /v1/objects/b/o%20x?provider=ais&x=%2F HTTP/1.1\r\nHost: h:1\r\nContent-Length: 5\r\nAis-Custom-Md: a=b\r\nAis-Custom-Md: c=d\r\n\r\n",
    b"POST /v1/buckets/b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n",
    b"GET http://h:1/x?y HTTP/1.0\r\nConnection: keep-alive\r\nHost: a\r\n\r\n",
    b"HEAD /v1/objects/b/o HTTP/1.1\r\nhost:a\r\nRange: bytes=0-5\r\nconnection:\tx, Close \r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
)
_RESPONSES: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nAis-Checksum-Type: xxhash2\r\n\r\n",
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/9\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.0 404 \r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://a:1/v1/x?y\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
    b"HTTP/1.1 503\r\nRetry-After: 1\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nEtag: x\r\n\r\n",
)
# Blanks before an extension, which RFC 9112 7.1.1 wants to be read, and h11 refuses.
_blanks_before_extension: Final = re.compile(rb"[0-9A-Fa-f][ \t]+;").search
_known_version: Final = re.compile(rb"[^\r]* HTTP/1\.[01]\r\n").match


def _whole_head(data: bytes) -> bytes:
    """The head that begins the data, found in one piece and in two. Raises `BadHead`."""
    end = find_head_end(data)
    half = len(data) // 2
    early = find_head_end(data[:half])
    later = find_head_end(data, half) if early < 0 else early
    assert later == end, "the end depends on how the head arrives"
    if end < 0:
        raise BadHead(400, "incomplete")
    return data[:end]


def _request(data: bytes) -> Hashable:
    head = _whole_head(data)
    seen = parse_request(head)
    length = seen.headers.length
    assert length in (CHUNKED, NO_LENGTH) or 0 <= length < 10**18
    assert not (seen.old and length == CHUNKED)
    kind = (seen.method in _METHODS, min(length, 6), seen.keep_alive, seen.old, len(seen.headers) > len(head) // 20)
    if seen.target.isascii():
        _compare_with_h11(head, length)
    lengths = len(seen.headers.lines("content-length"))
    # llhttp knows a list of methods and versions, and takes nothing as body after an upgrade.
    usual = seen.target[:1] == b"/" and seen.target.isascii() and _known_version(head) and seen.method in _METHODS
    if usual and lengths <= 1 and "upgrade" not in seen.headers:
        _compare_with_httptools(head, length)
    try:
        split_target(seen.target)
    except BadHead:
        return (*kind, "bad target")
    return kind


def _compare_with_h11(head: bytes, length: int) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2 * MAX_HEAD)
    connection.receive_data(head)
    event = connection.next_event()
    assert isinstance(event, h11.Request), f"h11 does not take it for a request: {event}"
    theirs = NO_LENGTH
    for name, value in event.headers:
        if name == b"transfer-encoding":
            theirs = CHUNKED
        elif name == b"content-length":
            theirs = int(value)
    assert theirs == length, f"the body's length is {theirs} to h11 and {length} to us"


class _Collector:
    """What httptools tells of a head."""

    def __init__(self) -> None:
        self.complete = False
        self.ended = False
        self.headers: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True

    def on_message_complete(self) -> None:
        self.ended = True


def _compare_with_httptools(head: bytes, length: int) -> None:
    seen = _Collector()
    httptools.HttpRequestParser(seen).feed_data(head)  # what it refuses we must refuse
    assert seen.complete, "httptools waits for more of the head"
    has_body = length == CHUNKED or length > 0
    assert seen.ended != has_body, f"httptools sees {'no ' if seen.ended else 'a '}body, the length is {length} to us"


def _response(data: bytes) -> Hashable:
    head = _whole_head(data)
    seen = parse_response(head)
    length = response_framing(seen, "GET")
    assert 100 <= seen.status <= 999
    assert length in (CHUNKED, NO_LENGTH) or 0 <= length < 10**18
    if seen.status >= 200 and seen.reason.isascii():
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=2 * MAX_HEAD)
        connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(head)
        event = connection.next_event()
        assert isinstance(event, h11.Response), f"h11 does not take it for a response: {event}"
        assert event.status_code == seen.status
    return seen.status // 100, min(length, 6), seen.keep_alive


def _fed(decoder: ChunkedDecoder, data: bytes, step: int) -> bytes:
    content = b""
    for at in range(0, len(data), step):
        if decoder.done:
            decoder.rest += data[at : at + step]
        else:
            content += b"".join(decoder.feed(data[at : at + step]))
    return content


def _chunked(data: bytes) -> Hashable:
    """The first byte says in which pieces the rest arrives."""
    if not data:
        raise BadBody("nothing")
    step, data = 1 + data[0] % 31, data[1:]
    at_once, in_pieces = ChunkedDecoder(1 << 20), ChunkedDecoder(1 << 20)
    refusal: str | None = None
    content = b""
    try:
        content = _fed(at_once, data, len(data) or 1)
    except BadBody as error:
        refusal = str(error)
    try:
        pieces = _fed(in_pieces, data, step)
    except BadBody:
        assert refusal is not None, "refused in pieces, and not at once"
        raise
    if refusal is not None:  # what is behind the fault may not have been looked at
        assert not in_pieces.done, f"accepted in pieces, and not at once: {refusal}"
        raise BadBody(refusal)
    assert pieces == content
    assert (in_pieces.done, in_pieces.rest) == (at_once.done, at_once.rest)
    assert len(in_pieces._line) <= MAX_CHUNK_LINE + MAX_TRAILERS
    if at_once.done and not _blanks_before_extension(data):
        _compare_chunks(data[: len(data) - len(at_once.rest)], content)
    return at_once.done, bool(content), bool(at_once.rest)


def _compare_chunks(body: bytes, content: bytes) -> None:
    """h11 has to find the same content, and the end at the same place."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2 * MAX_HEAD)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    found = b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Data):
            found += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            assert isinstance(event, h11.Request), f"h11 does not find the end: {event}"
    assert found == content, "h11 finds other content"
    assert not connection.trailing_data[0], "h11 finds the end before we do"


def _target(data: bytes) -> Hashable:
    path, raw, query = split_target(data)
    path.encode()
    params = parse_params(query)
    assert len(params) <= params.count <= len(query)
    return path[:1], raw == path, params.bad is None, min(params.count, 3)


TARGETS: Final = (
    Target("request head", _request, (BadHead,), _REQUESTS, _WORDS),
    Target("response head", _response, (BadHead,), _RESPONSES, (*_WORDS, b"HTTP/1.1 200 OK\r\n", b" 204 ", b" 100 ", b" 999 ")),
    Target(
        "chunked body",
        _chunked,
        (BadBody,),
        (
            b"\x05" + b"5\r\nhello\r\n3\r\nabc\r\n0\r\n\r\n",
            b"\x00" + b"1;ext=\"v\"\r\nx\r\n0\r\nTrailer: v\r\nB: c\r\n\r\nGET / HTTP/1.1\r\n",
            b"\x1f" + b"0000000000000005\r\nhello\r\n00\r\n\r\n",
            b"\x02" + b"ff\r\n" + b"y" * 255 + b"\r\nFF\r\n" + b"z" * 255 + b"\r\n0\r\n\r\n",
        ),
        (b"\r\n", b"\n", b"\r", b"0\r\n\r\n", b"0\r\n", b"5\r\nhello\r\n", b";", b" ", b"\t", b"ffffffffffffffff", b"0x5", b"+5", b"-1", b"\x00",
         b"fffff", b"1\r\nx\r\n", b"a: b\r\n", b"\xff", b"=", b'"'),
    ),
    Target(
        "request target and query",
        _target,
        (BadHead,),
        (
            b"/v1/objects/b/o%20x?provider=ais&x=%2F",
            b"/s3/b/k?list-type=2&prefix=a%2Fb&max-keys=2",
            b"http://h:1/x?y=1",
            b"/v1/buckets/b?namespace=%40%23ns&provider=&=&a",
            b"*",
        ),
        (b"%", b"%2F", b"%00", b"%C3%A4", b"%ff", b"&", b"=", b"+", b"?", b"//", b"/../", b"\xc3\xa4", b"\xff", b"://", b"provider", b"&&", b"#"),
    ),
)  # fmt: skip
