"""Objects into local files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import BufferedIOBase

__all__ = ["download"]

_PIECE = 1024 * 1024


def download(source: BufferedIOBase, path: str | os.PathLike[str]) -> int:
    """Copy `source` to a file beside `path` and move it there when it is complete; returns its number of bytes."""
    target = Path(path)
    partial = target.with_name(f".{target.name[:64]}.{os.urandom(6).hex()}.part")
    total = 0
    try:
        with source, partial.open("xb", buffering=0) as file:
            buffer = memoryview(bytearray(_PIECE))
            while count := source.readinto(buffer):
                piece = buffer[:count]
                while piece:
                    piece = piece[file.write(piece) :]
                total += count
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return total
