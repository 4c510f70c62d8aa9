"""Object rows kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.server.store.rows import ObjectRow

__all__ = ["Key", "RowCache"]

Key = tuple[int, str]
"""Bucket number and object name."""

_MAX_BYTES: Final = 48 << 20


class RowCache:
    """Rows by bucket number and name, with their content where that is small; the oldest go first when memory runs out.

    Whoever changes the catalog keeps it true (after the commit); nothing in it outlives a change by another process.
    """

    __slots__ = ("_rows", "_used", "get")

    def __init__(self) -> None:
        # A plain dict takes longer and longer to find its first key when keys are taken from its front.
        self._rows: OrderedDict[Key, ObjectRow] = OrderedDict()
        self._used = 0
        self.get: Callable[[Key], ObjectRow | None] = self._rows.get

    def keep(self, key: Key, row: ObjectRow) -> None:
        """Put in a row, in place of an older one."""
        old = self._rows.pop(key, None)
        if old is not None:
            self._used -= old.weight
        self._rows[key] = row
        self._used += row.weight
        while self._used > _MAX_BYTES:
            self._used -= self._rows.popitem(last=False)[1].weight

    def forget(self, key: Key) -> None:
        """Take out a row, if it is there."""
        row = self._rows.pop(key, None)
        if row is not None:
            self._used -= row.weight

    def clear(self) -> None:
        """Take out all."""
        self._rows.clear()
        self._used = 0
