"""Messages of GetBatch: many objects, ranges and members of archives in one answer (protocol/40 A)."""

from __future__ import annotations

from base64 import b64decode
from typing import Final

import msgspec

__all__ = ["MISSING", "BatchEntry", "BatchMetadata", "BatchRecord", "BatchRequest", "decode_opaque", "name_in_archive"]

MISSING: Final = "__404__/"
"""What the names of entries that are not there begin with (protocol/40 A4)."""

_STANDARD: Final = str.maketrans("-_", "+/")


class BatchEntry(msgspec.Struct):
    """One entry of a request; the bucket is that of the path unless it names one (protocol/40 A2)."""

    objname: str = ""
    bucket: str | None = None
    provider: str | None = None
    uname: str | None = None
    archpath: str | None = None
    opaque: str | None = None
    start: int | None = None
    length: int | None = None


class BatchRequest(msgspec.Struct, kw_only=True):
    """A request; unknown keys are ignored, and null means the default."""

    entries: list[BatchEntry] | None = msgspec.field(default=None, name="in")
    mime: str | None = None
    coer: bool | None = None
    onob: bool | None = None
    strm: bool | None = None


class BatchRecord(msgspec.Struct, omit_defaults=True):
    """What became of one entry, in a buffered answer (protocol/40 A6)."""

    objname: str
    archpath: str = ""
    bucket: str = ""
    provider: str = ""
    err_msg: str = ""
    opaque: str = ""
    size: int | msgspec.UnsetType = msgspec.UNSET
    """Always given."""


class BatchMetadata(msgspec.Struct):
    """The first part of a buffered answer."""

    uuid: str = ""
    out: list[BatchRecord] | None = None


def name_in_archive(bucket: str, name: str, path: str, *, only_name: bool) -> str:
    """Name of an entry in the answer's archive (protocol/40 A4)."""
    full = name if only_name else f"{bucket}/{name}"
    if not path:
        return full
    return full + path if path.startswith("/") else f"{full}/{path}"


def decode_opaque(text: str) -> bytes:
    """The bytes that base64 of either alphabet stands for. Raises `ValueError`."""
    return b64decode(text.translate(_STANDARD), validate=True)
