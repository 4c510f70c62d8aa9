"""What the samples of a data set are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.sdk.dataset._shards import Shards

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.sdk.dataset.config_attribute import ConfigAttribute
    from aistore.sdk.dataset.data_attribute import DataAttribute

__all__ = ["DatasetConfig"]


class DatasetConfig:
    """What samples are made of: one for every file of `primary_attribute`, with a part of each of `secondary_attributes`."""

    def __init__(
        self, primary_attribute: DataAttribute, secondary_attributes: list[ConfigAttribute] | None = None
    ) -> None:
        self.primary_attribute = primary_attribute
        self.secondary_attributes = secondary_attributes

    def generate_dataset(self, max_shard_items: int) -> Iterator[tuple[dict[str, object], list[str]]]:
        """The samples, in the order of their files' names, each with what it lacks (`ENTRY - KEY`).

        A sample's `__key__` is `sample_` and its number, with as many digits as `max_shard_items` has. None, and content or text that is
        empty, are lacking; numbers never are. Raises ValueError if two attributes have the same key.
        """
        return self._samples(self.primary_attribute.entries(), max_shard_items)

    def _samples(self, entries: list[str], max_shard_items: int) -> Iterator[tuple[dict[str, object], list[str]]]:
        digits = len(str(max_shard_items))
        attributes = (self.primary_attribute, *(self.secondary_attributes or ()))
        for number, entry in enumerate(entries):
            sample: dict[str, object] = {"__key__": f"sample_{number:0{digits}}"}
            lacking = []
            for attribute in attributes:
                key, value = attribute.get_data_for_entry(entry)
                if key in sample:
                    raise ValueError(f"two attributes of a data set have the key {key!r}: give them different names")
                if value is None or (isinstance(value, (str, bytes, bytearray)) and not value):
                    lacking.append(f"{entry} - {key}")
                else:
                    sample[key] = value
            yield sample, lacking

    def write_shards(self, skip_missing: bool, **kwargs: object) -> None:
        """Write the samples to local shards, as WebDataset reads them. Arguments and errors as for `Bucket.write_dataset`.

        Shards that are there already are replaced. `post` is called with the path of each.
        """
        for _ in Shards(self, skip_missing, kwargs).paths():
            pass
