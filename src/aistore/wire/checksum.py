"""Checksums of objects (protocol/20 3.2). A value is lower-case hex."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from aistore.wire.crc32c import Buffer

# Number of hex digits of each type that is computed.
DIGITS = {"xxhash": 16, "xxhash2": 16, "md5": 32, "crc32c": 8, "sha256": 64, "sha512": 128}


class Hasher(Protocol):
    """What all hashers do."""

    def update(self, data: Buffer, /) -> object: ...

    def hexdigest(self) -> str: ...


def new_hasher(kind: str) -> Hasher | None:
    """A fresh hasher of this type; None for `none`. Raises ValueError for an unknown type."""
    if kind in ("xxhash2", "xxhash"):
        import xxhash

        hasher: Hasher = xxhash.xxh64()
        return hasher
    if kind == "none":
        return None
    if kind == "crc32c":
        from aistore.wire.crc32c import Crc32c

        return Crc32c()
    if kind in DIGITS:
        return hashlib.new(kind, usedforsecurity=False)
    raise ValueError(f'checksum: unsupported type, "{kind}" is none of {", ".join(DIGITS)}, none')


def digest(kind: str, data: Buffer) -> str:
    """Value of a checksum of this type, empty for `none`."""
    if kind in ("xxhash2", "xxhash"):
        import xxhash

        value: str = xxhash.xxh64_hexdigest(data)
        return value
    hasher = new_hasher(kind)
    if hasher is None:
        return ""
    hasher.update(data)
    return hasher.hexdigest()


def check_value(kind: str, value: str) -> None:
    """Raise ApiError 400 unless a client's checksum is well-formed (protocol/20 7.2)."""
    if kind not in DIGITS:
        raise ApiError(400, f'checksum: unsupported type, have ("{kind}", "{value}")')
    if len(value) != DIGITS[kind] or not set(value) <= set("0123456789abcdefABCDEF"):
        raise ApiError(400, f'checksum: {kind} must be {DIGITS[kind]} hex chars, have ("{kind}", "{value}")')
