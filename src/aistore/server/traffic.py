"""What a server has answered: requests by kind, how long they took, bytes, errors.

Timing must cost next to nothing where an answer takes a few microseconds: of the reads that are answered at once, one in `_EVERY` is timed,
and counts for those that came since the one before it.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aistore.http1.server import Request

__all__ = ["KINDS", "SHORTEST", "Kind", "Traffic", "kind_of"]

_EVERY: Final = 16
_POWERS: Final = 48  # two to this many microseconds is nine years
SHORTEST: Final = 6
"""Times up to two to this many microseconds are not told apart."""
LONGEST: Final = 26
"""Nor are those beyond two to this many."""

_OBJECTS: Final = "/v1/objects/"
_OF_OBJECTS: Final = {"GET": "get", "PUT": "put", "HEAD": "head", "DELETE": "delete", "POST": "post", "PATCH": "patch"}
_OF_S3: Final = {"GET": "s3-get", "PUT": "s3-put", "HEAD": "s3-head", "DELETE": "s3-delete", "POST": "s3-post"}
_RESOURCES: Final = {
    "cluster": "cluster",
    "daemon": "cluster",
    "reverse": "cluster",
    "tokens": "cluster",
    "health": "health",
    "ml": "batch",
    "etl": "etl",
    "sort": "dsort",
}
OTHER: Final = "other"
KINDS: Final = (*_OF_OBJECTS.values(), "list", "bucket", *_OF_S3.values(), *dict.fromkeys(_RESOURCES.values()), OTHER)
"""Kinds of requests to a node: calls on objects by their method, listings, other calls on buckets, S3 by method, and the other resources."""


def kind_of(request: Request) -> str:
    """The kind of a request to a node, by its path and method."""
    path, method = request.path, request.method
    if path.startswith(_OBJECTS):
        return _OF_OBJECTS.get(method, OTHER)
    if path == "/s3" or path.startswith("/s3/"):
        return _OF_S3.get(method, OTHER)
    _, version, resource, *_ = (*path.split("/", 3), "", "")
    if version != "v1":
        return OTHER
    if resource == "buckets":
        return "list" if method == "GET" else "bucket"
    return _RESOURCES.get(resource, OTHER)


class Kind:
    """Requests of one kind that were answered."""

    __slots__ = ("counts", "received", "seconds", "sent")

    def __init__(self) -> None:
        self.counts = [0] * _POWERS
        """Numbers of requests that took less than two to the power of the index microseconds, and at least half of that."""
        self.seconds = 0.0
        self.received = 0
        """Bytes of request bodies."""
        self.sent = 0
        """Bytes of answers."""

    def cumulated(self) -> Iterator[tuple[float, int]]:
        """Upper bounds in seconds, and how many requests took less than that."""
        for power in range(SHORTEST, LONGEST + 1):
            yield 2**power / 1e6, sum(self.counts[: power + 1])


class Traffic:
    """Requests that a server has answered. `kinds` are those that `kind_of` tells apart; with `each` all are timed."""

    __slots__ = ("_every", "_kind_of", "_weight", "errors", "kinds")

    def __init__(
        self, kinds: tuple[str, ...] = KINDS, kind_of: Callable[[Request], str] = kind_of, *, each: bool = False
    ) -> None:
        self.kinds = {name: Kind() for name in kinds}
        self.errors: dict[tuple[str, int], int] = {}
        """Numbers of answers with a status from 400 on, by kind and status."""
        self._kind_of = kind_of
        self._every = 1 if each else _EVERY
        self._weight = 1

    def at_once(self, request: Request, answer: bytes) -> int:
        """A request was answered, encoded and at once; how many that are answered so need not be told before the next."""
        weight, self._weight = self._weight, self._every
        kind = self.kinds[self._kind_of(request)]
        spent = perf_counter() - request.began
        kind.counts[int(spent * 1e6).bit_length()] += weight
        kind.seconds += spent * weight
        kind.sent += len(answer) * weight
        if request.content:
            kind.received += len(request.content) * weight
        return self._every - 1

    def answered(self, request: Request, status: int, sent: int) -> None:
        """A request was answered in another way, with so many bytes."""
        name = self._kind_of(request)
        kind = self.kinds[name]
        spent = perf_counter() - request.began
        kind.counts[int(spent * 1e6).bit_length()] += 1
        kind.seconds += spent
        kind.sent += sent
        kind.received += request.received
        if status >= 400:
            self.errors[name, status] = self.errors.get((name, status), 0) + 1
