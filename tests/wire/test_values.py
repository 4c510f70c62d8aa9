from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistore.wire.gotime import formatter
from aistore.wire.headers import accepts_msgpack
from aistore.wire.values import (
    SECOND,
    format_duration,
    format_size,
    format_time,
    parse_bool,
    parse_duration,
    parse_size,
    parse_time,
)


def test_booleans() -> None:
    assert all(map(parse_bool, ["true", "y", "yes", "on", "1", "t", "T", "TRUE", "True"]))
    assert not any(map(parse_bool, ["", "Yes", "ON", "false", "2", "tRUE"]))


@pytest.mark.parametrize(
    ("text", "seconds", "shown"),
    [
        ("10s", 10, "10s"),
        ("120s", 120, "2m"),
        ("1h30m", 5400, "1h30m"),
        ("2h", 7200, "2h0m"),
        ("500ms", 0.5, "500ms"),
        ("1m30s", 90, "1m30s"),
        ("1.5h", 5400, "1h30m"),
        ("-90s", -90, "-1m30s"),
        ("0", 0, "0s"),
        ("1µs", 1e-6, "1µs"),
        ("1.25s", 1.25, "1.25s"),
    ],
)
def test_durations(text: str, seconds: float, shown: str) -> None:
    assert parse_duration(text) == round(seconds * SECOND)
    assert format_duration(parse_duration(text)) == shown


@pytest.mark.parametrize("text", ["", "soon", "10", "5d", "1h 2m", "h", "9999999999h", "1" * 100 + "s", "٣s", "--1s"])
def test_durations_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**17))
def test_durations_round_trip(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "size", "shown"),
    [
        ("", 0, "0B"),
        ("64KiB", 65536, "64KiB"),
        ("1048576KB", 1 << 30, "1GiB"),
        ("3gb", 3 << 30, "3GiB"),
        ("1.5GiB", 3 << 29, "2GiB"),
        ("2147483648", 2 << 30, "2GiB"),
        ("1TiB", 1 << 40, "1TiB"),
        ("17b", 17, "17B"),
    ],
)
def test_sizes(text: str, size: int, shown: str) -> None:
    assert parse_size(text) == size
    assert format_size(size) == shown


def test_sizes_of_headers_are_decimal_unless_they_say_otherwise() -> None:
    assert parse_size("1mb", decimal=True) == 1_000_000
    assert parse_size("1MiB", decimal=True) == 1 << 20


@pytest.mark.parametrize("text", ["lots", "-1", "1XB", "1iB", "1e9", "9" * 100, "99999999TiB"])
def test_sizes_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ParseInt"):
        parse_size(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0001-01-01T00:00:00Z"),
        (1741083072345678901, "2025-03-04T10:11:12.345678901Z"),
        (1741083072500000000, "2025-03-04T10:11:12.5Z"),
    ],
)
def test_times(nanoseconds: int, text: str) -> None:
    assert format_time(nanoseconds) == text
    assert parse_time(text) == nanoseconds


def test_times_with_offset() -> None:
    assert parse_time("2025-03-04T12:11:12.5+02:00") == 1741083072500000000
    with pytest.raises(ValueError, match="RFC 3339"):
        parse_time("2025-03-04 12:11:12")


def test_go_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    at = 1741083072_045678901
    assert formatter("")(at) == "04 Mar 25 10:11 UTC"
    assert formatter("2006")(at) == "2025"
    assert formatter("2006-01-02T15:04:05.000Z07:00")(at) == "2025-03-04T10:11:12.045Z"
    assert formatter("Mon Jan _2 3:04:05PM 2006")(at) == "Tue Mar  4 10:11:12AM 2025"
    assert formatter("05.999999999")(1741083072_500000000) == "12.5"
    assert formatter("2006-01-02")(0) == ""


def test_headers() -> None:
    assert accepts_msgpack("application/json, application/msgpack;q=0.5")
    assert not accepts_msgpack("application/msgpackx")
