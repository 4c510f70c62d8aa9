"""Rules of the wire protocol are cited in one form, so that a search finds all of them (docs/architecture.md): `protocol/20 4.3`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__)

_SECTION = r"\d+(?:\.\d+)*"
_SECTIONS = rf"{_SECTION}(?:-{_SECTION})?"
_CITATION = re.compile(rf"""protocol/(?:00|10|20|30|40|50|60)(?: {_SECTIONS}(?:, {_SECTIONS})*)?(?=[\s),.:;"]|$)""")
_MENTION = re.compile(r"protocol/\S*|\bchapters? \d+", re.IGNORECASE)


def misspelled(text: str) -> list[str]:
    """Mentions of a chapter that are no citation."""
    return [found[0] for found in _MENTION.finditer(text) if not _CITATION.match(text, found.start())]


@pytest.mark.parametrize("folder", ["src", "tests", "bench", "examples", "tools"])
def test_citations_have_one_form(folder: str) -> None:
    paths = [path for path in (ROOT / folder).rglob("*.py") if "conformance" not in path.parts and path != HERE]
    assert {f"{path.relative_to(ROOT)}": bad for path in paths if (bad := misspelled(path.read_text()))} == {}


@pytest.mark.parametrize(
    "text", ["(`protocol/20` 4.3)", "protocol/20-objects 4.3", "protocol/20§4.3", "chapter 20, 4.3", "protocol/70 1"]
)
def test_other_forms_are_noticed(text: str) -> None:
    assert misspelled(text)


@pytest.mark.parametrize(
    "text", ["(protocol/20 4.3)", "protocol/10 17-19, 22).", "(protocol/30)", "protocol/20 4.3: so"]
)
def test_the_form_is_accepted(text: str) -> None:
    assert misspelled(text) == []
