"""Objects by index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.pytorch._reading import read_at_once, read_object
from aistore.pytorch.base_map_dataset import AISBaseMapDataset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aistore.pytorch._index import Prefixes, Sources
    from aistore.pytorch._reading import Sample

__all__ = ["AISMapDataset"]


class AISMapDataset(AISBaseMapDataset["Sample"]):
    """A map-style dataset whose samples are objects: `(name, content)`.

    A `DataLoader` gets each of its batches by one request (GetBatch). `etl_name` has each object transformed by that ETL, which takes a
    request for each; so is a sample of a subclass that has a `__getitem__` of its own, and no `__getitems__`. An object that is gone raises
    `SampleNotFound`, which is `ErrObjNotFound` and `FileNotFoundError`.
    """

    def __init__(
        self,
        ais_source_list: Sources = [],  # noqa: B006  the documented default; never changed
        prefix_map: Prefixes = {},  # noqa: B006  as above
        etl_name: str | None = None,
    ) -> None:
        super().__init__(ais_source_list, prefix_map)
        self._etl_name = etl_name

    def __getitem__(self, index: int) -> Sample:
        obj = self._index.object(self._at(index))
        return obj.name, read_object(obj, self._etl_name)

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """The samples of a batch, read by one request."""
        if self._etl_name or type(self).__getitem__ is not AISMapDataset.__getitem__:
            return super().__getitems__(indices)
        return read_at_once(self._index, [self._at(index) for index in indices])
