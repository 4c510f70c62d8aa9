"""Which selection of objects is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.sdk.multiobj.object_names import ObjectNames
from aistore.sdk.multiobj.object_range import ObjectRange
from aistore.sdk.multiobj.object_template import ObjectTemplate

if TYPE_CHECKING:
    from aistore.sdk.multiobj.object_collection import ObjectCollection

__all__ = ["chosen"]


def chosen(obj_names: list[str] | None, obj_range: ObjectRange | None, obj_template: str | None) -> ObjectCollection:
    """The selection by names, range or template. Raises ValueError unless exactly one is given, and not empty."""
    if sum(one is not None for one in (obj_names, obj_range, obj_template)) != 1:
        raise ValueError("ObjectGroup accepts one and only one of: obj_names, obj_range, or obj_template")
    if obj_range is not None:
        if not isinstance(obj_range, ObjectRange):
            raise TypeError("obj_range must be of type ObjectRange")
        return obj_range
    if not (obj_names or obj_template):
        raise ValueError("Object selection must not be empty")
    return ObjectNames(obj_names) if obj_names else ObjectTemplate(obj_template or "")
