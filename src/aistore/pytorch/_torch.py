"""The one place where PyTorch is imported: where it is missing, the error names the extra that brings it."""

from __future__ import annotations

try:
    import torch
    from torch import Tensor
    from torch.utils.data import (
        BatchSampler,
        DataLoader,
        Dataset,
        IterableDataset,
        Sampler,
        SequentialSampler,
        default_collate,
        default_convert,
        get_worker_info,
    )
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        "aistore.pytorch needs PyTorch: pip install 'aistore-py[pytorch]'", name="torch"
    ) from error

__all__ = [
    "BatchSampler",
    "DataLoader",
    "Dataset",
    "IterableDataset",
    "Sampler",
    "SequentialSampler",
    "Tensor",
    "default_collate",
    "default_convert",
    "get_worker_info",
    "torch",
]
