"""Request heads: exact bytes, and no way to smuggle a header or a request into one."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistore.http1.encode import encode_headers, encode_request_line


def encode_request(method: str, target: str, headers: list[tuple[str, str]]) -> bytes:
    return encode_request_line(method, target) + encode_headers(headers) + b"\r\n"


def test_a_request_head() -> None:
    head = encode_request("GET", "/v1/objects/b/o?provider=ais", [("Host", "h:8080"), ("Range", "bytes=0-1")])
    assert head == b"GET /v1/objects/b/o?provider=ais HTTP/1.1\r\nHost: h:8080\r\nRange: bytes=0-1\r\n\r\n"


def test_values_beyond_ascii_are_sent_as_utf8() -> None:
    assert "X: größe\r\n".encode() in encode_request("GET", "/", [("X", "größe")])


@pytest.mark.parametrize("target", ["", "/a b", "/a\r\nX: y", "/a\n", "/ü", "/a\x00", "/a\x7f"])
def test_a_target_that_would_break_the_line_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="percent-encoded"):
        encode_request("GET", target, [])


@pytest.mark.parametrize(
    "header",
    [
        ("A\r\nB", "x"),
        ("", "x"),
        ("A B", "x"),
        ("A:", "x"),
        ("A", "x\r\nB: y"),
        ("A", "x\ny"),
        ("A", "\x00"),
        ("A", "\x7f"),
        ("Ä", "x"),
    ],
)
def test_a_header_that_would_break_the_line_is_refused(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        encode_request("GET", "/", [header])


@pytest.mark.parametrize("method", ["", "GET /x HTTP/1.1\r\nA: b\r\n\r\nPUT", "G T"])
def test_a_method_that_is_no_token_is_refused(method: str) -> None:
    with pytest.raises(ValueError, match="method"):
        encode_request(method, "/", [])


@given(st.text(min_size=1), st.lists(st.tuples(st.text(), st.text()), max_size=3))
def test_what_is_encoded_reads_back_as_one_request(target: str, headers: list[tuple[str, str]]) -> None:
    try:
        head = encode_request("GET", target, [("Host", "h"), *(("X-" + n, v) for n, v in headers)])
    except ValueError:
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(head)
    event = server.next_event()
    assert isinstance(event, h11.Request)
    assert event.target == target.encode()
    assert len(event.headers) == 1 + len(headers)
    assert isinstance(server.next_event(), h11.EndOfMessage)
    assert server.next_event() is h11.NEED_DATA
