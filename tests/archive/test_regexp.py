"""Regular expressions: RE2's answers, in bounded time."""

from __future__ import annotations

import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistore.server.archive import names as archive_names
from aistore.server.archive.names import matcher
from aistore.server.archive.regexp import Regexp
from aistore.wire.errors import ApiError

_ATOMS = [
    "a",
    "b",
    "c",
    ".",
    "[ab]",
    "[^a]",
    "[a-c1]",
    r"\d",
    r"\w",
    r"\W",
    r"\s",
    r"\.",
    "_",
    "1",
    "^",
    "$",
    r"\b",
    r"\B",
    "(?i:A)",
]
_REPEATS = ["", "", "", "*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "*?", "+?"]


def _joined(parts: list[tuple[str, str]]) -> str:
    return "".join(atom + (repeat if atom not in ("^", "$", r"\b", r"\B") else "") for atom, repeat in parts)


_SIMPLE = st.lists(st.tuples(st.sampled_from(_ATOMS), st.sampled_from(_REPEATS)), max_size=4).map(_joined)
_EXPRESSIONS = st.recursive(
    _SIMPLE,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("|".join),
        st.tuples(inner, st.sampled_from(_REPEATS)).map(lambda pair: f"({pair[0]}){pair[1]}"),
        st.tuples(inner, inner).map("".join),
    ),
    max_leaves=4,
)


@given(_EXPRESSIONS, st.lists(st.text("abcA1_./ \n", min_size=1, max_size=8), min_size=1, max_size=5))
def test_answers_are_those_of_the_standard_library_where_both_agree_on_the_syntax(
    expression: str, texts: list[str]
) -> None:
    ours = Regexp(expression)
    theirs = re.compile(expression.replace("$", r"\Z"), re.ASCII)
    for text in texts:
        assert ours.search(text) is bool(theirs.search(text)), (expression, text)


@pytest.mark.parametrize(
    ("expression", "yes", "no"),
    [
        (r"\A[[:alpha:]]+\z", "abc", "ab1"),
        (r"^\pL{2}$", "\u00e9\u4f60", "a1"),
        (r"[^\p{Lu}]", "a", "A"),
        (r"\Qa.b*\E$", "xa.b*", "axb*"),
        (r"(?i)JPG$", "x.jpg", "x.png"),
        (r"(?P<kind>img|txt)/", "img/1", "bin/1"),
        (r"(?<kind>img|txt)/", "txt/1", "bin/1"),
        (r"a(?s).b", "a\nb", "ab"),
        (r"a.b", "axb", "a\nb"),
        (r"(?m)^b$", "a\nb\nc", "a b c"),
        (r"\x41\x{42}\103", "ABC", "ABD"),
        ("a{,2}", "a{,2}", "aa"),
        ("[]a]", "]", "b"),
        (r"[\d-]+x", "1-2x", "x"),
        ("", "anything", None),
    ],
)
def test_syntax_that_is_re2s_own(expression: str, yes: str, no: str | None) -> None:
    assert Regexp(expression).search(yes)
    if no is not None:
        assert not Regexp(expression).search(no)


@pytest.mark.parametrize(
    "expression",
    ["(", ")", "a**", "[a", "a{1001}", "\\", "(?=a)", "(?<!a)", "[b-a]", "*a", r"\8", "(?P<1>a)", "x{2,1}", r"(a)\1", r"\p{Greek}",
     "(" * 200, "(((a{1000}){1000}){1000})", "(?z)", "[[:nonsense:]]", r"\x{110000}", r"\k"],
)  # fmt: skip
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(ApiError, match="error parsing regexp: ") as caught:
        Regexp(expression)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("(a+)+$", False),
        ("(a|a)*b", False),
        ("(.*a){25}$", False),
        ("(a?){50}a{50}", False),
        ("((a*)*)*b", False),
        ("(((){1000}){1000}){1000}", True),
    ],
)
def test_no_expression_takes_exponential_time(expression: str, found: bool) -> None:
    # A backtracking engine would be at it for longer than the test suite lets a test run.
    assert Regexp(expression).search("a" * 45 + "!") is found


@pytest.mark.parametrize(
    ("mode", "expression", "names"),
    [
        ("prefix", "d/", ["d/a.b.c", "d/x"]),
        ("", "d/", ["d/a.b.c", "d/x"]),
        ("suffix", ".c", ["d/a.b.c"]),
        ("substr", "a", ["d/a.b.c", "a"]),
        ("wdskey", "d/a.b", ["d/a.b.c"]),
        ("wdskey", "d/x", ["d/x"]),
        ("regexp", "^.$", ["a"]),
        ("regexp", "*", ["d/a.b.c", "d/x", "a"]),
        ("suffix", "", ["d/a.b.c", "d/x", "a"]),
    ],
)
def test_modes(mode: str, expression: str, names: list[str]) -> None:
    assert [name for name in ("d/a.b.c", "d/x", "a") if matcher(mode, expression)(name)] == names


@pytest.mark.parametrize("expression", ["([a-z0-9_]?){1000}([a-z0-9_]?){400}Z", "[a-bc-de-fg-hi-jk-lm-n]{1000}Z"])
def test_an_expression_does_not_work_for_hours(expression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_names, "_WORK_MAX", 100_000)
    matches = matcher("regexp", expression)
    with pytest.raises(ApiError, match="takes too much work") as caught:
        for number in range(100):
            matches(f"train_{number:08d}" + "abcdefghij" * 20)
    assert caught.value.status == 400
    usual = matcher("regexp", r"^(train|test)_\d+[0-8]\.(jpg|png)$")
    assert sum(usual(f"train_{number:08d}.jpg") for number in range(10_000)) == 9_000


def test_an_expression_has_a_bound() -> None:
    with pytest.raises(ApiError, match="longer than"):
        matcher("prefix", "x" * 5000)


def test_what_is_remembered_is_bounded() -> None:
    found = Regexp("[^!]{0,900}!")
    text = "".join(map(chr, range(0x100, 0x100 + 900)))  # of each character, another set of states
    tracemalloc.start()
    try:
        assert not found.search(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
