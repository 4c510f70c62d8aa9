"""Settings of a read through the blob downloader."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BlobDownloadConfig"]


@dataclass
class BlobDownloadConfig:
    """How the cluster fetches a large remote object: chunk size ("4mb", "1MiB", bytes) and number of workers, as text."""

    chunk_size: str | None = None
    num_workers: str | None = None
