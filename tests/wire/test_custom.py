from __future__ import annotations

import pytest

from aistore.wire import custom
from aistore.wire.access import DELETE_OBJECT, GET, HEAD_OBJECT, describe
from aistore.wire.errors import ApiError
from aistore.wire.kinds import IDLE_KINDS, KINDS, SCRUB, find_kind
from aistore.wire.snaps import fold_errors


def test_lines_split_at_the_first_equals() -> None:
    assert custom.parse_lines(["expr=a=b=c", "k = v", "n=", "n=2"]) == {"expr": "a=b=c", "k ": " v", "n": "2"}
    assert custom.format_lines({"a": "b=c"}) == ["a=b=c"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["abc"], 'custom metadata: invalid format "abc" (expecting key=value)'),
        ([""], 'custom metadata: invalid format "" (expecting key=value)'),
        (["=v"], 'custom metadata: empty key (value="v")'),
        (["k=" + "x" * 2048], "custom metadata: total size 2049 exceeds max 2048 bytes"),
        (["k=" + "ü" * 1024], "custom metadata: total size 2049 exceeds max 2048 bytes"),
    ],
)
def test_lines_refused(lines: list[str], message: str) -> None:
    with pytest.raises(ApiError) as info:
        custom.parse_lines(lines)
    assert (info.value.status, info.value.message) == (400, message)


def test_limits() -> None:
    custom.check({"k": "x" * 2047})
    with pytest.raises(ApiError, match=r"ais://b/o: custom metadata '.k.=.*reserved symbol"):
        custom.check({"k": "a\x01b"}, "ais://b/o")


def test_listed_form_puts_standard_keys_first() -> None:
    assert custom.format_listed({"z": "1", "ETag": "e", "a": "2", "source": "aws"}) == "[source:aws ETag:e a:2 z:1]"
    assert custom.format_listed({}) == ""


def test_access_names() -> None:
    assert describe(GET | HEAD_OBJECT) == "GET,HEAD-OBJECT"
    assert describe(0) == "none"
    assert describe(GET | HEAD_OBJECT | 12 | DELETE_OBJECT) == "GET,HEAD-OBJECT,PUT,APPEND, ..."


def test_kinds() -> None:
    assert len(KINDS) == 34 + 1  # those of the reference, and the scrub of ours
    assert find_kind(SCRUB) is not None
    assert len(IDLE_KINDS) == 10
    lru = find_kind("lru-eviction")
    assert lru is not None
    assert lru.name == "lru"
    assert find_kind("LRU") is None


def test_folded_errors() -> None:
    assert fold_errors("e", 0) == ""
    assert fold_errors("e", 1) == "e"
    assert fold_errors("e", 2) == "e (and 1 more error)"
    assert fold_errors("e", 4) == "e (and 3 more errors)"
