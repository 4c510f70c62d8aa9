"""Archive formats, and which of them an object is (protocol/20 4.4)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from aistore.server.archive.source import Source

__all__ = ["EXTENSIONS", "Format", "by_mime", "by_name", "detect", "extension_of"]


class Format(IntEnum):
    """The formats; the numbers are part of the data folder's format."""

    TAR = 1
    TGZ = 2
    LZ4 = 3
    ZIP = 4


EXTENSIONS: Final = {
    ".tar": Format.TAR,
    ".tgz": Format.TGZ,
    ".tar.gz": Format.TGZ,
    ".tar.lz4": Format.LZ4,
    ".zip": Format.ZIP,
}
"""Extensions of object names; which case they are written in counts."""

# Looked for anywhere in a mime type, in this order.
_MIME_PARTS: Final = (
    ("tar.gz", Format.TGZ),
    ("tar.lz4", Format.LZ4),
    ("tar", Format.TAR),
    ("tgz", Format.TGZ),
    ("zip", Format.ZIP),
)
_MAGIC: Final = (
    (257, b"ustar", Format.TAR),
    (0, b"\x1f\x8b", Format.TGZ),
    (0, b"PK", Format.ZIP),
    (0, b"\x04\x22\x4d\x18", Format.LZ4),
)
_MAGIC_BYTES: Final = 512


def by_mime(mime: str) -> Format:
    """The format that a mime type, or an extension, names. Raises `ApiError` 400."""
    for part, found in _MIME_PARTS:
        if part in mime:
            return found
    raise ApiError(400, f'unknown mime type "{mime[:100]}"', "errUnknownMime")


def extension_of(mime: str) -> str:
    """The extension that a mime type, or an extension, names. Raises `ApiError` 400."""
    by_mime(mime)
    return "." + next(part for part, _ in _MIME_PARTS if part in mime)


def by_name(name: str) -> Format | None:
    """The format that an object's name says, or None."""
    for extension, found in EXTENSIONS.items():
        if name.endswith(extension):
            return found
    return None


def detect(name: str, mime: str, source: Source) -> Format:
    """The format by mime type, name or content: the first that is given counts. Raises `ApiError` 400."""
    found = by_mime(mime) if mime else by_name(name)
    if found is not None:
        return found
    head = source.read_at(0, _MAGIC_BYTES)
    for offset, magic, of_magic in _MAGIC:
        if head.startswith(magic, offset):
            return of_magic
    raise ApiError(400, f'unrecognized or unsupported file format: "{name}"')
