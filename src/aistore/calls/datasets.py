"""Data sets on their way into a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls.folders import put_file
from aistore.calls.progress import bar_of
from aistore.calls.steps import local
from aistore.sdk.dataset._shards import Shards

if TYPE_CHECKING:
    from aistore.calls.bucket_ref import BucketRef
    from aistore.calls.steps import Steps
    from aistore.sdk.dataset.dataset_config import DatasetConfig

__all__ = ["write_dataset"]


def write_dataset(
    ref: BucketRef, config: DatasetConfig, skip_missing: bool, options: dict[str, object], progress: bool | None
) -> Steps[None]:
    """Store the shards of a data set, one after the other, each under the path that it was written to."""
    shards = Shards(config, skip_missing, options, keep=False)
    bar = bar_of(shards, "write_dataset", progress, unit=" samples")
    if bar is not None:
        shards.on_sample = bar.update
    paths = shards.paths()
    try:
        while path := (yield from local(lambda: next(paths, None))):
            yield from put_file(ref.object_path(path), ref.query, path)
    finally:
        paths.close()
        if bar is not None:
            bar.close()
