"""The page that shows which rights each call needs, made of the table that the server checks by.

python tests/access_page.py      writes docs/access.md
"""

from __future__ import annotations

from pathlib import Path

from aistore.server.authn.permissions import BUCKET, OPEN, TABLE, TOKEN, Need
from aistore.wire import access

PAGE = Path(__file__).resolve().parents[1] / "docs" / "access.md"

_HEAD = """# Which call needs which rights

With [`--authn`](howto/authn.md) the server checks each call before anything is touched. This page is made of the table that it checks by
(`python tests/access_page.py`). A call that is not in the table is for administrators, who may do all.

Rights on a bucket are those of the token's entry for that bucket; without one, of its entry for the cluster. Rights on the cluster are only
those of the entry for the cluster. The property `access` of a bucket bounds what anybody may do there, administrators too: they can always change it back.
Buckets whose names begin with a dot need ADMIN besides.

`RO` is {read}. `RW` is {write}.

| call | told apart by | rights | on |
|---|---|---|---|
"""

_OPEN = """
These need no token:

| path | gives |
|---|---|
"""


def page_with_table() -> str:
    """The whole page."""
    head = _HEAD.format(read=_names(access.READ), write=_names(access.WRITE))
    lines = []
    for row, needs in TABLE.items():
        for need in needs:
            when = f"`{row.when}`" if row.when else ""
            lines.append(f"| `{row.method} {row.path}` | {when} | {_rights(need)} | {_on(need)} |")
    found = "\n".join(lines)
    return head + found + "\n" + _OPEN + "\n".join(f"| `{path}` | {what} |" for path, what in OPEN.items()) + "\n"


def _rights(need: Need) -> str:
    return {access.READ: "RO", access.WRITE: "RW", 0: ""}.get(need.bits) or _names(need.bits)


def _on(need: Need) -> str:
    if need.of == TOKEN:
        return TOKEN
    if need.of == BUCKET and need.bits & access.OF_CLUSTER:
        return "the cluster, and not forbidden by the bucket"
    return need.of


def _names(mask: int) -> str:
    return ", ".join(name for bit, name in enumerate(access.NAMES) if mask >> bit & 1)


if __name__ == "__main__":
    PAGE.write_text(page_with_table())
