"""The asyncio classes: the same calls as in `aistore.sdk`, awaited. Nothing that does I/O is a property.

Values (`Namespace`, `ListObjectFlag`, `ObjectRange`, `RetryConfig`, errors, ...) are those of `aistore.sdk`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.lazy import lazily

if TYPE_CHECKING:
    from aistore.aio.authn import (
        AsyncAccessKeyManager,
        AsyncAuthNClient,
        AsyncClusterManager,
        AsyncRoleManager,
        AsyncTokenManager,
        AsyncUserManager,
    )
    from aistore.aio.batch import AsyncBatch
    from aistore.aio.bucket import AsyncBucket
    from aistore.aio.client import AsyncClient
    from aistore.aio.cluster import AsyncCluster
    from aistore.aio.dsort import AsyncDsort
    from aistore.aio.etl import AsyncEtl
    from aistore.aio.files import AsyncObjectFileReader, AsyncObjectFileWriter
    from aistore.aio.group import AsyncObjectGroup
    from aistore.aio.job import AsyncJob
    from aistore.aio.multipart import AsyncMultipartUpload
    from aistore.aio.object import AsyncObject
    from aistore.aio.reader import AsyncObjectReader
    from aistore.aio.writer import AsyncObjectWriter

__all__ = [
    "AsyncAccessKeyManager",
    "AsyncAuthNClient",
    "AsyncBatch",
    "AsyncBucket",
    "AsyncClient",
    "AsyncCluster",
    "AsyncClusterManager",
    "AsyncDsort",
    "AsyncEtl",
    "AsyncJob",
    "AsyncMultipartUpload",
    "AsyncObject",
    "AsyncObjectFileReader",
    "AsyncObjectFileWriter",
    "AsyncObjectGroup",
    "AsyncObjectReader",
    "AsyncObjectWriter",
    "AsyncRoleManager",
    "AsyncTokenManager",
    "AsyncUserManager",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AsyncAccessKeyManager": "aistore.aio.authn",
        "AsyncAuthNClient": "aistore.aio.authn",
        "AsyncBatch": "aistore.aio.batch",
        "AsyncBucket": "aistore.aio.bucket",
        "AsyncClient": "aistore.aio.client",
        "AsyncCluster": "aistore.aio.cluster",
        "AsyncClusterManager": "aistore.aio.authn",
        "AsyncDsort": "aistore.aio.dsort",
        "AsyncEtl": "aistore.aio.etl",
        "AsyncJob": "aistore.aio.job",
        "AsyncMultipartUpload": "aistore.aio.multipart",
        "AsyncObject": "aistore.aio.object",
        "AsyncObjectFileReader": "aistore.aio.files",
        "AsyncObjectFileWriter": "aistore.aio.files",
        "AsyncObjectGroup": "aistore.aio.group",
        "AsyncObjectReader": "aistore.aio.reader",
        "AsyncObjectWriter": "aistore.aio.writer",
        "AsyncRoleManager": "aistore.aio.authn",
        "AsyncTokenManager": "aistore.aio.authn",
        "AsyncUserManager": "aistore.aio.authn",
    },
)
