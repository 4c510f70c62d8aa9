"""What the attributes of a data set have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

__all__ = ["ConfigAttribute"]


class ConfigAttribute(ABC):
    """One part of every sample of a data set."""

    @abstractmethod
    def get_data_for_entry(self, filename: str) -> tuple[str, object]:
        """The key that this part has in a sample, and its value for one entry; None or nothing in it if the entry has none.

        `filename` is the name of the entry's file in the primary attribute's folder, without its type.
        """
