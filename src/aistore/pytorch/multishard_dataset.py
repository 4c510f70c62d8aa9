"""Several streams of shards, side by side."""

from __future__ import annotations

import warnings
from contextlib import ExitStack, closing
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, cast

from xxhash import xxh3_64

from aistore.pytorch._epochs import Resumable
from aistore.pytorch._index import Index
from aistore.pytorch._reading import read_object
from aistore.pytorch._shards import members_of
from aistore.pytorch.errors import ShardError
from aistore.sdk.batch.batch import Batch
from aistore.sdk.client import Client

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from aistore.calls.batch_delivery import Item
    from aistore.sdk.bucket import Bucket
    from aistore.sdk.dataset.data_shard import DataShard
    from aistore.sdk.obj.object import Object

    Member = tuple[Object, str]
    Sample = tuple[bytes, ...]

__all__ = ["AISMultiShardStream"]

_AT_ONCE = 256


class AISMultiShardStream(Resumable["Sample"]):
    """An iterable dataset that goes through several streams of shards at once: a sample has one member of each, `(bytes, bytes, ...)`.

    A stream is a `DataShard`: the members of all shards whose names begin with its prefix, in the order of the listings. Ranks and workers read
    a part of the samples each. It ends with the shortest stream, and warns if another one goes on. A shard that is damaged raises `ShardError`.
    """

    def __init__(
        self, data_sources: Sequence[DataShard], *, rank: int | None = None, world_size: int | None = None
    ) -> None:
        super().__init__(False, 0, rank, world_size)
        self._etls = [one.etl_name for one in data_sources]
        buckets = [Client(one.client_url).bucket(one.bucket_name, one.provider) for one in data_sources]
        self._streams = [
            (bucket, Index([bucket], {bucket: one.prefix})) for bucket, one in zip(buckets, data_sources, strict=True)
        ]

    @property
    def fingerprint(self) -> str:
        """What tells whether two datasets have the same shards."""
        return "/".join(index.fingerprint for _, index in self._streams)

    def __iter__(self) -> Iterator[Sample]:
        place, position = self._begin()
        done = position.get("samples", 0)
        every, mine = place.world_size * place.workers, place.rank * place.workers + place.worker
        rows = islice(self._rows(), mine, None, every)
        names = xxh3_64()
        for row in islice(rows, done):
            _note(names, row)
        if names.intdigest() != position.get("names", names.intdigest()):
            raise ValueError("the shards have other members than when the state was taken")
        return self._read(rows, done, names)

    def _rows(self) -> Iterator[tuple[Member, ...]]:
        """The members of each sample."""
        for number, row in enumerate(zip_longest(*(_members(*stream) for stream in self._streams))):
            if None in row:
                warnings.warn(
                    f"AISMultiShardStream: streams differ in length, the shortest has {number} members: the rest is left out",
                    RuntimeWarning,
                    stacklevel=2,
                )
                return
            yield row

    def _read(self, rows: Iterator[tuple[Member, ...]], done: int, names: xxh3_64) -> Generator[Sample, None, None]:
        while some := list(islice(rows, _AT_ONCE)):
            with ExitStack() as stack:
                columns = [
                    stack.enter_context(closing(_contents(column, etl)))
                    for column, etl in zip(zip(*some, strict=True), self._etls, strict=True)
                ]
                for row, sample in zip(some, zip(*columns, strict=True), strict=True):
                    done += 1
                    _note(names, row)
                    self._position = {"samples": done, "names": names.intdigest()}
                    yield sample


def _note(names: xxh3_64, row: tuple[Member, ...]) -> None:
    for shard, path in row:
        names.update(f"{shard.name}/{path}\0".encode("utf-8", "surrogateescape"))


def _members(bucket: Bucket, shards: Index) -> Iterator[Member]:
    """The members of some shards. Raises `ShardError`."""
    for at in range(len(shards)):
        shard = shards.object(at)
        entries = bucket.list_archive(shard.name, props="name")
        if not entries:
            _check_empty(shard)
        for entry in entries:
            yield shard, entry.n.removeprefix(f"{shard.name}/")


def _check_empty(shard: Object) -> None:
    """Raise `ShardError` unless a shard without members is an archive: one that is damaged is listed so, too."""
    try:
        with shard.get_reader().as_file() as file:
            found = next(members_of(file), None)
    except ShardError as error:
        raise ShardError(f"{shard.get_semantic_url()}: {error}") from error
    if found is not None:
        raise ShardError(f"{shard.get_semantic_url()}: the shard is damaged: it cannot be listed")


def _contents(members: Sequence[Member], etl_name: str | None) -> Generator[bytes, None, None]:
    """The contents of some members."""
    if etl_name:
        for shard, path in members:
            yield read_object(shard, etl_name, path)
        return
    batch = Batch(members[0][0]._client)
    for shard, path in members:
        batch.add(shard, archpath=path)
    with closing(cast("Generator[Item, None, None]", batch.get())) as items:
        for (shard, path), (info, content) in zip(members, items, strict=True):
            yield content if info.err_msg is None else read_object(shard, None, path)
