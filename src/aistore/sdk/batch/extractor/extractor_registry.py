"""Which extractor is for which format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.sdk.batch.extractor.tar_stream_extractor import TarStreamExtractor
from aistore.sdk.batch.extractor.zip_stream_extractor import ZipStreamExtractor

if TYPE_CHECKING:
    from aistore.sdk.batch.extractor.archive_stream_extractor import ArchiveStreamExtractor

__all__ = ["get_extractor"]


def get_extractor(output_format: str) -> ArchiveStreamExtractor:
    """The extractor of a format. Raises ValueError if there is none."""
    for extractor in (TarStreamExtractor(), ZipStreamExtractor()):
        if output_format.lower() in extractor.get_supported_formats():
            return extractor
    raise ValueError(f"no extractor for {output_format!r}")
