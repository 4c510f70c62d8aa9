"""Tables and a plot of what was measured."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


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


def as_markdown(rows: list[Row], about: dict[str, Any]) -> str:
    """The table as it stands in README and docs."""
    lines = ["| what | ours | official 2.0 | ratio | gate | |", "|---|---|---|---|---|---|"]
    for row in rows:
        ratio = f"{row.ratio:.1f}x" if row.ratio else ""
        what = f"{row.what} ({row.note})" if row.note else row.what
        lines.append(
            f"| {what} | {row.ours} | {row.official} | {ratio} | {row.gate} | {'yes' if row.passed else '**no**'} |"
        )
    lines.append("")
    lines.append(f"Measured {about['date']} with `{about['command']}` on {about['machine']}; best of three, in turn.")
    return "\n".join(lines) + "\n"


def write_report(rows: list[Row], about: dict[str, Any], folder: Path) -> int:
    """Print the table, write it with the plot to `folder`; 1 if a gate was missed."""
    folder.mkdir(exist_ok=True)
    text = as_markdown(rows, about)
    print("\n" + text)
    (folder / "latest.md").write_text(text)
    (folder / "latest.json").write_text(json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    _plot([row for row in rows if row.ratio], about, folder / "latest.svg")
    missed = [row.what for row in rows if not row.passed]
    if missed:
        print("missed: " + "; ".join(missed))
    return 1 if missed else 0


def _plot(rows: list[Row], about: dict[str, Any], path: Path) -> None:
    """Bars of the ratios on a logarithmic scale, as SVG written by hand: no plotting library for one picture."""
    from math import log10

    if not rows:
        return
    width, line, left = 860, 26, 330
    scale = (width - left - 90) / max(1.0, log10(max(row.ratio for row in rows)))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{line * len(rows) + 60}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="22" font-weight="bold">times better than the official SDK 2.0 ({about["date"]}, logarithmic)</text>',
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
