"""Content of objects in chunks: one stream, or many ranges at once."""

from __future__ import annotations

from aistore.sdk.obj.content_iterator.base import BaseContentIterProvider
from aistore.sdk.obj.content_iterator.buffer import ParallelBuffer
from aistore.sdk.obj.content_iterator.parallel import ParallelContentIterProvider
from aistore.sdk.obj.content_iterator.sequential import ContentIterProvider

__all__ = [
    "BaseContentIterProvider",
    "ContentIterProvider",
    "ParallelBuffer",
    "ParallelContentIterProvider",
]
