"""Extractors of ZIP archives."""

from __future__ import annotations

from aistore.sdk.batch.extractor.archive_stream_extractor import ArchiveStreamExtractor

__all__ = ["ZipStreamExtractor"]


class ZipStreamExtractor(ArchiveStreamExtractor):
    """ZIP. Its directory is at its end: entries come when all of it was read, into a temporary file if it is large."""

    def get_supported_formats(self) -> tuple[str, ...]:
        """`.zip`."""
        return (".zip",)
