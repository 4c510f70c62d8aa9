"""The documented, blocking classes. Names are loaded on first use: a program that only reads objects pays for nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.lazy import lazily

if TYPE_CHECKING:
    from aistore.sdk.ais_source import AISSource
    from aistore.sdk.archive_config import ArchiveConfig
    from aistore.sdk.authn.authn_client import AuthNClient
    from aistore.sdk.batch.batch import Batch
    from aistore.sdk.blob_download_config import BlobDownloadConfig
    from aistore.sdk.bucket import Bucket
    from aistore.sdk.client import Client
    from aistore.sdk.cluster import Cluster
    from aistore.sdk.dataset.data_shard import DataShard
    from aistore.sdk.etl.etl import Etl
    from aistore.sdk.job import Job
    from aistore.sdk.list_object_flag import ListObjectFlag
    from aistore.sdk.namespace import Namespace
    from aistore.sdk.obj.object import Object
    from aistore.sdk.retry_config import ColdGetConf, RetryConfig
    from aistore.sdk.wait_result import WaitResult

__all__ = [
    "AISSource",
    "ArchiveConfig",
    "AuthNClient",
    "Batch",
    "BlobDownloadConfig",
    "Bucket",
    "Client",
    "Cluster",
    "ColdGetConf",
    "DataShard",
    "Etl",
    "Job",
    "ListObjectFlag",
    "Namespace",
    "Object",
    "RetryConfig",
    "WaitResult",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AISSource": "aistore.sdk.ais_source",
        "ArchiveConfig": "aistore.sdk.archive_config",
        "AuthNClient": "aistore.sdk.authn.authn_client",
        "Batch": "aistore.sdk.batch.batch",
        "BlobDownloadConfig": "aistore.sdk.blob_download_config",
        "Bucket": "aistore.sdk.bucket",
        "Client": "aistore.sdk.client",
        "Cluster": "aistore.sdk.cluster",
        "ColdGetConf": "aistore.sdk.retry_config",
        "DataShard": "aistore.sdk.dataset.data_shard",
        "Etl": "aistore.sdk.etl.etl",
        "Job": "aistore.sdk.job",
        "ListObjectFlag": "aistore.sdk.list_object_flag",
        "Namespace": "aistore.sdk.namespace",
        "Object": "aistore.sdk.obj.object",
        "RetryConfig": "aistore.sdk.retry_config",
        "WaitResult": "aistore.sdk.wait_result",
    },
)
