from __future__ import annotations

import pytest

from aistore.wire.errors import ApiError
from aistore.wire.ranges import parse_range


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=3-5", (3, 3)),
        ("bytes=5-", (5, 5)),
        ("bytes=5-100", (5, 5)),
        ("bytes=0-9223372036854775806", (0, 10)),
        ("bytes=-1", (9, 1)),
        ("bytes=-11", (0, 10)),
        ("bytes= 1 - 3 ", (1, 3)),
        ("bytes=, ,1-3 ,", (1, 3)),
        ("bytes=+1-5", (1, 5)),
        ("bytes=20-30,0-1", (0, 2)),
    ],
)
def test_satisfiable(header: str, span: tuple[int, int]) -> None:
    assert parse_range(header, 10) == span


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("0-5", 'read range "0-5" is invalid (prefix)'),
        ("Bytes=0-5", 'read range "Bytes=0-5" is invalid (prefix)'),
        ("bytes=5", 'read range "bytes=5" is invalid (-)'),
        ("bytes=", 'read range "bytes=" is invalid (-)'),
        ("bytes=x-1", 'read range "x-1" is invalid (start)'),
        ("bytes=0-1,x-2", 'read range "x-2" is invalid (start)'),
        ("bytes=1_0-", 'read range "1_0-" is invalid (start)'),
        ("bytes=١-", 'read range "١-" is invalid (start)'),
        ("bytes=1-x", 'read range "1-x" is invalid (end)'),
        ("bytes=5-1", 'read range "5-1" is invalid (end)'),
        ("bytes=1-2-3", 'read range "1-2-3" is invalid (end)'),
        ("bytes=-", 'read range "-" is invalid as per RFC 7233 Section 2.1'),
        ("bytes=--5", 'read range "--5" is invalid as per RFC 7233 Section 2.1'),
        ("bytes=-x", 'read range "-x" is invalid (see RFC 7233 Section 2.1)'),
        ("bytes=0-1,4-5", "cannot multi-range read ais://b/o - operation not supported"),
    ],
)
def test_malformed(header: str, message: str) -> None:
    with pytest.raises(ApiError) as info:
        parse_range(header, 10, "ais://b/o")
    assert (info.value.status, info.value.message, dict(info.value.headers)) == (416, message, {})


@pytest.mark.parametrize(
    ("header", "size", "message"),
    [
        ("bytes=10-", 10, "size=10: not satisfiable range [10-]"),
        ("bytes=20-30,40-", 10, "size=10: not satisfiable ranges [20-30 40-]"),
        ("bytes=0-", 0, "size=0: not satisfiable range [0-]"),
        ("bytes=-0", 10, "size=10: not satisfiable range [-0]"),
        ("bytes=-5", 0, "size=0: not satisfiable range [-5]"),
    ],
)
def test_beyond_the_object(header: str, size: int, message: str) -> None:
    with pytest.raises(ApiError) as info:
        parse_range(header, size)
    assert (info.value.status, info.value.message, info.value.tcode) == (416, message, "ErrRangeNotSatisfiable")
    assert info.value.headers["Content-Range"] == f"bytes */{size}"
