"""Where shards lie."""

from __future__ import annotations

from dataclasses import dataclass

from aistore.sdk.provider import Provider

__all__ = ["DataShard"]


@dataclass
class DataShard:
    """The objects of a bucket whose names begin with `prefix`, as an ETL transforms them if one is named."""

    client_url: str
    bucket_name: str
    provider: Provider = Provider.AIS
    prefix: str = ""
    etl_name: str | None = None
