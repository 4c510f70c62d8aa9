"""The table of metrics in docs/howto/monitoring.md, made of what the server tells.

python tests/monitoring_page.py      renews it
"""

from __future__ import annotations

from pathlib import Path

from aistore.server.metrics import FAMILIES
from aistore.server.stats import Stats

PAGE = Path(__file__).resolve().parents[1] / "docs" / "howto" / "monitoring.md"
_BEGIN = "<!-- metrics: python tests/monitoring_page.py renews this -->\n"
_END = "<!-- end of metrics -->\n"


def page_with_metrics() -> str:
    """The whole page, with the table that it should have."""
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{_table()}{_END}{after}"


def _table() -> str:
    lines = ["| metric | type | labels | meaning |\n|---|---|---|---|\n"]
    for name, family in FAMILIES.items():
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{name}` | {family.kind} | {labels} | {family.help} |\n")
    for name, kind, meaning, _ in Stats().exported():
        lines.append(f"| `ais_target_{name}` | {kind} | | {meaning} |\n")
    return "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page_with_metrics())
