"""The documented, blocking classes. Names are loaded on first use: a program that only reads objects pays for nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aistore.sdk.ais_source import AISSource
    from aistore.sdk.archive_config import ArchiveConfig
    from aistore.sdk.blob_download_config import BlobDownloadConfig
    from aistore.sdk.bucket import Bucket
    from aistore.sdk.client import Client
    from aistore.sdk.cluster import Cluster
    from aistore.sdk.job import Job
    from aistore.sdk.list_object_flag import ListObjectFlag
    from aistore.sdk.namespace import Namespace
    from aistore.sdk.obj.object import Object
    from aistore.sdk.retry_config import ColdGetConf, RetryConfig
    from aistore.sdk.wait_result import WaitResult

__all__ = [
    "AISSource",
    "ArchiveConfig",
    "BlobDownloadConfig",
    "Bucket",
    "Client",
    "Cluster",
    "ColdGetConf",
    "Job",
    "ListObjectFlag",
    "Namespace",
    "Object",
    "RetryConfig",
    "WaitResult",
]

_HOME = {
    "AISSource": "ais_source",
    "ArchiveConfig": "archive_config",
    "BlobDownloadConfig": "blob_download_config",
    "Bucket": "bucket",
    "Client": "client",
    "Cluster": "cluster",
    "ColdGetConf": "retry_config",
    "Job": "job",
    "ListObjectFlag": "list_object_flag",
    "Namespace": "namespace",
    "Object": "obj.object",
    "RetryConfig": "retry_config",
    "WaitResult": "wait_result",
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
