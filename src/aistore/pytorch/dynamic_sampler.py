"""Batches by bytes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aistore.pytorch._epochs import order_of
from aistore.pytorch._place import rank_of
from aistore.pytorch._torch import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.pytorch.base_map_dataset import AISBaseMapDataset

__all__ = ["DynamicBatchSampler"]

_log = logging.getLogger("aistore.pytorch")


class DynamicBatchSampler(Sampler):
    """A batch sampler that puts as many samples into a batch as fit into `max_batch_size` bytes, in order.

    A sample that is larger is left out, and a warning is logged, or with `allow_oversized_samples` a batch of its own. `drop_last` drops the
    last batch unless it has at least `saturation_factor` of `max_batch_size`. `shuffle` mixes the samples by `seed` and the epoch: the one that
    `set_epoch` says, else another one each time. Each rank gets every n-th batch; the rank is that of `torch.distributed`, or of RANK and
    WORLD_SIZE in the environment, unless `rank` and `world_size` say otherwise.

    Sizes are those of the listing; for groups of objects each is asked for once, by a request of its own. Raises ValueError for a
    `max_batch_size` that is not above 0, and a `saturation_factor` not between 0 and 1.
    """

    def __init__(
        self,
        data_source: AISBaseMapDataset[object],
        max_batch_size: float,
        drop_last: bool = False,
        allow_oversized_samples: bool = False,
        saturation_factor: float = 0.8,
        shuffle: bool = False,
        *,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if not 0 <= saturation_factor <= 1:
            raise ValueError("`saturation_factor` must be between 0 and 1")
        if not max_batch_size > 0:
            raise ValueError(f"max_batch_size {max_batch_size!r} is no number of bytes above 0")
        self._index = data_source._index
        self._max_batch_size = max_batch_size
        self._least_of_last = saturation_factor * max_batch_size if drop_last else 0.0
        self._allow_oversized_samples = allow_oversized_samples
        self._shuffle = shuffle
        self._seed = seed
        self._ranks = rank, world_size
        self._epoch: int | None = None
        self._iterations = 0

    @property
    def epoch(self) -> int | None:
        """The epoch, as `set_epoch` said; None if it has not."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, before it is iterated over."""
        self._epoch = epoch

    @property
    def fingerprint(self) -> str:
        """What tells whether two samplers make the same batches of the same samples."""
        _, world_size = rank_of(*self._ranks)
        kind = self._max_batch_size, self._least_of_last, self._allow_oversized_samples
        sizes = self._index.digest_of_sizes()
        return f"DynamicBatchSampler{(*kind, self._shuffle, self._seed, world_size, sizes)}"

    def __iter__(self) -> Iterator[list[int]]:
        epoch = self._iterations if self._epoch is None else self._epoch
        self._iterations += 1
        return self._mine(epoch, True)

    def __len__(self) -> int:
        """Number of batches of this rank, in the next iteration."""
        return sum(1 for _ in self._mine(self._iterations if self._epoch is None else self._epoch, False))

    def _mine(self, epoch: int, log: bool) -> Iterator[list[int]]:
        rank, world_size = rank_of(*self._ranks)
        return (batch for number, batch in enumerate(self._batches(epoch, log)) if number % world_size == rank)

    def _batches(self, epoch: int, log: bool) -> Iterator[list[int]]:
        batch: list[int] = []
        filled = 0
        for at in order_of(len(self._index), self._shuffle, self._seed, epoch).tolist():
            size = self._index.size(at)
            if size > self._max_batch_size:
                if self._allow_oversized_samples:
                    yield [at]
                elif log:
                    _log.warning(
                        "Sample %s cannot be processed as it is larger than the max batch size: %s bytes > %s bytes",
                        self._index.name(at),
                        size,
                        self._max_batch_size,
                    )
                continue
            if filled + size > self._max_batch_size:
                yield batch
                batch, filled = [], 0
            batch.append(at)
            filled += size
            if filled == self._max_batch_size:
                yield batch
                batch, filled = [], 0
        if batch and filled >= self._least_of_last:
            yield batch
