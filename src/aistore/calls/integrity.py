"""Whether content is what its checksum says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aistore.wire import headers

if TYPE_CHECKING:
    from aistore.calls.steps import Answer

__all__ = [
    "LONG",
    "BodyCheck",
    "Hasher",
    "bad_checksum",
    "check_body",
    "check_stored",
    "check_stored_digest",
    "running_hasher",
    "stated_checksum",
]

_TYPE = headers.CHECKSUM_TYPE.lower()
_VALUE = headers.CHECKSUM_VALUE.lower()
_OK = 200
_XXH64 = ("xxhash2", "xxhash")

LONG = 1 << 20
"""Bytes of content that are not hashed in passing: other threads and tasks go on meanwhile."""

xxh64_hexdigest = None


class Hasher(Protocol):
    """A checksum that grows with the content."""

    def update(self, data: bytes | bytearray | memoryview, /) -> object:
        """Take the next bytes."""
        ...

    def hexdigest(self) -> str:
        """The checksum of all bytes so far."""
        ...


def _digest(kind: str, content: bytes | bytearray | memoryview) -> str | None:
    """Checksum of some bytes; None for a type that is unknown here."""
    global xxh64_hexdigest  # noqa: PLW0603  loaded by the first read, not by the import
    if len(content) > LONG:
        # A hasher lets other threads run, which the function for all at once does not.
        hasher = running_hasher(kind)
        if hasher is None:
            return None
        hasher.update(content)
        return hasher.hexdigest()
    if kind in _XXH64:  # nearly always; the wire module for the others costs more to import than a read
        if xxh64_hexdigest is None:
            from xxhash import xxh64_hexdigest as loaded

            xxh64_hexdigest = loaded
        return xxh64_hexdigest(content)
    from aistore.wire import checksum

    return checksum.digest(kind, content) if kind in checksum.DIGITS else None


def stated_checksum(answer: Answer) -> tuple[str, str]:
    """Type and value of the checksum of the whole object, as an answer states it; empty if it does not."""
    fields = answer.head.headers
    return fields.get(_TYPE, ""), fields.get(_VALUE, "")


def check_body(answer: Answer, content: bytes | bytearray | memoryview) -> None:
    """Raise `ErrBadChecksum` unless a whole object arrived as it was stored.

    Parts of objects (206), members of archives and results of transformations come without a checksum of their own.
    """
    fields = answer.head.headers
    kind = fields.get(_TYPE)
    if kind is None or answer.status != _OK:
        return
    computed = _digest(kind, content)
    if computed is not None and computed != fields.get(_VALUE):
        raise bad_checksum(answer, computed, "what was read")


class BodyCheck:
    """The same for a body that passes by in pieces."""

    __slots__ = ("_answer", "_hasher")

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._hasher = running_hasher(stated_checksum(answer)[0]) if answer.status == _OK else None

    def update(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next piece."""
        if self._hasher is not None:
            self._hasher.update(piece)

    def finish(self) -> None:
        """Raise `ErrBadChecksum` unless all was as it was stored."""
        if self._hasher is not None and self._hasher.hexdigest() != stated_checksum(self._answer)[1]:
            raise bad_checksum(self._answer, self._hasher.hexdigest(), "what was read")


def check_stored(answer: Answer, content: bytes | bytearray | memoryview) -> None:
    """Raise `ErrBadChecksum` if the answer to a PUT names another checksum than that of the content that was sent."""
    fields = answer.head.headers
    kind = fields.get(_TYPE)
    if kind is None:
        return
    computed = _digest(kind, content)
    if computed is not None and computed != fields.get(_VALUE):
        raise bad_checksum(answer, computed, "what was sent")


def check_stored_digest(answer: Answer, xxh64: str) -> None:
    """The same for content of which only the XXH64 is known; other types of checksums say nothing about it."""
    kind, value = stated_checksum(answer)
    if kind in _XXH64 and value != xxh64:
        raise bad_checksum(answer, xxh64, "what was sent")


def running_hasher(kind: str) -> Hasher | None:
    """A fresh hasher; None for a type that is unknown here, or `none`."""
    if kind in _XXH64:
        from xxhash import xxh64

        fast: Hasher = xxh64()
        return fast
    from aistore.wire import checksum

    return checksum.new_hasher(kind) if kind in checksum.DIGITS else None


def bad_checksum(answer: Answer, computed: str, what: str) -> Exception:
    """The error for content whose checksum is `computed`."""
    from aistore.calls.judge import prepared
    from aistore.sdk.errors import ErrBadChecksum

    kind, value = stated_checksum(answer)
    text = f"the cluster states checksum {kind} {value}, {what} has {computed}: it was damaged on the way or on disk, try again"
    return ErrBadChecksum(answer.status, text, answer.url, prepared(answer))
