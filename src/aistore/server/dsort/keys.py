"""What records are ordered by (protocol/40 B3)."""

from __future__ import annotations

import hashlib
import re
import struct
from typing import TYPE_CHECKING, Final

from aistore.wire import dsort
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KEY_MAX", "content_key", "extension_of_member", "order_key", "record_name"]

KEY_MAX: Final = 64 << 10
"""Bytes of a content that is a key."""

_INT: Final = re.compile(rb"[+-]?[0-9]+")
# No two parts of it can share digits: a key of many thousands that is no number after all is given up at once.
_FLOAT: Final = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?inf(?:inity)?", re.IGNORECASE)
_INT_MIN: Final = -(1 << 63)
_DIGITS_MAX: Final = 100
_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1


def _dot(name: bytes) -> int:
    """Where the extension of a member begins: at the first dot of its base name."""
    dot = name.find(b".", name.rfind(b"/") + 1)
    return dot if dot >= 0 else len(name)


def record_name(name: bytes) -> bytes:
    """What the members of one record share."""
    return name[: _dot(name)]


def extension_of_member(name: bytes) -> bytes:
    """What tells the members of one record apart."""
    return name[_dot(name) :]


def order_key(kind: str, seed: int) -> Callable[[bytes, int], bytes]:
    """The key of a record by the name of its first member and its number, for all kinds but `content`."""
    if kind == dsort.SHUFFLE:
        # A hash is the same on every machine, in every version; the numbers are those of the input's order.
        salt = seed.to_bytes(8, "big")
        return lambda _, number: hashlib.blake2b(number.to_bytes(16, "big"), digest_size=16, key=salt).digest()
    if kind == dsort.MD5:
        return lambda name, _: hashlib.md5(name, usedforsecurity=False).digest()
    if kind == dsort.NONE:
        return lambda _name, _number: b""
    return lambda name, _: name


def content_key(content: bytes, key_type: str) -> bytes:
    """The key that a content is: keys compare as bytes as the values do. Raises `ApiError` 400."""
    if key_type == dsort.INT:
        if not _INT.fullmatch(content) or len(content) > _DIGITS_MAX:
            raise _invalid(content, "an integer")
        number = int(content)
        if not _INT_MIN <= number < -_INT_MIN:
            raise _invalid(content, "an integer of 64 bits")
        return (number - _INT_MIN).to_bytes(8, "big")
    if key_type == dsort.FLOAT:
        if not _FLOAT.fullmatch(content):
            raise _invalid(content, "a number")
        value = float(content) + 0.0  # there are two zeros
        if value in (float("inf"), float("-inf")) and b"i" not in content.lower():
            raise _invalid(content, "a number of 64 bits")
        (bits,) = struct.unpack(">Q", struct.pack(">d", value))
        return int(bits ^ (_ALL if bits & _SIGN else _SIGN)).to_bytes(8, "big")
    return content


def _invalid(content: bytes, what: str) -> ApiError:
    return ApiError(400, f"the key {content[:64]!r} is not {what}")
