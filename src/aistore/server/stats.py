"""Counters of a node that the reference has, too: the `tracker` of `node_status`, and the list of metrics (protocol/00 13.2)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Stats"]


class _Metric(NamedTuple):
    kind: str
    exported: str
    help: str


_METRICS: Final = {
    "get.n": _Metric("counter", "get_count", "objects read"),
    "get.cold.n": _Metric("counter", "get_cold_count", "objects fetched from backends"),
    "put.n": _Metric("counter", "put_count", "objects written"),
    "head.n": _Metric("counter", "head_count", "times that an object's attributes were asked for"),
    "append.n": _Metric("counter", "append_count", "appends"),
    "del.n": _Metric("counter", "del_count", "objects deleted"),
    "lst.n": _Metric("counter", "lst_count", "pages listed"),
    "get.size": _Metric("size", "get_bytes", "bytes read"),
    "get.cold.size": _Metric("size", "get_cold_bytes", "bytes fetched from backends"),
    "put.size": _Metric("size", "put_bytes", "bytes written"),
    "err.get.n": _Metric("counter", "err_get_count", "reads refused"),
    "err.put.n": _Metric("counter", "err_put_count", "writes refused"),
    "err.head.n": _Metric("counter", "err_head_count", "HEAD calls refused"),
    "err.del.n": _Metric("counter", "err_del_count", "deletions refused"),
    "err.http.n": _Metric("counter", "err_http_count", "other requests refused"),
    "up.ns.time": _Metric("special", "uptime_ns", "time since the start, nanoseconds"),
    "state.flags": _Metric("gauge", "state_flags", "state of the node, as bits"),
}
_ERRORS: Final = {"GET": "err.get.n", "PUT": "err.put.n", "HEAD": "err.head.n", "DELETE": "err.del.n"}
# cluster started, node started (protocol/00 13.2)
HEALTHY: Final = 6
CERTIFICATE_EXPIRES_SOON: Final = 1 << 16
CERTIFICATE_EXPIRED: Final = 1 << 17


class Stats:
    """What a node has done since it started, or since its counters were reset."""

    def __init__(self) -> None:
        self.counters: dict[str, int] = dict.fromkeys(
            (name for name, metric in _METRICS.items() if metric.kind in ("counter", "size")), 0
        )
        # Apart from the others, because the path of small reads counts here: an attribute costs half of an entry.
        self._reads = 0
        self._read_bytes = 0
        self._started = time.monotonic_ns()
        self.cache_hits = 0
        """Reads of objects of remote buckets that were cached."""
        self.cache_misses = 0
        """Those that were not."""

    def read(self, size: int, count: int = 1) -> None:
        """An object, or a part of it, was read; or `count` of them, of `size` bytes together."""
        self._reads += count
        self._read_bytes += size

    def fetched(self, size: int) -> None:
        """An object came from a backend."""
        self.counters["get.cold.n"] += 1
        self.counters["get.cold.size"] += size

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

    def listed(self) -> None:
        """A page was listed."""
        self.counters["lst.n"] += 1

    def refused(self, method: str, path: str) -> None:
        """A request was answered with an error."""
        self.counters[_ERRORS.get(method, "err.http.n") if path.startswith("/v1/objects/") else "err.http.n"] += 1

    def reset(self, *, errors_only: bool) -> None:
        """Set the counters, or those of errors, to zero."""
        for name in self.counters:
            if not errors_only or name.startswith("err."):
                self.counters[name] = 0
        if not errors_only:
            self._reads = self._read_bytes = 0

    @property
    def uptime(self) -> int:
        """Nanoseconds since the start."""
        return time.monotonic_ns() - self._started

    def _values(self) -> dict[str, int]:
        return {**self.counters, "get.n": self._reads, "get.size": self._read_bytes}

    def tracker(self) -> dict[str, int]:
        """The counters that are not zero, and the gauges."""
        shown = {name: value for name, value in self._values().items() if value}
        return {**shown, "up.ns.time": self.uptime, "state.flags": HEALTHY}

    @staticmethod
    def kinds() -> dict[str, str]:
        """Kind of each metric by name (`what=metrics`)."""
        return {name: metric.kind for name, metric in sorted(_METRICS.items())}

    def exported(self) -> Iterator[tuple[str, str, str, int]]:
        """Name, type, meaning and value of each metric as it is exported, without what says of whom."""
        values = {**self._values(), **self.tracker()}
        for name, metric in _METRICS.items():
            kind = "counter" if metric.kind in ("counter", "size") else "gauge"
            yield metric.exported, kind, metric.help, values[name]
