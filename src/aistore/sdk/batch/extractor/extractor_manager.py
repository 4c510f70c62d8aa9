"""The extractors, as official 1.17 has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.sdk.batch.extractor.extractor_registry import get_extractor

if TYPE_CHECKING:
    from aistore.sdk.batch.extractor.archive_stream_extractor import ArchiveStreamExtractor

__all__ = ["ExtractorManager"]


class ExtractorManager:
    """Knows an extractor for each format."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Arguments are accepted and mean nothing."""

    def get_extractor(self, output_format: str) -> ArchiveStreamExtractor:
        """The extractor of a format. Raises ValueError if there is none."""
        return get_extractor(output_format)
