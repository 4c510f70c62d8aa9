"""Extractors of TAR archives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.sdk.batch.extractor.archive_stream_extractor import ArchiveStreamExtractor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from aistore.calls.batch_delivery import Item
    from aistore.sdk.batch.types import MossReq, MossResp

__all__ = ["TarStreamExtractor"]


class TarStreamExtractor(ArchiveStreamExtractor):
    """TAR, compressed by gzip or not: the bytes tell."""

    def get_supported_formats(self) -> tuple[str, ...]:
        """`.tar`, `.tgz` and `.tar.gz`."""
        return (".tar", ".tgz", ".tar.gz")

    def extract(
        self,
        response: object,
        data_stream: BinaryIO,
        moss_req: MossReq,
        moss_resp: MossResp | None = None,
        *,
        buffer_size: int = 65536,
    ) -> Iterator[Item]:
        """The entries, read from the stream `buffer_size` bytes at a time; otherwise as any extractor."""
        yield from self._extract(response, data_stream, moss_req, moss_resp, buffer_size)
