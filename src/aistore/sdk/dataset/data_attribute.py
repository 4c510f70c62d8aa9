"""Parts of samples that are files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from aistore.sdk.dataset.config_attribute import ConfigAttribute

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["DataAttribute"]

_log = logging.getLogger(__name__)


class DataAttribute(ConfigAttribute):
    """The file `path/ENTRY.file_type` of every entry, with the key `name.file_type` in the sample."""

    def __init__(self, path: str | PathLike[str], name: str, file_type: str) -> None:
        self.path = path
        self.name = name
        self.file_type = file_type

    def get_data_for_entry(self, filename: str) -> tuple[str, bytes | None]:
        """Key, and content of the entry's file; None, with a warning in the log, if there is no such file. Other failures raise OSError."""
        try:
            data: bytes | None = Path(self.path, f"{filename}.{self.file_type}").read_bytes()
        except FileNotFoundError as error:
            _log.warning("File not found: %s", error.filename)
            data = None
        return f"{self.name}.{self.file_type}", data

    def entries(self) -> list[str]:
        """Names, without the type, of the files of this type directly in the folder, sorted. Raises OSError for a folder that cannot be read."""
        ending = f".{self.file_type}"
        return sorted(
            path.name[: -len(ending)]
            for path in Path(self.path).iterdir()
            if path.name.endswith(ending) and not path.is_dir()
        )
