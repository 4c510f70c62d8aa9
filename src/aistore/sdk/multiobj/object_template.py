"""Objects by template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.sdk.multiobj.object_collection import ObjectCollection

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ObjectTemplate"]


class ObjectTemplate(ObjectCollection):
    """The objects that a template names, `shard-{000..999}.tar`.

    Jobs act on what the server makes of the template (protocol/10 22.1); iterating expands it as bash does, which differs for templates
    without braces (a prefix to the server, one name here), and in padding if the numbers are not written with the same width.
    """

    def __init__(self, template: str) -> None:
        self._template = template

    def get_value(self) -> dict[str, object]:
        """How requests describe the selection."""
        return {"template": self._template}

    def __iter__(self) -> Iterator[str]:
        from braceexpand import braceexpand

        names: Iterator[str] = braceexpand(self._template)
        return names

    def __repr__(self) -> str:
        return f"ObjectTemplate({self._template!r})"
