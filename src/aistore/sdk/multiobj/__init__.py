"""Many objects of a bucket: by names, by range, by template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.sdk.multiobj.object_collection import ObjectCollection
from aistore.sdk.multiobj.object_names import ObjectNames
from aistore.sdk.multiobj.object_range import ObjectRange
from aistore.sdk.multiobj.object_template import ObjectTemplate

if TYPE_CHECKING:
    from aistore.sdk.multiobj.object_group import ObjectGroup

__all__ = ["ObjectCollection", "ObjectGroup", "ObjectNames", "ObjectRange", "ObjectTemplate"]


def __getattr__(name: str) -> object:
    if name == "ObjectGroup":
        from aistore.sdk.multiobj.object_group import ObjectGroup

        return ObjectGroup
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
