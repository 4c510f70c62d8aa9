"""Large objects by index, each read by several threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.pytorch.base_map_dataset import AISBaseMapDataset
from aistore.pytorch.errors import SampleNotFound
from aistore.sdk.errors import ErrObjNotFound

if TYPE_CHECKING:
    from aistore.pytorch._index import Prefixes, Sources
    from aistore.sdk.obj.content_iterator.buffer import ParallelBuffer

    Sample = tuple[str, ParallelBuffer]

__all__ = ["AISParallelMapDataset"]


class AISParallelMapDataset(AISBaseMapDataset["Sample"]):
    """A map-style dataset whose samples are large objects: `(name, ParallelBuffer)`, whose ranges are read by `num_workers` threads each.

    Whoever takes a buffer closes it, or leaves it to the garbage collector; a collate function may copy what it needs. An object that is gone
    raises `SampleNotFound`.
    """

    def __init__(
        self, ais_source_list: Sources | None = None, prefix_map: Prefixes | None = None, num_workers: int = 16
    ) -> None:
        if num_workers < 1:
            raise ValueError(f"num_workers {num_workers!r} is not at least 1")
        super().__init__(ais_source_list or [], prefix_map or {})
        self._num_workers = num_workers

    @property
    def num_workers(self) -> int:
        """Number of threads that read an object."""
        return self._num_workers

    def __getitem__(self, index: int) -> Sample:
        obj = self._index.object(self._at(index))
        try:
            return obj.name, obj.get_reader(num_workers=self._num_workers).read_all()
        except ErrObjNotFound as error:
            raise SampleNotFound.of(error) from error
