"""Objects by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.sdk.multiobj.object_collection import ObjectCollection

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ObjectNames"]


class ObjectNames(ObjectCollection):
    """The objects of these names."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def get_value(self) -> dict[str, object]:
        """How requests describe the selection."""
        return {"objnames": self._names}

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __repr__(self) -> str:
        return f"ObjectNames({self._names!r})"
