"""Which selection of objects is meant."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from aistore.sdk.multiobj.object_names import ObjectNames
from aistore.sdk.multiobj.object_range import ObjectRange
from aistore.sdk.multiobj.object_template import ObjectTemplate
from aistore.wire.template import MAX_NAMES

if TYPE_CHECKING:
    from aistore.sdk.multiobj.object_collection import ObjectCollection

__all__ = ["chosen", "listed"]


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


def listed(collection: ObjectCollection) -> list[str]:
    """All names of a selection. Raises ValueError where they are more than a cluster takes."""
    names = list(islice(collection, MAX_NAMES + 1))
    if len(names) > MAX_NAMES:
        raise ValueError(f"{collection!r} has more than {MAX_NAMES:,} names; iterate over its objects or URLs instead")
    return names
