"""Where clients of the earliest releases found `Client` and `Bck`; new code imports from `aistore.sdk`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aistore.sdk.client import Client
    from aistore.sdk.types import BucketModel as Bck

__all__ = ["Bck", "Client"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: type
    if name == "Client":
        from aistore.sdk.client import Client

        found = Client
    else:
        from aistore.sdk.types import BucketModel

        found = BucketModel
    warnings.warn(
        f"aistore.client.{name} is deprecated: import {found.__name__} from {found.__module__}",
        DeprecationWarning,
        stacklevel=2,
    )
    return found
