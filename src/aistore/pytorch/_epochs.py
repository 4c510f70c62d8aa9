"""What iterable datasets have in common: their part of the samples, the epoch, and the position in it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import closing
from multiprocessing.context import get_spawning_popen
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from aistore.pytorch._place import Place, rank_of
from aistore.pytorch._torch import IterableDataset, get_worker_info, torch

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import TypeAlias

    from aistore.pytorch._torch import Tensor

    State: TypeAlias = Mapping[str, object]
    Position: TypeAlias = dict[str, int]

__all__ = ["Resumable", "check_same", "epoch_of", "order_of", "shown"]

T = TypeVar("T")

_SEEDS: Final = 1 << 63
"""Seeds that generators take, from 0 on."""


class Resumable(ABC, IterableDataset, Generic[T]):
    """An iterable dataset that each rank and each worker reads a part of, in an order that depends on the seed and the epoch only.

    Subclasses call `_begin` when an iteration starts, and keep `_position` at what was given out.
    """

    def __init__(self, shuffle: bool, seed: int, rank: int | None, world_size: int | None) -> None:
        self._shuffle = shuffle
        self._seed = seed
        self._ranks = None if rank is None and world_size is None else rank_of(rank, world_size)
        # Shared, so that workers that live on (persistent_workers) see what set_epoch says.
        self._epoch: Tensor = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._epoch_of = os.getpid()
        self._resume: State | None = None
        self._resumes_in_worker = False
        self._begun = 0
        self._position: Position = {}
        self._positions: Mapping[int, Position] = {}

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """What tells whether two datasets have the same samples, in the same order before they are shuffled."""

    @property
    def epoch(self) -> int:
        """The epoch, as `set_epoch` said; 0 at first."""
        return int(self._epoch.item())

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, before it is iterated over; workers that live on hear of it. Only shuffled orders differ."""
        if self._epoch_of != os.getpid() and get_worker_info() is None:
            self._own_epoch()  # ranks that were started with the same dataset do not choose for each other
        self._epoch[0] = epoch

    def _own_epoch(self) -> None:
        self._epoch, self._epoch_of = self._epoch.clone().share_memory_(), os.getpid()

    def state_dict(self) -> dict[str, object]:
        """How far this process is: what `load_state_dict` needs to go on behind the last sample that was given out here."""
        if self._resume is not None and self._resume["epoch"] == self.epoch:
            return dict(self._resume)
        return self._state(self._place(), self._position if self._begun == self.epoch else {})

    def load_state_dict(self, state_dict: State) -> None:
        """Have the next iteration go on where the state was taken.

        It raises ValueError when it starts if objects, order, or numbers of ranks or workers are others by then, or if it is that of a worker
        of a `DataLoader`: these read ahead of what the training has seen, and each of their iterations would go on there. `StatefulDataLoader`
        is for them.
        """
        self.set_epoch(epoch_of(state_dict))
        self._resume, self._resumes_in_worker = dict(state_dict), get_worker_info() is not None

    def _place(self) -> Place:
        return Place.here(self._ranks or rank_of(None, None))

    def _resume_at(self, positions: Mapping[int, Position]) -> None:
        """Have the next iteration of each worker begin where that worker was."""
        self._positions = positions

    def _identity(self, workers: int) -> dict[str, object]:
        """What has to be the same for a position to mean the same."""
        place = self._place()
        return {
            "objects": self.fingerprint,
            "shuffle": self._shuffle,
            "seed": self._seed,
            "rank": place.rank,
            "world_size": place.world_size,
            "workers": workers,
        }

    def _state(self, place: Place, position: Position) -> dict[str, object]:
        return {
            **self._identity(place.workers),
            "epoch": self.epoch,
            "worker": place.worker,
            "position": dict(position),
        }

    def _begin(self) -> tuple[Place, Position]:
        """Where this process is, and how far it was when the state that was loaded was taken (empty for the start)."""
        place = self._place()
        resume, self._resume = self._resume, None
        positions, self._positions = self._positions, {}
        self._begun = self.epoch
        self._position = dict(positions.get(place.worker, {}))
        if resume is not None and resume["epoch"] == self.epoch:
            found = resume.get("position")
            if not isinstance(found, dict):
                raise ValueError("this is no state of a dataset: it has no 'position'")
            check_same(self._state(place, found), resume)
            if self._resumes_in_worker != (get_worker_info() is not None):
                raise ValueError("the state was loaded outside of this worker: load it into a StatefulDataLoader")
            self._position = dict(found)
        return place, dict(self._position)

    def __getstate__(self) -> dict[str, object]:
        distributed = torch.distributed
        if get_spawning_popen() is None or not (distributed.is_available() and distributed.is_initialized()):
            return self.__dict__
        # Workers that are not forked know nothing of torch.distributed. Ranks that are started so have theirs yet to come.
        return {**self.__dict__, "_ranks": self._ranks or rank_of(None, None)}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        if not self._epoch.is_shared():  # of a copy, or unpickled
            self._own_epoch()


def order_of(count: int, shuffle: bool, seed: int, epoch: int) -> Tensor:
    """Positions from 0 to `count`, in the order of an epoch."""
    if not shuffle:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed((seed * 1_000_003 + epoch) % _SEEDS))


def check_same(now: State, saved: State) -> None:
    """Raise ValueError unless a state fits: going on would leave samples out, or give some twice."""
    differ = [
        f"{key} was {saved.get(key)!r}, and is {value!r}" for key, value in now.items() if saved.get(key) != value
    ]
    if differ:
        raise ValueError(f"the state is not for what is read now: {'; '.join(differ)}")


def epoch_of(state: State) -> int:
    """The epoch of a state. Raises ValueError for what is none."""
    found = state.get("epoch") if isinstance(state, Mapping) else None
    if not isinstance(found, int):
        raise ValueError("this is no state of a dataset or a loader: it has no 'epoch'")  # noqa: TRY004  it is the state's value
    return found


def shown(samples: Generator[T, None, None], owner: object, total: int | None) -> Generator[T, None, None]:
    """The samples, with a bar that moves as they are taken; `total` is their number, if it is known."""
    from tqdm import tqdm

    with (
        closing(samples),
        tqdm(desc=type(owner).__name__, total=total, unit=" samples", dynamic_ncols=True) as bar,
    ):
        for sample in samples:
            bar.update()
            yield sample
