"""Objects one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.pytorch._reading import Wish, read_one_by_one, stream
from aistore.pytorch.base_iter_dataset import AISBaseIterDataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.pytorch._index import Prefixes, Sources
    from aistore.pytorch._reading import Sample

__all__ = ["AISIterDataset"]

_AHEAD = Wish(256)


class AISIterDataset(AISBaseIterDataset["Sample"]):
    """An iterable dataset whose samples are objects: `(name, content)`.

    They are read by GetBatch, the next ones while the training works on these; with `etl_name`, which has each object transformed by that
    ETL, one by one. `show_progress` shows a bar. Other arguments are those of `AISBaseIterDataset`. An object that is gone raises
    `SampleNotFound`, which is `ErrObjNotFound` and `FileNotFoundError`.
    """

    def __init__(
        self,
        ais_source_list: Sources,
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
            ais_source_list,
            prefix_map,
            partition_sources_by_worker,
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        self._etl_name = etl_name
        self._show_progress = show_progress

    def __iter__(self) -> Iterator[Sample]:
        etl_name = self._etl_name
        if etl_name:
            return self._objects(
                lambda positions: read_one_by_one(self._index, positions, etl_name), self._show_progress
            )
        return self._objects(lambda positions: stream(self._index, positions, _AHEAD), self._show_progress)
