"""Samples of WebDataset shards."""

from __future__ import annotations

from collections.abc import ItemsView, KeysView, ValuesView
from contextlib import closing
from typing import TYPE_CHECKING, Final, TypeVar, overload

from xxhash import xxh3_64

from aistore.pytorch._epochs import shown
from aistore.pytorch._shards import key_of, members_of, samples_of
from aistore.pytorch.base_iter_dataset import AISBaseIterDataset
from aistore.pytorch.errors import SampleNotFound, ShardError
from aistore.sdk.errors import ErrObjNotFound
from aistore.sdk.etl.etl_config import ETLConfig

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from aistore.pytorch._index import Prefixes, Sources
    from aistore.sdk.obj.object import Object

    Sample = tuple[str, dict[str, bytes]]

__all__ = ["AISShardReader"]

D = TypeVar("D")

_RESUMES: Final = 1000
"""How often the stream of a shard may break: each time that a training takes nothing for a minute a server drops it."""


class AISShardReader(AISBaseIterDataset["Sample"]):
    """An iterable dataset over shards (TAR, TGZ, TAR.LZ4, ZIP) whose samples are `(basename, {extension: content})`.

    Members that share folder and basename are a sample, and lie one behind the other, as WebDataset wants it. Shards are read as streams,
    of which no more than a sample is held in memory. Whole shards go to ranks and workers, so that there should be more of those than of
    these. `etl_name` has each shard transformed by that ETL before it is taken apart. `show_progress` shows a bar. Other arguments are
    those of `AISBaseIterDataset`, the shuffled ones being shards.

    A shard that is damaged, cut short or no archive raises `ShardError`, which is `tarfile.TarError`; one that is gone `SampleNotFound`.
    """

    def __init__(
        self,
        bucket_list: Sources,
        prefix_map: Prefixes = {},  # noqa: B006  the documented default; never changed
        etl_name: str | None = None,
        show_progress: bool = False,
        partition_sources_by_worker: bool = False,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(
            bucket_list,
            prefix_map,
            partition_sources_by_worker,
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        self._etl_name = etl_name
        self._show_progress = show_progress
        self._observed_keys: dict[str, None] = {}
        self._counts: dict[int, int] = {}

    def __iter__(self) -> Iterator[Sample]:
        place, position = self._begin()
        samples = self._samples(self._mine(place).tolist(), position)
        return shown(samples, self, None) if self._show_progress else samples

    def _samples(self, shards: list[int], position: dict[str, int]) -> Generator[Sample, None, None]:
        done = position.get("shards", 0)
        for number, at in enumerate(shards[done:], done):
            given_out = position.get("samples", 0) if number == done else 0
            shard = self._index.object(at)
            names = xxh3_64()
            sample = 0
            with closing(_read(shard, self._etl_name)) as samples:
                for sample, (name, members) in enumerate(samples, 1):
                    names.update(name.encode("utf-8", "surrogateescape") + b"\0")
                    self._observed_keys.update(dict.fromkeys(members))
                    if sample > given_out:
                        self._position = {"shards": number, "samples": sample, "names": names.intdigest()}
                        yield name, self.ZeroDict(members, self._observed_keys)
                    elif sample == given_out and names.intdigest() != position.get("names"):
                        raise _replaced(shard)
            if sample < given_out:
                raise _replaced(shard)

    def __len__(self) -> int:
        """Number of samples that this rank reads, in this epoch. Shards are listed for it, once each, and with an ETL transformed."""
        mine = self._mine(self._place()._replace(worker=0, workers=1)).tolist()
        self._counts.update((at, self._count(at)) for at in mine if at not in self._counts)
        return sum(self._counts[at] for at in mine)

    def _count(self, at: int) -> int:
        shard = self._index.object(at)
        if self._etl_name:
            return sum(1 for _ in _read(shard, self._etl_name))
        entries = self._index.bucket_of(at).list_archive(shard.name, props="name")
        return len({key_of(entry.n) for entry in entries})

    class ZeroDict(dict[str, bytes]):
        """Members of a sample by extension. One that it lacks, and that samples before or in the same batch have, is `b""`.

        PyTorch's default collation takes the keys of the first sample of a batch for those of all: so all have the same.
        """

        def __init__(self, members: Mapping[str, bytes], observed: dict[str, None]) -> None:
            super().__init__(members)
            self._observed = observed

        def __missing__(self, key: str) -> bytes:
            if key in self._observed:
                return b""
            raise KeyError(key)

        def __contains__(self, key: object) -> bool:
            return super().__contains__(key) or key in self._observed

        def __iter__(self) -> Iterator[str]:
            yield from super().__iter__()
            yield from (key for key in self._observed if not super(AISShardReader.ZeroDict, self).__contains__(key))

        def __len__(self) -> int:
            return len(self._observed.keys() | super().keys())

        def keys(self) -> KeysView[str]:  # type: ignore[override]  # of a dict's own there can be no others
            """Its keys."""
            return KeysView(self)

        def items(self) -> ItemsView[str, bytes]:  # type: ignore[override]  # as above
            """Its keys and contents."""
            return ItemsView(self)

        def values(self) -> ValuesView[bytes]:  # type: ignore[override]  # as above
            """Its contents."""
            return ValuesView(self)

        @overload
        def get(self, key: str, default: None = None, /) -> bytes | None: ...

        @overload
        def get(self, key: str, default: bytes, /) -> bytes: ...

        @overload
        def get(self, key: str, default: D, /) -> bytes | D: ...

        def get(self, key: str, default: object = None, /) -> object:
            """The content of a member, or the default."""
            return self[key] if key in self else default  # noqa: SIM401  this is that method

        def __eq__(self, other: object) -> bool:
            return dict(self.items()) == other

        def __ne__(self, other: object) -> bool:
            return not self == other

        __hash__ = None  # as all dicts

        def __repr__(self) -> str:
            return repr(dict(self.items()))

        def __reduce__(self) -> tuple[object, ...]:
            return type(self), (dict(super().items()), dict(self._observed))


def _replaced(shard: Object) -> ValueError:
    return ValueError(f"{shard.get_semantic_url()}: the shard has other samples than when the state was taken")


def _read(shard: Object, etl_name: str | None) -> Generator[Sample, None, None]:
    """The samples of a shard. Raises `ShardError` and `SampleNotFound`."""
    try:
        with shard.get_reader(etl=ETLConfig(etl_name) if etl_name else None).as_file(max_resume=_RESUMES) as file:
            yield from samples_of(members_of(file))
    except ShardError as error:
        raise ShardError(f"{shard.get_semantic_url()}: {error}") from error
    except ErrObjNotFound as error:
        raise SampleNotFound.of(error) from error
