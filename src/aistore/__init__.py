"""AIStore for Python: the SDK (blocking and asyncio) and a complete AIStore server for one machine.

Names are loaded on first use, so that `import aistore` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.beside import warn_if_overlaid
from aistore.lazy import lazily
from aistore.version import __version__

if TYPE_CHECKING:
    from aistore.aio import AsyncClient
    from aistore.local import LocalCluster
    from aistore.sdk.client import Client
    from aistore.sdk.errors import AISError

__all__ = ["AISError", "AsyncClient", "Client", "LocalCluster", "__version__"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AISError": "aistore.sdk.errors",
        "AsyncClient": "aistore.aio",
        "Client": "aistore.sdk.client",
        "LocalCluster": "aistore.local",
    },
)


warn_if_overlaid()
