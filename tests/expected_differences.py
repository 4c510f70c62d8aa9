"""The list of expected differences (`expected_differences.toml`), and the tables of `docs/compatibility.md` made from it and from the
list of names that are missing (`surface/missing.toml`).

python tests/expected_differences.py      writes the tables anew
"""

from __future__ import annotations

import fnmatch
import re
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
MISSING = LIST.parent / "surface" / "missing.toml"
_MADE = re.compile(
    r"(<!-- made by tests/expected_differences\.py from [^\n]* -->\n).*?(<!-- end of what is made -->\n)", re.DOTALL
)


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


def not_yet() -> str:
    """The parts that are not built yet, as Markdown: names of the SDK, and calls of the server."""
    missing: dict[str, list[str]] = tomllib.loads(MISSING.read_text())["later"]
    rows = [
        f"| {part} | {', '.join(f'`{name}`' for name in sorted(_outermost(names)))} |"
        for part, names in missing.items()
    ]
    entries = tomllib.loads(LIST.read_text()).get("not_yet", [])
    refused = sorted({entry["reason"] for entry in entries if "http/" in entry["on"]})
    calls = f"\nThe server answers 501 to calls of these parts: {', '.join(refused)}.\n" if refused else ""
    if not rows:
        return (
            "No name of the official SDKs, but for those left out on purpose (`tests/surface/missing.toml`).\n" + calls
        )
    return "\n".join(["| part | names of the SDK that are missing |", "|---|---|", *rows]) + "\n" + calls


def _outermost(names: list[str]) -> list[str]:
    """The names without those that lie in another of them."""
    return [name for name in names if not any(name.startswith(f"{other}.") for other in names)]


def page_with_tables() -> str:
    """The page as it should be."""
    tables = iter((table(), not_yet()))
    return _MADE.sub(lambda found: f"{found[1]}\n{next(tables)}\n{found[2]}", PAGE.read_text())


if __name__ == "__main__":
    PAGE.write_text(page_with_tables())
