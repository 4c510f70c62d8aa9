"""Objects of an index, read by GetBatch: many in one request, in order, none silently missing."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from aistore.pytorch.errors import SampleNotFound
from aistore.sdk.batch.batch import Batch
from aistore.sdk.bucket import Bucket
from aistore.sdk.enums import Colocation
from aistore.sdk.errors import ErrObjNotFound
from aistore.sdk.etl.etl_config import ETLConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from typing import TypeAlias

    from aistore.calls.batch_delivery import Item
    from aistore.pytorch._index import Index
    from aistore.sdk.obj.object import Object

    Sample: TypeAlias = tuple[str, bytes]

__all__ = ["Wish", "read_at_once", "read_object", "stream"]

_AT_ONCE = 10_000
"""Entries of a request; a cluster takes 100,000 at most."""


class Wish(NamedTuple):
    """How batches are wanted."""

    size: int
    output_format: str = ".tar"
    streaming: bool = True
    colocation: Colocation = Colocation.NONE


def read_object(obj: Object, etl_name: str | None = None) -> bytes:
    """The content of one object. Raises `SampleNotFound` if it is gone."""
    try:
        return obj.get_reader(etl=ETLConfig(etl_name) if etl_name else None).read_all()
    except ErrObjNotFound as error:
        raise SampleNotFound(str(error), error.status_code, error.req_url, error.req) from error


def read_at_once(index: Index, positions: Sequence[int]) -> list[Sample]:
    """Some objects, in the order of `positions`. Raises `SampleNotFound` for one that is gone."""
    wish = Wish(_AT_ONCE)
    found: list[Sample] = []
    for first in range(0, len(positions), _AT_ONCE):
        some = positions[first : first + _AT_ONCE]
        if index.is_of_one_cluster:
            found += _delivered(index, some, _request(index, some, wish), None)
            continue
        clients = [index.run(at).client for at in some]
        samples: dict[int, Sample] = {}  # by place in `some`: each cluster is asked once
        for one in dict.fromkeys(map(id, clients)):
            places = [place for place, client in enumerate(clients) if id(client) == one]
            mine = [some[place] for place in places]
            samples.update(zip(places, _delivered(index, mine, _request(index, mine, wish), None), strict=True))
        found += (samples[place] for place in range(len(some)))
    return found


def stream(
    index: Index, positions: Sequence[int], wish: Wish, on_missing: Callable[[str, str], None] | None
) -> Generator[Sample, None, None]:
    """Objects in the order of `positions`, while the cluster reads on: a batch is requested when the first sample of the one before has come.

    So the next samples arrive while the caller trains on these, without a thread. `on_missing(name, error)` is told about an object that is
    gone, which is left out then; without it `SampleNotFound` is raised when its turn comes.
    """
    ahead = _Ahead(index, wish)
    try:
        chunks = _chunks(index, positions, wish.size)
        ahead.request(next(chunks, None))
        while (taken := ahead.take()) is not None:
            some, items = taken
            requested = False
            with closing(_delivered(index, some, items, on_missing)) as samples:
                for sample in samples:
                    if not requested:
                        requested = True
                        ahead.request(next(chunks, None))
                    yield sample
            if not requested:
                ahead.request(next(chunks, None))
    finally:
        ahead.close()


class _Ahead:
    """The batch that is requested and not looked at yet. What its request raises is kept until its turn comes."""

    def __init__(self, index: Index, wish: Wish) -> None:
        self._index = index
        self._wish = wish
        self._some: Sequence[int] | None = None
        self._items: Generator[Item, None, None] | None = None
        self._error: Exception | None = None

    def request(self, some: Sequence[int] | None) -> None:
        self._some, self._items = some, None
        if some is None:
            return
        try:
            self._items = _request(self._index, some, self._wish)
        except Exception as error:
            self._error = error

    def take(self) -> tuple[Sequence[int], Generator[Item, None, None]] | None:
        if self._error is not None:
            raise self._error
        some, items = self._some, self._items
        self._some = self._items = None
        return None if some is None or items is None else (some, items)

    def close(self) -> None:
        if self._items is not None:
            self._items.close()


def _chunks(index: Index, positions: Sequence[int], size: int) -> Iterator[list[int]]:
    """The positions, `size` at a time; each chunk is of one cluster."""
    several = not index.is_of_one_cluster
    for first in range(0, len(positions), size):
        some = list(positions[first : first + size])
        if not several:
            yield some
            continue
        start = 0
        for place in range(1, len(some) + 1):
            if place == len(some) or index.run(some[place]).client is not index.run(some[start]).client:
                yield some[start:place]
                start = place


def _request(index: Index, some: Sequence[int], wish: Wish) -> Generator[Item, None, None]:
    """Send the request for objects of one cluster."""
    bucket = index.bucket
    names = [index.name(at) for at in some] if bucket is not None else None
    batch = Batch(
        index.run(some[0]).client,
        names or [index.object(at) for at in some],
        bucket,
        wish.output_format,
        streaming_get=wish.streaming,
        colocation=wish.colocation,
    )
    return batch.get()


def _delivered(
    index: Index,
    some: Sequence[int],
    items: Generator[Item, None, None],
    on_missing: Callable[[str, str], None] | None,
) -> Generator[Sample, None, None]:
    """The samples of an answer."""
    with closing(items):
        for at, (info, content) in zip(some, items, strict=True):
            if info.err_msg is None:
                yield info.obj_name, content
                continue
            # A batch does not say why: asking for the object itself does, and has it if it is there again.
            obj = index.object(at)
            try:
                content = read_object(obj)
            except SampleNotFound:
                if on_missing is None:
                    raise
                on_missing(obj.name, info.err_msg)
            else:
                yield obj.name, content
