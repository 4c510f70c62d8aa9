"""Objects one after the other, read by GetBatch as it is asked for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aistore.pytorch._reading import Wish, stream
from aistore.pytorch.base_iter_dataset import AISBaseIterDataset
from aistore.sdk.enums import Colocation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.pytorch._index import Prefixes, Sources
    from aistore.pytorch._reading import Sample
    from aistore.sdk.client import Client

__all__ = ["AISBatchIterDataset"]


class AISBatchIterDataset(AISBaseIterDataset["Sample"]):
    """An iterable dataset whose samples are objects, `(name, content)`, read by GetBatch, `max_batch_size` at a time.

    `output_format`, `streaming` and `colocation` are those of `Batch`. With `cont_on_err` an object that is gone is left out, and a warning is
    logged; without, it raises `SampleNotFound`. `client` sends the requests for batches, unless sources are of several
    clusters. Other arguments are those of `AISBaseIterDataset`.
    """

    def __init__(
        self,
        ais_source_list: Sources,
        client: Client,
        prefix_map: Prefixes = {},  # noqa: B006  the documented default; never changed
        show_progress: bool = False,
        max_batch_size: int = 32,
        output_format: str = ".tar",
        streaming: bool = True,
        colocation: Colocation = Colocation.NONE,
        partition_sources_by_worker: bool = False,
        cont_on_err: bool = False,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if max_batch_size < 1:
            raise ValueError(f"max_batch_size {max_batch_size!r} is not at least 1")
        super().__init__(
            ais_source_list,
            prefix_map,
            partition_sources_by_worker,
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        self._show_progress = show_progress
        self._wish = Wish(max_batch_size, output_format, streaming, colocation, client._client)
        self._cont_on_err = cont_on_err

    def __iter__(self) -> Iterator[Sample]:
        read = partial(stream, self._index, wish=self._wish, leave_out=self._cont_on_err)
        return self._objects(read, self._show_progress)
