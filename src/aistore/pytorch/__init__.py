"""PyTorch datasets, samplers and a loader over objects of AIStore. They need the extra `[pytorch]`; names are loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.lazy import lazily

if TYPE_CHECKING:
    from aistore.pytorch.base_iter_dataset import AISBaseIterDataset
    from aistore.pytorch.base_map_dataset import AISBaseMapDataset
    from aistore.pytorch.batch_iter_dataset import AISBatchIterDataset
    from aistore.pytorch.dynamic_sampler import DynamicBatchSampler
    from aistore.pytorch.errors import SampleNotFound, ShardError
    from aistore.pytorch.iter_dataset import AISIterDataset
    from aistore.pytorch.map_dataset import AISMapDataset
    from aistore.pytorch.multishard_dataset import AISMultiShardStream
    from aistore.pytorch.parallel_map_dataset import AISParallelMapDataset
    from aistore.pytorch.shard_reader import AISShardReader
    from aistore.pytorch.stateful_data_loader import EpochSampler, StatefulDataLoader

__all__ = [
    "AISBaseIterDataset",
    "AISBaseMapDataset",
    "AISBatchIterDataset",
    "AISIterDataset",
    "AISMapDataset",
    "AISMultiShardStream",
    "AISParallelMapDataset",
    "AISShardReader",
    "DynamicBatchSampler",
    "EpochSampler",
    "SampleNotFound",
    "ShardError",
    "StatefulDataLoader",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AISBaseIterDataset": "aistore.pytorch.base_iter_dataset",
        "AISBaseMapDataset": "aistore.pytorch.base_map_dataset",
        "AISBatchIterDataset": "aistore.pytorch.batch_iter_dataset",
        "AISIterDataset": "aistore.pytorch.iter_dataset",
        "AISMapDataset": "aistore.pytorch.map_dataset",
        "AISMultiShardStream": "aistore.pytorch.multishard_dataset",
        "AISParallelMapDataset": "aistore.pytorch.parallel_map_dataset",
        "AISShardReader": "aistore.pytorch.shard_reader",
        "DynamicBatchSampler": "aistore.pytorch.dynamic_sampler",
        "EpochSampler": "aistore.pytorch.stateful_data_loader",
        "SampleNotFound": "aistore.pytorch.errors",
        "ShardError": "aistore.pytorch.errors",
        "StatefulDataLoader": "aistore.pytorch.stateful_data_loader",
    },
)
