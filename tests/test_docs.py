"""What the README and the documentation show is run: the Python blocks of a page, one after the other, as one program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from expected_differences import PAGE, page_with_table

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# What the architecture shows are signatures, not programs.
NOT_PROGRAMS = {"architecture.md"}

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def program_of(page: Path) -> str:
    """The blocks of a page, each at its own line, so that a traceback points into the page."""
    text = page.read_text()
    lines = [""] * (text.count("\n") + 1)
    for found in _BLOCK.finditer(text):
        first = text.count("\n", 0, found.start(1))
        for number, line in enumerate(found[1].splitlines()):
            lines[first + number] = line
    return "\n".join(lines)


def programs() -> list[Path]:
    return [page for page in PAGES if page.name not in NOT_PROGRAMS and "```python\n" in page.read_text()]


@pytest.mark.parametrize("page", programs(), ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.usefixtures("local_dir")
def test_page_runs(page: Path, tmp_path: Path) -> None:
    code = f"exec(compile({program_of(page)!r}, {str(page)!r}, 'exec'))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "AIS_ENDPOINT"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, _ in _LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_table_of_differences_is_the_list_that_the_tests_read() -> None:
    assert PAGE.read_text() == page_with_table(), "run: python tests/expected_differences.py"
