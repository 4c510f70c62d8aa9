"""Objects of an index, read by GetBatch: many in one request, in order, none silently missing."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple, cast

from aistore.pytorch.errors import SampleNotFound
from aistore.sdk.archive_config import ArchiveConfig
from aistore.sdk.batch.batch import Batch
from aistore.sdk.enums import Colocation
from aistore.sdk.errors import ErrObjNotFound
from aistore.sdk.etl.etl_config import ETLConfig

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from typing import TypeAlias

    from aistore.calls.batch_delivery import Item
    from aistore.pytorch._index import Index
    from aistore.sdk.obj.object import Object
    from aistore.sdk.request_client import RequestClient

    Sample: TypeAlias = tuple[str, bytes]

__all__ = ["Wish", "read_at_once", "read_object", "read_one_by_one", "stream"]

_log = logging.getLogger("aistore.pytorch")

_AT_ONCE = 10_000
"""Entries of a request; a cluster takes 100,000 at most."""


class Wish(NamedTuple):
    """How batches are wanted."""

    size: int
    output_format: str = ".tar"
    streaming: bool = True
    colocation: Colocation = Colocation.NONE
    client: RequestClient | None = None
    """Who asks, if all objects are of one cluster; by default the client of the source."""


def read_object(obj: Object, etl_name: str | None = None, member: str = "") -> bytes:
    """The content of one object, or of a member of it, a shard. Raises `SampleNotFound` if it is gone."""
    archive = ArchiveConfig(member) if member else None
    try:
        return obj.get_reader(archive, etl=ETLConfig(etl_name) if etl_name else None).read_all()
    except ErrObjNotFound as error:
        raise SampleNotFound.of(error) from error


def read_one_by_one(index: Index, positions: Sequence[int], etl_name: str) -> Generator[Sample | None, None, None]:
    """Objects in the order of `positions`, transformed. Raises `SampleNotFound` for one that is gone."""
    for at in positions:
        yield index.name(at), read_object(index.object(at), etl_name)


def read_at_once(index: Index, positions: Sequence[int]) -> list[Sample]:
    """Some objects, in the order of `positions`. Raises `SampleNotFound` for one that is gone."""
    clients = [0] * len(positions) if index.is_of_one_cluster else [id(index.bucket_of(at).client) for at in positions]
    found: dict[int, Sample] = {}  # by place in `positions`: each cluster is asked for what it has
    for client in dict.fromkeys(clients):
        places = [place for place, one in enumerate(clients) if one == client]
        mine = [positions[place] for place in places]
        with closing(stream(index, mine, Wish(_AT_ONCE))) as samples:
            found.update((place, sample) for place, sample in zip(places, samples, strict=True) if sample is not None)
    return [found[place] for place in range(len(positions))]


def stream(
    index: Index, positions: Sequence[int], wish: Wish, leave_out: bool = False
) -> Generator[Sample | None, None, None]:
    """Objects in the order of `positions`, while the cluster reads on: a batch is requested when the first sample of the one before has come.

    So the next samples arrive while the caller trains on these, without a thread. An object that is gone is None, and a warning is logged, if
    such are to be left out; else `SampleNotFound` is raised when its turn comes.
    """
    ahead = _Ahead(index, wish)
    try:
        chunks = _chunks(index, positions, wish.size)
        ahead.request(next(chunks, None))
        while (taken := ahead.take()) is not None:
            some, items = taken
            requested = False
            with closing(items):
                for at, (info, content) in zip(some, items, strict=True):
                    sample = (
                        (info.obj_name, content) if info.err_msg is None else _once_more(index.object(at), leave_out)
                    )
                    if not requested:
                        requested = True
                        ahead.request(next(chunks, None))
                    yield sample
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
            if place == len(some) or index.bucket_of(some[place]).client is not index.bucket_of(some[start]).client:
                yield some[start:place]
                start = place


def _request(index: Index, some: Sequence[int], wish: Wish) -> Generator[Item, None, None]:
    """Send the request for objects of one cluster."""
    client = wish.client if index.is_of_one_cluster else None
    batch = Batch(
        client or index.bucket_of(some[0]).client,
        [index.object(at) for at in some] if index.bucket is None else [index.name(at) for at in some],
        index.bucket,
        wish.output_format,
        streaming_get=wish.streaming,
        colocation=wish.colocation,
    )
    return cast("Generator[Item, None, None]", batch.get())


def _once_more(obj: Object, leave_out: bool) -> Sample | None:
    """An object that a batch lacks. Batches do not say why: a request for the object itself does, or has it after all."""
    try:
        return obj.name, read_object(obj)
    except SampleNotFound as error:
        if not leave_out:
            raise
        _log.warning("left out: %s", error)
        return None
