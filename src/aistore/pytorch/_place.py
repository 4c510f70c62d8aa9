"""Which part of a dataset this process reads."""

from __future__ import annotations

import os
from typing import NamedTuple

from aistore.pytorch._torch import get_worker_info, torch

__all__ = ["Place", "rank_of"]


class Place(NamedTuple):
    """A process among those that read a dataset: rank `rank` of `world_size`, and in it worker `worker` of `workers` (0 of 1 without)."""

    rank: int
    world_size: int
    worker: int
    workers: int

    @staticmethod
    def here(ranks: tuple[int, int]) -> Place:
        """This process, of the rank given."""
        info = get_worker_info()
        return Place(*ranks, *((0, 1) if info is None else (info.id, info.num_workers)))


def rank_of(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Rank and number of ranks: as given, or as `torch.distributed` says, or RANK and WORLD_SIZE of the environment; else 0 of 1.

    Raises ValueError for what cannot be.
    """
    if (rank is None) != (world_size is None):
        raise ValueError("rank and world_size are given together")
    if rank is None or world_size is None:
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of world_size {world_size}: ranks begin with 0")
    return rank, world_size
