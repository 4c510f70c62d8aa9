"""Which members of an archive a read selects."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["ArchiveConfig", "ArchiveMode"]


class ArchiveMode(Enum):
    """How `ArchiveConfig.regex` is compared with the name of a member."""

    REGEXP = "regexp"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    SUBSTR = "substr"
    WDSKEY = "wdskey"
    """The name without its last extension equals the expression."""


@dataclass
class ArchiveConfig:
    """Selection of one member (`archpath`), or of all that match (`mode` and `regex`; the answer is a TAR).

    Raises ValueError unless `mode` and `regex` are given together and without `archpath`.
    """

    archpath: str = ""
    regex: str = ""
    mode: ArchiveMode | None = None

    def __post_init__(self) -> None:
        if self.mode and not self.regex:
            raise ValueError("Archive mode requires archive regex")
        if self.regex and not self.mode:
            raise ValueError("Archive regex requires archive mode")
        if self.regex and self.archpath:
            raise ValueError("Cannot use both archive regex and archive path")
