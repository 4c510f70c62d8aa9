from __future__ import annotations

import tracemalloc
from itertools import islice

import pytest

from aistore.wire.errors import ApiError
from aistore.wire.template import parse_counter, parse_template


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("obj-{8..11}.txt", ["obj-8.txt", "obj-9.txt", "obj-10.txt", "obj-11.txt"]),
        ("s-{000..010..5}.tar", ["s-000.tar", "s-005.tar", "s-010.tar"]),
        ("p-{07..11..1}", ["p-07", "p-08", "p-09", "p-10", "p-11"]),
        ("a{1..2}-b{00..01}", ["a1-b00", "a1-b01", "a2-b00", "a2-b01"]),
        ("x@03", ["x00", "x01", "x02", "x03"]),
        ("@1-@1.x", ["0-0.x", "0-1.x", "1-0.x", "1-1.x"]),
        ("{5..5}", ["5"]),
    ],
)
def test_ranges(text: str, names: list[str]) -> None:
    template = parse_template(text)
    assert template.prefix is None
    assert list(template.names()) == names


def test_padding_is_the_shorter_of_the_two_written_widths() -> None:
    names = list(parse_template("{01..100}").names())
    assert (names[0], names[98], names[99]) == ("01", "99", "100")


@pytest.mark.parametrize(
    ("text", "prefix"),
    [("", ""), ("*", ""), ("logs/2025", "logs/2025"), ("a*", "a"), ("abc{", "abc{"), ("50%-%", "50%-%")],
)
def test_prefixes(text: str, prefix: str) -> None:
    assert parse_template(text).prefix == prefix


@pytest.mark.parametrize(
    ("text", "message", "tcode"),
    [
        (
            "a-{3..1}",
            "invalid 'bash' template \"a-{3..1}\": 'start' cannot be greater than 'end'",
            "errTemplateInvalid",
        ),
        ("a-{x..3}", 'strconv.ParseInt: parsing "x": invalid syntax', "NumError"),
        ("a-{1..3..0}", "invalid 'bash' template \"a-{1..3..0}\": 'step' is non-positive", "errTemplateInvalid"),
        (
            "a-{1}",
            "invalid 'bash' template \"a-{1}\" (expecting e.g. 'prefix-{0001..0010..1}-suffix')",
            "errTemplateInvalid",
        ),
        (
            "a-{1,2}",
            "invalid 'bash' template \"a-{1,2}\" (expecting e.g. 'prefix-{0001..0010..1}-suffix')",
            "errTemplateInvalid",
        ),
        (
            "a}{",
            "invalid 'bash' template \"a}{\" (expecting e.g. 'prefix-{0001..0010..1}-suffix')",
            "errTemplateInvalid",
        ),
        (
            "{1..2}{",
            "invalid 'bash' template \"{1..2}{\" (expecting e.g. 'prefix-{0001..0010..1}-suffix')",
            "errTemplateInvalid",
        ),
        ("a-{-1..3}", "invalid 'bash' template \"a-{-1..3}\": 'start' is negative", "errTemplateInvalid"),
        ("a-@", 'strconv.ParseInt: parsing "": invalid syntax', "NumError"),
        ("a-@x", 'strconv.ParseInt: parsing "": invalid syntax', "NumError"),
        ("a-%s", "invalid 'fmt' template \"a-%s\" (expecting e.g. 'prefix-%06d-suffix)", "errTemplateInvalid"),
        ("../x", 'bad list-range request: invalid prefix "../x"', "errInvalidPath"),
    ],
)
def test_refused(text: str, message: str, tcode: str) -> None:
    with pytest.raises(ApiError) as info:
        parse_template(text)
    assert (info.value.status, info.value.message, info.value.tcode) == (400, message, tcode)


@pytest.mark.parametrize("text", ["{0..99999}{0..99999}", "{0..9999999999999999999}", "@99999999", "a-%06d"])
def test_more_names_than_anyone_means(text: str) -> None:
    with pytest.raises(ApiError, match=r"^400: "):
        parse_template(text)


def test_names_come_one_at_a_time() -> None:
    assert list(islice(parse_template("{0..9999999}").names(), 2)) == ["0", "1"]


def test_several_ranges_cost_no_memory() -> None:
    """The first of two long ranges is not laid out before the second."""
    tracemalloc.start()
    try:
        names = parse_template("a{0..4999999}b{00..01}c").names()
        assert [next(names) for _ in range(3)] == ["a0b00c", "a0b01c", "a1b00c"]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_many_ranges() -> None:
    assert list(parse_template("{0..0}" * 2000 + "{1..2}").names()) == ["0" * 2000 + "1", "0" * 2000 + "2"]


@pytest.mark.parametrize(
    "text", ["{0..9223372036854775807}", "{0..1}" * 2000, "@9@9" * 4000, "{1..1}" * 100_000, "x" * 20_000 + "%d"]
)
def test_templates_that_would_fill_the_memory_are_refused(text: str) -> None:
    for parse in (parse_template, parse_counter):
        if parse is parse_counter and "%" not in text:
            continue
        with pytest.raises(ApiError, match="too large") as caught:
            parse(text)
        assert caught.value.status == 400
        assert len(caught.value.message) < 1000
