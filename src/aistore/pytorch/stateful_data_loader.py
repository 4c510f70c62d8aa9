"""A `DataLoader` that can be stopped in the middle of an epoch, and go on there."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from aistore.pytorch._epochs import Resumable, check_same, epoch_of, order_of
from aistore.pytorch._place import rank_of
from aistore.pytorch._torch import (
    BatchSampler,
    DataLoader,
    Sampler,
    SequentialSampler,
    default_collate,
    default_convert,
    get_worker_info,
)
from aistore.pytorch.base_map_dataset import AISBaseMapDataset
from aistore.pytorch.dynamic_sampler import DynamicBatchSampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sized

    Positions = dict[int, dict[str, int]]
    Marked = tuple[int, dict[str, int], object]

__all__ = ["EpochSampler", "StatefulDataLoader"]

T = TypeVar("T")


class EpochSampler(Sampler):
    """Indices of a map-style dataset that this rank reads: every n-th, none of them twice, shuffled by `seed` and the epoch.

    Unlike `torch.utils.data.DistributedSampler` it repeats no sample to make ranks even: some have one more. The rank is that of
    `torch.distributed`, or of RANK and WORLD_SIZE in the environment, unless `rank` and `world_size` say otherwise.
    """

    def __init__(
        self,
        data_source: Sized,
        shuffle: bool = False,
        seed: int = 0,
        *,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        self._count = len(data_source)
        self._shuffle = shuffle
        self._seed = seed
        self._ranks = rank, world_size
        self._epoch = 0

    @property
    def epoch(self) -> int:
        """The epoch, as `set_epoch` said; 0 at first."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, before it is iterated over."""
        self._epoch = epoch

    @property
    def fingerprint(self) -> str:
        """What tells whether two samplers give the same indices."""
        _, world_size = rank_of(*self._ranks)
        return f"EpochSampler{(self._count, self._shuffle, self._seed, world_size)}"

    def __iter__(self) -> Iterator[int]:
        rank, world_size = rank_of(*self._ranks)
        return iter(order_of(self._count, self._shuffle, self._seed, self._epoch)[rank::world_size].tolist())

    def __len__(self) -> int:
        rank, world_size = rank_of(*self._ranks)
        return len(range(rank, self._count, world_size))


def _check_repeatable(order: object, options: Mapping[str, object]) -> None:
    """Raise ValueError for an order that has no positions to go on from."""
    if not hasattr(order, "set_epoch") and not isinstance(order, (SequentialSampler, range, list, tuple)):
        raise ValueError(f"the order of {order!r} cannot be repeated: it has no set_epoch()")
    if not options.get("in_order", True):
        raise ValueError("batches that come out of order have no position: in_order=False is for iterable datasets")


class StatefulDataLoader(DataLoader):
    """A `DataLoader` over a dataset of this package whose position can be saved and restored: `state_dict`, `load_state_dict`.

    The state is that of the training, not that of the workers, which read ahead. Call `set_epoch` before each epoch:

    >>> for epoch in range(loader.epoch, 10):
    ...     loader.set_epoch(epoch)
    ...     for batch in loader:
    ...         train(batch)
    ...         torch.save(loader.state_dict(), "loader.pt")

    Map-style datasets are read by rank, and with `shuffle` in an order made of `seed` and the epoch, see `EpochSampler`; a `sampler` or
    `batch_sampler` of your own needs `set_epoch`, or to be sequential. Iterable datasets are told themselves what to shuffle and what their
    rank is. Other arguments are those of `torch.utils.data.DataLoader`. Raises TypeError for another iterable dataset, and ValueError for a sampler
    whose order cannot be repeated.
    """

    def __init__(
        self,
        dataset: object,
        batch_size: int | None = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[list[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[..., object] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        *,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        **options: object,
    ) -> None:
        self._about: dict[str, object] = {"batch_size": batch_size, "drop_last": drop_last}
        self._skipping: _Skipping[object] | None = None
        self._iterable = dataset if isinstance(dataset, Resumable) else None
        self._follower: object = self._iterable
        self._positions: Positions = {}
        self._batches = 0
        self._epoch = 0
        self._resumed_epoch: int | None = None
        if self._iterable is not None:
            if shuffle or sampler is not None or batch_sampler is not None or rank is not None:
                raise ValueError("an iterable dataset shuffles itself, and knows its rank: give those arguments to it")
            collate = collate_fn or (default_convert if batch_size is None else default_collate)
            chosen: dict[str, object] = {
                "batch_size": batch_size,
                "drop_last": drop_last,
                "collate_fn": _Marking(collate),
            }
        elif not isinstance(dataset, AISBaseMapDataset):
            raise TypeError(f"a dataset of aistore.pytorch is needed, not {type(dataset).__name__}")
        else:
            order = sampler if batch_sampler is None else batch_sampler
            if order is None:
                order = sampler = EpochSampler(dataset, shuffle, seed, rank=rank, world_size=world_size)
                self._about |= {"shuffle": shuffle, "seed": seed, "world_size": rank_of(rank, world_size)[1]}
            elif shuffle or rank is not None:
                raise ValueError("shuffle and rank are for loaders without a sampler of your own")
            elif isinstance(order, (EpochSampler, DynamicBatchSampler)):
                self._about["order"] = order.fingerprint
            if batch_sampler is not None and (sampler is not None or batch_size != 1 or drop_last):
                raise ValueError(
                    "a batch_sampler makes the batches: sampler, batch_size and drop_last are for loaders without"
                )
            _check_repeatable(order, options)
            self._follower = order
            if batch_sampler is None and batch_size is not None:
                batch_sampler = BatchSampler(order, batch_size, drop_last)
            chosen = {"collate_fn": collate_fn, **self._skip_in(order, batch_sampler)}
        super().__init__(dataset, num_workers=num_workers, pin_memory=pin_memory, **chosen, **options)
        if not isinstance(getattr(self._follower, "epoch", None), int):
            self._tell(0)  # a sampler that would take another order each time
        self._epoch = self.epoch

    def _skip_in(self, order: Iterable[object], batch_sampler: Iterable[object] | None) -> dict[str, object]:
        """What to tell a loader of map-style datasets, which begins behind what it has given out."""
        self._skipping = _Skipping(order if batch_sampler is None else batch_sampler)
        if batch_sampler is None:
            return {"batch_size": None, "sampler": self._skipping}
        return {"batch_sampler": self._skipping}

    @property
    def epoch(self) -> int:
        """The epoch: as `set_epoch` said, that of the loader, of its dataset or of its sampler, or the state that was loaded; 0 at first."""
        told = getattr(self._follower, "epoch", None)
        return told if isinstance(told, int) else self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, before it is iterated over: the order of what is shuffled. Another one than that of a loaded state drops the state."""
        epoch = int(epoch)
        self._tell(epoch)
        self._begin_epoch(epoch)

    def _tell(self, epoch: int) -> None:
        if hasattr(self._follower, "set_epoch"):
            self._follower.set_epoch(epoch)

    def _follow(self) -> None:
        """Hear of an epoch that the dataset or the sampler was told, and not the loader."""
        if (epoch := self.epoch) != self._epoch:
            self._begin_epoch(epoch)

    def _begin_epoch(self, epoch: int) -> None:
        self._epoch = epoch
        if epoch != self._resumed_epoch:
            self._resumed_epoch = None
            self._batches, self._positions = 0, {}

    def __iter__(self) -> Iterator[Any]:  # as of any loader: whatever the collate function makes
        self._follow()
        if self._resumed_epoch is None:
            self._batches, self._positions = 0, {}
        self._resumed_epoch = None
        if self._iterable is not None:
            self._iterable._resume_at(dict(self._positions))
        if self._skipping is not None:
            self._skipping.skip = self._batches
        batches = super().__iter__()
        if self._skipping is not None:
            self._skipping.skip = 0
        if self._iterable is not None and self.num_workers:
            self._iterable._resume_at({})  # the workers have it
        return self._counted(batches)

    def _counted(self, batches: Iterable[object]) -> Iterator[object]:
        for batch in batches:
            self._batches += 1
            if self._iterable is None:
                yield batch
            else:
                worker, position, content = cast("Marked", batch)
                self._positions[worker] = position if self.num_workers else dict(self._iterable._position)
                yield content

    def state_dict(self) -> dict[str, object]:
        """How far the training is: behind the batch that came last. Numbers and texts only, so that it can be saved as JSON, too.

        Raises ValueError for an iterable dataset that keeps no position.
        """
        self._follow()
        if not all(self._positions.values()):
            raise ValueError(
                f"{type(self.dataset).__name__} keeps no position: its samples have to come from super().__iter__()"
            )
        return {
            **self._identity(),
            "epoch": self._epoch,
            "batches": self._batches,
            "positions": {str(worker): dict(position) for worker, position in self._positions.items()},
        }

    def load_state_dict(self, state_dict: Mapping[str, object]) -> None:
        """Have the next iteration go on where the state was taken, in its epoch.

        Raises ValueError if that would leave samples out or give some twice: other objects in the bucket by now, another order, another
        number of ranks; for iterable datasets other ranks or workers.
        """
        epoch, batches, positions = epoch_of(state_dict), state_dict.get("batches"), state_dict.get("positions")
        if not isinstance(batches, int) or not isinstance(positions, dict):
            raise ValueError("this is no state of a loader: 'batches' or 'positions' is missing")  # noqa: TRY004  as above
        check_same(self._identity(), state_dict)
        self._iterator = None  # workers that live on are elsewhere
        self._resumed_epoch = epoch
        self.set_epoch(epoch)
        self._batches = batches
        self._positions = {int(worker): dict(position) for worker, position in positions.items()}

    def _identity(self) -> dict[str, object]:
        """What has to be the same for a state to fit."""
        if self._iterable is None:
            assert isinstance(self.dataset, AISBaseMapDataset)
            return {**self._about, "objects": self.dataset.fingerprint}
        return {**self._about, **self._iterable._identity(self.num_workers)}


class _Skipping(Sampler, Generic[T]):
    """A sampler without the first `skip` of what it gives. Loaders with workers begin an iteration twice."""

    def __init__(self, sampler: Iterable[T]) -> None:
        self._sampler = sampler
        self.skip = 0

    def __iter__(self) -> Iterator[T]:
        return islice(iter(self._sampler), self.skip, None)

    def __len__(self) -> int:
        return len(self._sampler)  # type: ignore[arg-type]  # one without raises TypeError, as it should


class _Marking:
    """Collates a batch, and notes which worker made it and how far that was then."""

    def __init__(self, collate: Callable[..., object]) -> None:
        self._collate = collate

    def __call__(self, samples: object) -> Marked:
        info = get_worker_info()
        worker, dataset = (0, None) if info is None else (info.id, info.dataset)
        return worker, {} if dataset is None else dict(dataset._position), self._collate(samples)
