"""ETL: transform objects where they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.lazy import lazily

if TYPE_CHECKING:
    from aistore.sdk.etl.etl_config import ETLConfig
    from aistore.sdk.etl.webserver.utils import serialize_class

__all__ = ["ETLConfig", "serialize_class"]

__getattr__, __dir__ = lazily(
    __name__,
    {"ETLConfig": "aistore.sdk.etl.etl_config", "serialize_class": "aistore.sdk.etl.webserver.utils"},
)
