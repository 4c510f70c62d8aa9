"""What selections of objects have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ObjectCollection"]


class ObjectCollection(ABC):
    """Names of objects, listed or described."""

    @abstractmethod
    def get_value(self) -> dict[str, object]:
        """How requests describe the selection."""

    @abstractmethod
    def __iter__(self) -> Iterator[str]:
        """The names."""
