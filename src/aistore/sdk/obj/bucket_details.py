"""What objects know about their bucket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aistore.sdk.provider import Provider

__all__ = ["BucketDetails"]


@dataclass
class BucketDetails:
    """Metadata about a bucket, used by objects within that bucket: `qparams` are its query parameters, `path` its unique name."""

    name: str
    provider: Provider
    qparams: dict[str, str]
    path: str


# Documented as a part of that module, which loads this one when it is asked for it: most programs never do.
BucketDetails.__module__ = "aistore.sdk.obj.object"
