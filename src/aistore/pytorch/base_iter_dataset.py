"""What iterable datasets over objects have in common."""

from __future__ import annotations

from abc import abstractmethod
from array import array
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

from aistore.pytorch._epochs import Resumable, order_of, shown
from aistore.pytorch._index import Index, checked_sources
from aistore.pytorch._torch import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from aistore.pytorch._index import Prefixes, Sources
    from aistore.pytorch._place import Place
    from aistore.pytorch._torch import Tensor

__all__ = ["AISBaseIterDataset"]

T = TypeVar("T")


class AISBaseIterDataset(Resumable[T]):
    """An iterable dataset over the objects of some sources; subclasses say in `__iter__` what the samples are.

    `ais_source_list` is a bucket or a group of objects, or a list of them; `prefix_map` says for some of them which prefixes of names are
    wanted. The objects are listed once, here, and workers share what was listed; what is stored later is not in the dataset.

    Each rank and each worker of a `DataLoader` reads a part of its own, and together they read each object once: every n-th object, or
    with `partition_sources_by_worker` every n-th source. `shuffle` reads in an order made of `seed` and the epoch (`set_epoch`). The rank is
    that of `torch.distributed`, or of RANK and WORLD_SIZE in the environment, unless `rank` and `world_size` say otherwise. Where objects cannot
    be divided evenly, some ranks read one more.

    Raises ValueError for no source, and for prefixes of one that is not in the list.
    """

    def __init__(
        self,
        ais_source_list: Sources,
        prefix_map: Prefixes = {},  # noqa: B006  the documented default; never changed
        partition_sources_by_worker: bool = False,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(shuffle, seed, rank, world_size)
        self._ais_source_list = checked_sources(self, ais_source_list, prefix_map)
        self._partition_sources_by_worker = partition_sources_by_worker
        self._index = Index(self._ais_source_list, prefix_map)

    @abstractmethod
    def __iter__(self) -> Iterator[T]:
        """The samples that this rank and this worker read."""

    def __len__(self) -> int:
        """Number of objects that this rank reads."""
        rank, world_size, _, _ = self._place()
        if self._partition_sources_by_worker:
            return sum(len(part) for part in self._parts()[rank::world_size])
        return len(range(rank, len(self._index), world_size))

    @property
    def fingerprint(self) -> str:
        """What tells whether two datasets have the same objects, in the same order before they are shuffled."""
        return self._index.fingerprint

    def _parts(self) -> list[range]:
        """Positions of the objects of each source."""
        ends = self._index.source_ends
        return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def _mine(self, place: Place) -> Tensor:
        """Positions of the objects that are read at a place, in the order of the epoch."""
        if not self._partition_sources_by_worker:
            order = order_of(len(self._index), self._shuffle, self._seed, self.epoch)
            return order[place.rank :: place.world_size][place.worker :: place.workers]
        parts = self._parts()[place.rank :: place.world_size][place.worker :: place.workers]
        mine = torch.cat([torch.arange(part.start, part.stop) for part in parts] or [torch.arange(0)])
        return mine[order_of(len(mine), self._shuffle, self._seed, self.epoch)]

    def _objects(
        self, read: Callable[[Sequence[int]], Generator[T | None, None, None]], show_progress: bool
    ) -> Iterator[T]:
        """What `read` makes of the positions of this place's objects; None for one that is left out."""
        place, position = self._begin()
        done = position.get("objects", 0)
        positions = array("q", self._mine(place)[done:].tolist())
        samples = self._counted(read(positions), done)
        return shown(samples, self, len(positions)) if show_progress else samples

    def _counted(self, samples: Generator[T | None, None, None], done: int) -> Generator[T, None, None]:
        with closing(samples):
            for number, sample in enumerate(samples, done + 1):
                if sample is not None:
                    self._position = {"objects": number}
                    yield sample
