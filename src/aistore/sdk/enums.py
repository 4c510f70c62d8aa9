"""Small enumerations that calls take."""

from __future__ import annotations

from enum import Enum, IntEnum

__all__ = ["Colocation", "FLTPresence", "LogSeverity", "NodeFilter"]


class FLTPresence(IntEnum):
    """Which objects and buckets a call means, with respect to the cluster (protocol/00 5.1)."""

    FLT_EXISTS = 0
    """Inside or outside of the cluster."""
    FLT_EXISTS_NO_PROPS = 1
    """The same; properties are not wanted."""
    FLT_PRESENT = 2
    """In the cluster, where it belongs."""
    FLT_PRESENT_NO_PROPS = 3
    """The same; properties are not wanted."""
    FLT_PRESENT_CLUSTER = 4
    """Anywhere in the cluster: also as a copy, a slice, or misplaced."""
    FLT_EXISTS_OUTSIDE = 5
    """Not in the cluster, but in the remote backend."""


class Colocation(IntEnum):
    """Hint of a batch about where its objects lie."""

    NONE = 0
    TARGET_AWARE = 1
    TARGET_AND_SHARD_AWARE = 2


class LogSeverity(str, Enum):
    """Which log of a node is wanted; warnings and errors share one."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class NodeFilter(str, Enum):
    """Which nodes of the cluster are meant."""

    TARGET = "target"
    PROXY = "proxy"
    ALL = "all"
