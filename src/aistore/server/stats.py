"""Counters of a node (protocol/00 13.2)."""

from __future__ import annotations

__all__ = ["Stats"]


class Stats:
    """What a node has done since it started."""

    def __init__(self) -> None:
        self.counters: dict[str, int] = dict.fromkeys(
            ("get.n", "get.size", "put.n", "put.size", "head.n", "del.n", "append.n"), 0
        )

    def read(self, size: int) -> None:
        """An object, or a part of it, was read."""
        counters = self.counters
        counters["get.n"] += 1
        counters["get.size"] += size

    def written(self, size: int) -> None:
        """An object was written."""
        self.counters["put.n"] += 1
        self.counters["put.size"] += size

    def headed(self) -> None:
        """An object's attributes were asked for."""
        self.counters["head.n"] += 1

    def deleted(self) -> None:
        """An object was deleted."""
        self.counters["del.n"] += 1

    def appended(self) -> None:
        """Bytes were appended."""
        self.counters["append.n"] += 1

    def missed(self, operation: str) -> None:
        """An object that was asked for does not exist."""
        name = f"err.{operation}.n"
        self.counters[name] = self.counters.get(name, 0) + 1

    def refused(self, method: str, status: int) -> None:
        """A request was refused."""
        name = f"err.{method.lower()}.{status}.n"
        self.counters[name] = self.counters.get(name, 0) + 1
