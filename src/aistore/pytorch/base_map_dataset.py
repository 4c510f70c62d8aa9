"""What map-style datasets have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, TypeVar

from aistore.pytorch._index import Index, checked_sources
from aistore.pytorch._torch import Dataset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aistore.pytorch._index import Prefixes, Sources
    from aistore.sdk.obj.object import Object

__all__ = ["AISBaseMapDataset"]

T = TypeVar("T")


class AISBaseMapDataset(ABC, Dataset, Generic[T]):
    """A map-style dataset over the objects of some sources; subclasses say in `__getitem__` what a sample is.

    `ais_source_list` is a bucket or a group of objects, or a list of them; `prefix_map` says for some of them which prefixes of names are
    wanted. The objects are listed once, here, and workers share what was listed; what is stored later is not in the dataset.

    Raises ValueError for no source, and for prefixes of one that is not in the list.
    """

    def __init__(self, ais_source_list: Sources, prefix_map: Prefixes = {}) -> None:  # noqa: B006  the documented default; never changed
        self._ais_source_list = checked_sources(self, ais_source_list, prefix_map)
        self._index = Index(self._ais_source_list, prefix_map)
        self._obj_list: list[Object] | None = None

    @abstractmethod
    def __getitem__(self, index: int) -> T:
        """The sample at an index."""

    def __getitems__(self, indices: Sequence[int]) -> list[T]:
        """The samples of a batch: what a `DataLoader` asks for."""
        return [self[index] for index in indices]

    def __len__(self) -> int:
        return len(self._index)

    def get_obj_list(self) -> list[Object]:
        """The objects of the dataset, made when they are first asked for."""
        if self._obj_list is None:
            self._obj_list = [self._index.object(at) for at in range(len(self._index))]
        return self._obj_list

    @property
    def fingerprint(self) -> str:
        """What tells whether two datasets have the same objects, in the same order."""
        return self._index.fingerprint

    def _at(self, index: int) -> int:
        """An index from the start. Raises IndexError for one outside of the dataset, and TypeError for what is no index."""
        if not hasattr(index, "__index__"):
            raise TypeError(f"<{type(self).__name__}> {index!r} is no index: samples have numbers, from 0 on")
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"<{type(self).__name__}> index must be in bounds of dataset")
        return at

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_obj_list": None}
