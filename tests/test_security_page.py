"""The tests that docs/security.md names exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "security.md"
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_defence_is_shown_by_tests_that_exist() -> None:
    text = PAGE.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| what is done")]
    assert len(rows) > 30
    for row in rows:
        assert _NAMED.search(row), f"shown by nothing: {row}"
    missing = [f"{file}::{name}" for file, name in _NAMED.findall(text) if name not in _tests_of(file)]
    assert missing == []


def test_page_is_in_the_navigation() -> None:
    assert "security.md" in (ROOT / "mkdocs.yml").read_text()


def _tests_of(file: str) -> set[str]:
    path = ROOT / file
    if not path.exists():
        return set()
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
