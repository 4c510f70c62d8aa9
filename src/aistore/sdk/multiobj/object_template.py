"""Objects by template."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from aistore.sdk.multiobj.object_collection import ObjectCollection
from aistore.wire.template import MAX_NAMES, IndexRange, Template

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ObjectTemplate"]

_RANGE: Final = re.compile(r"\{(\d+)\.\.(\d+)(?:\.\.(\d+))?\}", re.ASCII)
_NOT_PLAIN: Final = re.compile(r"[{}\\]")


class ObjectTemplate(ObjectCollection):
    """The objects that a template names, `shard-{000..999}.tar`.

    Jobs act on what the server makes of the template (protocol/10 22.1); iterating expands it as bash does, which differs for templates
    without braces (a prefix to the server, one name here), and in padding if the numbers are not written with the same width. Iterating
    raises ValueError for a range of more numbers than a cluster takes, unless the template has nothing but ranges that count up.
    """

    def __init__(self, template: str) -> None:
        self._template = template

    def get_value(self) -> dict[str, object]:
        """How requests describe the selection."""
        return {"template": self._template}

    def __iter__(self) -> Iterator[str]:
        if (ranges := _only_ranges(self._template)) is not None:
            return ranges.names()
        from braceexpand import braceexpand

        for first, last, _ in _RANGE.findall(self._template):
            if abs(int(last) - int(first)) >= MAX_NAMES:  # which would all be held in memory
                raise ValueError(f"{{{first}..{last}}} in {self._template!r} is more than {MAX_NAMES:,} names")
        names: Iterator[str] = braceexpand(self._template)
        return names

    def __repr__(self) -> str:
        return f"ObjectTemplate({self._template!r})"


def _only_ranges(text: str) -> Template | None:
    """A template of nothing but ranges of numbers that count up, which is gone through one name at a time."""
    literals = tuple(_RANGE.split(text)[::4])
    if len(literals) == 1 or any(map(_NOT_PLAIN.search, literals)):
        return None
    ranges = []
    for first, last, step in _RANGE.findall(text):
        if int(first) > int(last):
            return None
        padded = any(number != "0" and number.startswith("0") for number in (first, last))  # as bash pads
        ranges.append(
            IndexRange(int(first), int(last), int(step or 1) or 1, max(len(first), len(last)) if padded else 0)
        )
    return Template(literals, tuple(ranges))
