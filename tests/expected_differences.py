"""The list of expected differences (`expected_differences.toml`), and the table of `docs/compatibility.md` made from it.

python tests/expected_differences.py      writes the table anew
"""

from __future__ import annotations

import fnmatch
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIST = Path(__file__).with_suffix(".toml")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "compatibility.md"
BEGIN = "<!-- made by tests/expected_differences.py from tests/expected_differences.toml -->\n"
END = "<!-- end of what is made -->\n"


@dataclass(frozen=True)
class Difference:
    """Scenarios that differ, on purpose or until later. `on` names runs, such as `http/one`, `official-2.0.0/three`."""

    scenarios: str
    on: str
    reason: str
    slow: bool

    def covers(self, run: str, label: str) -> bool:
        return _matches(run, self.on) and _matches(label, self.scenarios)


def _matches(name: str, globs: str) -> bool:
    return any(fnmatch.fnmatchcase(name, one) for one in globs.split())


@cache
def differences() -> tuple[Difference, ...]:
    """Every entry of the list: those that stay, and those of parts that are not built yet."""
    found = tomllib.loads(LIST.read_text())
    return tuple(
        Difference(entry["scenarios"], entry["on"], entry["reason"], entry.get("slow", False))
        for entry in [*found.get("difference", []), *found.get("not_yet", [])]
    )


@cache
def expected(run: str, label: str) -> Difference | None:
    """The entry that says why this scenario is expected to differ in this run."""
    return next((one for one in differences() if one.covers(run, label)), None)


def table() -> str:
    """The differences that stay, as Markdown."""
    rows = [
        f"| {entry['reason']} | {', '.join(f'`{one}`' for one in entry['scenarios'].split())} |"
        for entry in tomllib.loads(LIST.read_text()).get("difference", [])
    ]
    return "\n".join(["| what differs, and why | scenarios |", "|---|---|", *rows]) + "\n"


def page_with_table() -> str:
    """The page as it should be."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page_with_table())
