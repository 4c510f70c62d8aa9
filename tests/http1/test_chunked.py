"""`ChunkedDecoder`: what it gives back, what it refuses, and that the cutting of its input makes no difference."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistore.http1.chunked import MAX_CHUNK_LINE, MAX_EXTENSIONS, MAX_TRAILERS, ChunkedDecoder
from aistore.http1.failures import BadBody, BodyTooLong


def encode(pieces: list[bytes], extension: bytes = b"", trailers: bytes = b"") -> bytes:
    chunks = b"".join(b"%x%s\r\n%s\r\n" % (len(p), extension, p) for p in pieces)
    return chunks + b"0" + extension + b"\r\n" + trailers + b"\r\n"


def decode(data: bytes, cuts: list[int] | None = None) -> tuple[bytes, ChunkedDecoder]:
    decoder, out, at = ChunkedDecoder(), b"", 0
    for cut in [*sorted(cuts or []), len(data)]:
        out += b"".join(decoder.feed(data[at:cut]))
        at = max(at, cut)
    return out, decoder


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(0, 300)), st.binary(max_size=20))
def test_any_cutting_gives_the_same_content(pieces: list[bytes], cuts: list[int], rest: bytes) -> None:
    data = encode(pieces, b";a=b", b"X-Trailer: 1\r\n") + rest
    content, decoder = decode(data, [min(c, len(data)) for c in cuts])
    assert content == b"".join(pieces)
    assert decoder.done
    assert decoder.rest == rest
    assert decoder.total == len(content)


def test_taking_chunk_data_elsewhere() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"a\r\n123") == [b"123"]
    assert decoder.needed == 7
    decoder.took(7)
    assert decoder.needed == 0
    assert decoder.feed(b"\r\n2\r\nab\r\n0\r\n\r\n") == [b"ab"]
    assert decoder.done
    with pytest.raises(ValueError, match="1 bytes taken of 0"):
        decoder.took(1)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"0x10\r\n",
        b" 5\r\nhello\r\n",
        b"5 5\r\nhello\r\n",
        b"5\nhello\n0\n\n",
        b"5\rhello",
        b"5\r\nhello!\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"11111111111111111\r\n",
        b"5;a\x00b\r\nhello\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n : blank\r\n\r\n",
        b"0\r\nA: b\n\r\n",
        b"5" * (MAX_CHUNK_LINE + 1),
        b"1;" + b"x" * MAX_CHUNK_LINE + b"\r\n",
        b"0\r\n" + b"A: " + b"b" * 1000 + b"\r\n" + (b"A: " + b"b" * 1000 + b"\r\n") * (MAX_TRAILERS // 1000),
        b"1;" + b"x" * 4000 + b"\r\na\r\n" + (b"1;" + b"x" * 4000 + b"\r\na\r\n") * 20,
    ],
)
def test_what_the_grammar_does_not_allow_is_refused(data: bytes) -> None:
    with pytest.raises(BadBody):
        decode(data)
    with pytest.raises(BadBody):
        decode(data, list(range(len(data))))


def test_content_beyond_the_limit_is_refused_before_it_arrives() -> None:
    decoder = ChunkedDecoder(limit=10)
    assert decoder.feed(b"8\r\n12345678\r\n") == [b"12345678"]
    with pytest.raises(BadBody, match="longer than 10 bytes"):
        decoder.feed(b"3\r\n")


def test_an_unfinished_body_is_not_done() -> None:
    data = encode([b"hello", b"world"])
    for cut in range(len(data)):
        _, decoder = decode(data[:cut])
        assert not decoder.done


@given(
    st.lists(
        st.sampled_from(
            [
                b"5\r\nhello\r\n",
                b"3;x=y\r\nabc\r\n",
                b"0\r\n",
                b"\r\n",
                b"A: b\r\n",
                b"5\r\nhell\r\n",
                b"1\r\n",
                b"g\r\n",
                b"\n",
                b"a",
            ]
        ),
        max_size=8,
    )
)
def test_what_is_accepted_h11_accepts_too(parts: list[bytes]) -> None:
    data = b"".join(parts)
    try:
        content, decoder = decode(data)
    except BadBody:
        return
    theirs = h11.Connection(h11.CLIENT)
    theirs.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    theirs.send(h11.EndOfMessage())
    theirs.receive_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    got, done = b"", False
    while True:
        event = theirs.next_event()
        if isinstance(event, h11.Data):
            got += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            done = True
        elif not isinstance(event, h11.Response):
            break
    assert (content, decoder.done) == (got, done)


def test_small_chunks_count_toward_the_limit() -> None:
    decoder = ChunkedDecoder(limit=100)
    assert b"".join(decoder.feed(b"1\r\nx\r\n" * 100)) == b"x" * 100
    with pytest.raises(BodyTooLong):
        decoder.feed(b"1\r\nx\r\n")


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=30), st.integers(1, 700), st.booleans())
def test_small_chunks_in_turns_of_any_size(pieces: list[bytes], step: int, upper: bool) -> None:
    spelled = "%X" if upper else "%x"
    data = b"".join(b"%s\r\n%s\r\n" % ((spelled % len(p)).encode(), p) for p in pieces) + b"0\r\n\r\nrest"
    content, decoder = decode(data, list(range(0, len(data), step)))
    assert (content, decoder.total, decoder.rest) == (b"".join(pieces), len(content), b"rest")


def test_extensions_have_a_limit_together() -> None:
    chunk = b"1;" + b"x" * 4000 + b"\r\na\r\n"
    decoder = ChunkedDecoder()
    with pytest.raises(BadBody, match="extensions are too long"):
        for _ in range(MAX_EXTENSIONS // 4000 + 1):
            decoder.feed(chunk)
