"""What a dSort job is to do (protocol/40 B3, B8)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, model_validator

from aistore.calls.dsort import read_specification
from aistore.sdk.dsort.ekm import ExternalKeyMap
from aistore.sdk.multiobj.object_names import ObjectNames
from aistore.sdk.multiobj.object_range import ObjectRange
from aistore.sdk.types import BucketModel
from aistore.wire.dsort import CONTENT

__all__ = ["DsortAlgorithm", "DsortFramework", "DsortShardsGroup"]

Document = dict[str, Any]

_INPUT: Final = "input"
_OUTPUT: Final = "output"


class DsortShardsGroup:
    """Shards that a job reads (`role` is "input") or writes ("output"): their bucket, names and extension.

    Input shards are `ObjectNames` or an `ObjectRange`, output shards an `ObjectRange` or an `ExternalKeyMap`; ValueError for anything else.
    """

    def __init__(
        self,
        bck: BucketModel,
        role: Literal["input", "output"],
        format: ObjectNames | ObjectRange | ExternalKeyMap,  # noqa: A002  the documented name
        extension: str,
    ) -> None:
        if role not in (_INPUT, _OUTPUT):
            raise ValueError('role must be either "input" or "output"')
        if role == _INPUT and not isinstance(format, (ObjectNames, ObjectRange)):
            raise ValueError('format of input role must be an instance of "ObjectNames" or "ObjectRange"')
        if role == _OUTPUT and not isinstance(format, (ObjectRange, ExternalKeyMap)):
            raise ValueError('format of output role must be an instance of "ObjectRange" or "ExternalKeyMap"')
        self.bck = bck
        self.role = role
        self.format = format
        self.extension = extension

    def as_dict(self) -> Document:
        """The group as it is sent; of a key map, which is sent apart, an empty format."""
        shown: object = ""
        if self.role == _INPUT and not isinstance(self.format, ExternalKeyMap):
            shown = self.format.get_value()
        elif isinstance(self.format, ObjectRange):
            shown = str(self.format)
        return {
            f"{self.role}_bck": self.bck.as_dict(),
            f"{self.role}_format": shown,
            f"{self.role}_extension": self.extension,
        }


class DsortAlgorithm(BaseModel):
    """How records are ordered: by name, shuffled (`seed`, a number as text, makes that repeatable), or by content.

    A sort by content takes as key the member with this `extension`, read as `content_key_type`; both are for it only.
    `md5` orders by a hash of the name, `none` not at all.
    """

    kind: Literal["alphanumeric", "shuffle", "content", "md5", "none"] = "alphanumeric"
    decreasing: bool = False
    seed: str = ""
    extension: str | None = None
    content_key_type: Literal["int", "float", "string"] | None = None

    @model_validator(mode="after")
    def validate_content_fields(self) -> DsortAlgorithm:
        """Refuse a sort by content without its fields, and others with them."""
        if self.kind == CONTENT:
            if self.extension is None or self.content_key_type is None:
                raise ValueError('extension and content_key_type are required for algorithm kind "content"')
        elif self.extension is not None or self.content_key_type is not None:
            raise ValueError('extension and content_key_type are only for algorithm kind "content"')
        return self

    def as_dict(self) -> Document:
        """The algorithm as it is sent."""
        return self.model_dump(exclude_none=True)


class DsortFramework:
    """What a job is to do: input and output shards, order, a description, and the size of an output shard such as `10MB`.

    Without a size the records are spread over all names of the output shards.
    """

    def __init__(
        self,
        input_shards: DsortShardsGroup,
        output_shards: DsortShardsGroup,
        algorithm: DsortAlgorithm | None = None,
        description: str | None = None,
        output_shard_size: str | None = None,
    ) -> None:
        self.input_shards = input_shards
        self.output_shards = output_shards
        self.algorithm = DsortAlgorithm() if algorithm is None else algorithm
        self.description = description
        self.output_shard_size = output_shard_size

    @classmethod
    def from_file(cls, spec: Path | str) -> DsortFramework:
        """The specification in a JSON or YAML file. Raises ValueError for what is none, or says more than a framework can."""
        return cls.from_spec(read_specification(Path(spec)))

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> DsortFramework:
        """The specification that a mapping is. Raises ValueError."""
        names = spec.get("input_format")
        if not isinstance(names, Mapping) or not (names.get("template") or names.get("objnames")):
            raise ValueError("input_format must be a mapping with a template or a list of names (objnames)")
        output = spec.get("output_format")
        if not isinstance(output, str) or not output:
            raise ValueError("output_format must be a template: start a job with a key map from the file itself")
        chosen = (
            ObjectNames(list(names["objnames"]))
            if names.get("objnames")
            else ObjectRange.from_string(names["template"])
        )
        return cls(
            DsortShardsGroup(_bucket(spec, "input_bck"), _INPUT, chosen, spec.get("input_extension", "")),
            DsortShardsGroup(
                _bucket(spec, "output_bck"),
                _OUTPUT,
                ObjectRange.from_string(output),
                spec.get("output_extension") or spec.get("input_extension", ""),
            ),
            algorithm=DsortAlgorithm.model_validate(spec.get("algorithm") or {}),
            description=spec.get("description"),
            output_shard_size=spec.get("output_shard_size"),
        )

    def to_spec(self) -> Document:
        """The specification as it is sent."""
        document = {
            **self.input_shards.as_dict(),
            **self.output_shards.as_dict(),
            "algorithm": self.algorithm.as_dict(),
            "description": self.description or "",
        }
        if self.output_shard_size is not None:
            document["output_shard_size"] = self.output_shard_size
        return document


def _bucket(spec: Mapping[str, Any], field: str) -> BucketModel:
    if not spec.get(field):
        raise ValueError(f"{field} is missing")
    return BucketModel.model_validate(spec[field])
