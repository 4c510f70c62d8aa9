"""PyTorch datasets, samplers and a loader over objects of AIStore. They need the extra `[pytorch]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.lazy import lazily

if TYPE_CHECKING:
    from aistore.pytorch.base_map_dataset import AISBaseMapDataset
    from aistore.pytorch.map_dataset import AISMapDataset

__all__ = ["AISBaseMapDataset", "AISMapDataset"]

_HOME = {
    "AISBaseMapDataset": "aistore.pytorch.base_map_dataset",
    "AISMapDataset": "aistore.pytorch.map_dataset",
}


__getattr__ = lazily(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
