"""The same transformers, asked the same, under this framework and under the official one (`official.json`; recorded by `exchange.py`)."""

from __future__ import annotations

import fnmatch
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench import environments
from etl.exchange import KINDS, record

OFFICIAL: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("official.json").read_text())


class Difference(NamedTuple):
    """Kinds of servers and cases (patterns, apart by blanks) where parts of the answers differ, and why."""

    kinds: str
    cases: str
    parts: tuple[str, ...]
    why: str


ANSWER = ("status", "headers", "body", "broken")
EVERY = "*"
HTTP = "*HTTPMultiThreadedServer"
FLASK = "*FlaskServer"
FASTAPI = "*FastAPIServer"
STREAM = "Stream*"

ERRORS = "*missing* *raises* *reset *refused *hop?* delete other?method"

DIFFERENCES = (
    Difference(EVERY, "*direct?put*re*", ("body", "headers"), "the text is that of another HTTP library"),
    Difference(EVERY, "*reset", ("asked",), "no second layer of retries in the HTTP library; one-shot bodies are not sent again, empty"),
    Difference(EVERY, "hop?nonsense", ("body", "headers"), "the text is that of another HTTP library"),
    Difference(HTTP, "*", ("headers",), "errors are plain text; streams come in chunks, on a connection that stays; no length with 204"),
    Difference(HTTP, ERRORS, ("body",), "errors are plain text that tells the reason"),
    Difference(HTTP, "push?chunked", ("status", "body"), "bodies in chunks are read, so that it can be a stage behind one that streams"),
    Difference(HTTP, "push?raises?requests*", ("status",), "as in the other frameworks"),
    Difference(FLASK, "head", ("status", "headers"), "not a way to ask for a transformation"),
    Difference(FLASK, "*missing?file *not?found hop?of?error", ("body", "headers"), "no blank at the end of the text"),
    Difference(FLASK, "push?raises?requests?connection", ("body", "headers"), "says that it was the network"),
    Difference(STREAM, "*raises*", ANSWER, "a stream that fails at once is answered as a failure, and not with 200 or a page about an internal error"),
    Difference(STREAM, "hop?of?error", (*ANSWER, "asked"), "a stream that fails at once sends nothing to the hop"),
    Difference(FASTAPI, "message?next?stage?500 message?direct?put?refused", ("answers",), "a failure is told as one, and not as `0`"),
    Difference(FASTAPI, "message?missing?file", ("answers", "broken"), "a failure is told as one, and the connection stays"),
    Difference(FASTAPI, "message?raises?not?found", ("answers",), "tells which object"),
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_the_official_framework(kind: str) -> None:
    ours = json.loads(json.dumps(record(sys.executable, (kind,))))[kind]
    unexplained = []
    for case, official in OFFICIAL[kind].items():
        for part in sorted({*official, *ours[case]}):
            if official.get(part) != ours[case].get(part) and not explained(kind, case, part):
                unexplained.append((case, part, official.get(part), ours[case].get(part)))
    assert unexplained == []
    assert ours.keys() == OFFICIAL[kind].keys()


def explained(kind: str, case: str, part: str) -> bool:
    return any(
        fnmatch.fnmatch(kind, one.kinds)
        and any(fnmatch.fnmatch(case, pattern) for pattern in one.cases.split())
        and part in one.parts
        for one in DIFFERENCES
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_record_is_what_the_official_framework_answers(kind: str) -> None:
    """Where it is installed: the transformers of the tests run under it unchanged, and the record is not out of date."""
    if (why := environments.why_missing(environments.FRAMEWORK)) is not None:
        pytest.skip(why)
    found = json.loads(json.dumps(record(str(environments.official_python(environments.FRAMEWORK)), (kind,))))[kind]
    assert {case: found[case].get("status") for case in found} == {
        case: OFFICIAL[kind][case].get("status") for case in OFFICIAL[kind]
    }
