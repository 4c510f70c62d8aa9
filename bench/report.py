"""Tables and a plot of what was measured.

python -m bench.report      renews the docs from bench/measured.json, without measuring
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

_PAGE: Final = """\
# Measured

Made by `make bench`: our SDK and the official one of version 2.0 against the same embedded server, in turn, the best of three. Each
line has a gate that it must pass. Other work on the machine shows in seconds and in rates; CPU time is steadier. Clients of one thread
share a core with the server: waking an idle core of a virtual machine costs about 20 us a call, whoever calls.

![How many times better than the official SDK](measured.svg)
"""


@dataclass
class Row:
    """One line of the table; `ratio` is how many times better than the official SDK, 0 where there is nothing to compare."""

    what: str
    ours: str
    official: str
    ratio: float
    gate: str
    passed: bool
    note: str = ""


PARTS: Final = {
    "sdk": "Small objects",
    "import": "Starting",
    "big": "Large objects",
    "server": "The server alone",
    "list": "Listing",
    "files": "Many files",
    "local": "Copies, renames, deletes, uploads in parts",
    "archive": "Archives",
    "remote": "Remote buckets",
    "batch": "GetBatch",
    "dsort": "dSort",
    "pytorch": "PyTorch",
    "etl": "ETL",
    "authn": "AuthN",
    "tls": "TLS",
    "hold": "A server that holds",
    "doctor": "Checking content",
}
"""The parts of the benchmark in the order in which they are shown, and their titles."""

FORM: Final = "inline, identity, 10 KiB: "
"""What rows about forms of ETL begin with; a table in the docs has them."""

_FORMS_BEGIN: Final = "<!-- forms, made by `python -m bench.report` -->"
_FORMS_END: Final = "<!-- end of forms -->"


class Report:
    """What a run measured, part by part."""

    def __init__(self, date: str, machine: str) -> None:
        self._date = date
        self._machine = machine
        self._parts: dict[str, list[Row]] = {}

    def add(self, part: str, rows: list[Row]) -> None:
        """Note and print the rows of a part."""
        self._parts[part] = rows
        print(f"\n{part}\n" + _table(rows), flush=True)

    def judge(self) -> int:
        """Tell which gates were missed; 1 if there is one."""
        missed = [row.what for rows in self._parts.values() for row in rows if not row.passed]
        if missed:
            print("missed: " + "; ".join(missed))
        return 1 if missed else 0

    def keep(self, record: Path, docs: Path) -> None:
        """Put the parts in place of what was recorded of them before, and renew the page and the picture in the docs."""
        known: dict[str, Any] = json.loads(record.read_text()) if record.exists() else {}
        for part, rows in self._parts.items():
            known[part] = {"date": self._date, "machine": self._machine, "rows": [asdict(row) for row in rows]}
        known = {part: known[part] for part in PARTS if part in known}
        record.write_text(json.dumps(known, indent=1) + "\n")
        show(record, docs)


def show(record: Path, docs: Path) -> None:
    """Renew what the docs tell of the record: the page about it, the picture, and the forms of ETL."""
    known: dict[str, Any] = json.loads(record.read_text())
    shown = {part: [Row(**row) for row in one["rows"]] for part, one in known.items()}
    text = _PAGE
    for part, rows in shown.items():
        text += f"\n## {PARTS[part]}\n\n{_table(rows)}\n{_source(part, known[part])}"
    (docs / "measured.md").write_text(text)
    _plot([row for rows in shown.values() for row in rows if row.ratio], docs / "measured.svg")
    if "etl" in shown:
        page = docs / "howto" / "etl.md"
        before, _, rest = page.read_text().partition(_FORMS_BEGIN)
        _, end, after = rest.partition(_FORMS_END)
        page.write_text(
            f"{before}{_FORMS_BEGIN}\n\n{_forms(shown['etl'])}\n{_source('etl', known['etl'])}\n{end}{after}"
        )


def _source(part: str, about: dict[str, str]) -> str:
    return f'{about["date"]}, {about["machine"]}: `make bench ARGS="--only {part}"`\n'


def _forms(rows: list[Row]) -> str:
    """Objects per second of each form of communication, the quickest first."""
    forms = [(row.what.removeprefix(FORM), row.ours) for row in rows if row.what.startswith(FORM)]
    forms.sort(key=lambda form: -float(form[1].removesuffix("/s").replace(",", "")))
    return "| form | objects/s |\n|---|---|\n" + "".join(
        f"| {what} | {rate.removesuffix('/s')} |\n" for what, rate in forms
    )


def _table(rows: list[Row]) -> str:
    lines = ["| what | ours | official 2.0 | ratio | gate | |", "|---|---|---|---|---|---|"]
    for row in rows:
        ratio = f"{row.ratio:.1f}x" if row.ratio else ""
        what = f"{row.what} ({row.note})" if row.note else row.what
        lines.append(
            f"| {what} | {row.ours} | {row.official} | {ratio} | {row.gate} | {'yes' if row.passed else '**no**'} |"
        )
    return "\n".join(lines) + "\n"


def _plot(rows: list[Row], path: Path) -> None:
    """Bars of the ratios on a logarithmic scale, as SVG written by hand: no plotting library for one picture."""
    from math import log10

    if not rows:
        return
    width, line, left = 860, 26, 330
    scale = (width - left - 90) / max(1.0, log10(max(row.ratio for row in rows)))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{line * len(rows) + 60}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="10" y="22" font-weight="bold">times better than the official SDK 2.0 (logarithmic)</text>',
    ]
    for i, row in enumerate(rows):
        y = 40 + i * line
        length = max(2.0, log10(max(row.ratio, 1.0)) * scale)
        name = row.what.replace("&", "&amp;").replace("<", "&lt;").replace("`", "")
        parts.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{name}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{length:.0f}" height="18" fill="#76b900"/>')
        parts.append(f'<text x="{left + length + 6:.0f}" y="{y + 14}">{row.ratio:.1f}x</text>')
    parts.append("</svg>")
    path.write_text("\n".join(parts) + "\n")


if __name__ == "__main__":
    HERE = Path(__file__).resolve().parent
    show(HERE / "measured.json", HERE.parent / "docs")
