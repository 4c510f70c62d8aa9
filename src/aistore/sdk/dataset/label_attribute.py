"""Parts of samples that are derived from their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.sdk.dataset.config_attribute import ConfigAttribute

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LabelAttribute"]


class LabelAttribute(ConfigAttribute):
    """What `label_identifier` makes of every entry's name, with the key `name` in the sample."""

    def __init__(self, name: str, label_identifier: Callable[[str], object]) -> None:
        self.name = name
        self.label_identifier = label_identifier

    def get_data_for_entry(self, filename: str) -> tuple[str, object]:
        """Key and label."""
        return self.name, self.label_identifier(filename)
