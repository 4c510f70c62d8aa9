"""The asyncio classes: the same calls as in `aistore.sdk`, awaited. Nothing that does I/O is a property.

Values (`Namespace`, `ListObjectFlag`, `ObjectRange`, `RetryConfig`, errors, ...) are those of `aistore.sdk`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aistore.aio.bucket import AsyncBucket
    from aistore.aio.client import AsyncClient
    from aistore.aio.cluster import AsyncCluster
    from aistore.aio.files import AsyncObjectFileReader, AsyncObjectFileWriter
    from aistore.aio.group import AsyncObjectGroup
    from aistore.aio.job import AsyncJob
    from aistore.aio.object import AsyncObject
    from aistore.aio.reader import AsyncObjectReader
    from aistore.aio.writer import AsyncObjectWriter

__all__ = [
    "AsyncBucket",
    "AsyncClient",
    "AsyncCluster",
    "AsyncJob",
    "AsyncObject",
    "AsyncObjectFileReader",
    "AsyncObjectFileWriter",
    "AsyncObjectGroup",
    "AsyncObjectReader",
    "AsyncObjectWriter",
]

_HOME = {
    "AsyncBucket": "bucket",
    "AsyncClient": "client",
    "AsyncCluster": "cluster",
    "AsyncJob": "job",
    "AsyncObject": "object",
    "AsyncObjectFileReader": "files",
    "AsyncObjectFileWriter": "files",
    "AsyncObjectGroup": "group",
    "AsyncObjectReader": "reader",
    "AsyncObjectWriter": "writer",
}


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
