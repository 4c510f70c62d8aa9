"""Flags of object listings."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ListObjectFlag"]


class ListObjectFlag(Enum):
    """Position of each listing flag in the bitmask of a request (protocol/10 17.1).

    `ALL`, `TRY_HEAD_REMOTE` and `USE_CACHE` are the names that SDK 1.17 had for three of them.
    """

    CACHED = 0
    """Only objects that are in the cluster."""
    MISSING = 1
    """Also objects of which only a copy is left, and misplaced ones."""
    DELETED = 2
    """Also objects marked as deleted."""
    ARCH_DIR = 3
    """Archives are opened and their members listed; implies `CACHED`."""
    NAME_ONLY = 4
    NAME_SIZE = 5
    BCK_PRESENT = 6
    """The bucket must be known to the cluster already."""
    DONT_HEAD_REMOTE = 7
    """The remote bucket may refuse to be looked at (401, 403)."""
    DONT_ADD_REMOTE = 8
    """A remote bucket is listed without being added to the cluster."""
    NOT_CACHED = 9
    """Only objects that are not in the cluster."""
    ONLY_REMOTE_PROPS = 10
    """Only properties that the remote backend provides."""
    NO_RECURSION = 11
    """One level: directories are listed as entries whose name ends in a slash."""
    DIFF = 12
    """Compare with the remote versions."""
    NO_DIRS = 13
    """No entries for directories (remote buckets)."""
    IS_S3 = 14
    """Set by the S3 front end."""
    NBI = 15
    """List from an inventory."""

    ALL = MISSING
    TRY_HEAD_REMOTE = DONT_HEAD_REMOTE
    USE_CACHE = NOT_CACHED

    @staticmethod
    def join_flags(flags: Iterable[ListObjectFlag] | None) -> int:
        """Bitmask of some flags; requests carry it as decimal text."""
        mask = 0
        for flag in flags or ():
            mask |= 1 << flag.value
        return mask
