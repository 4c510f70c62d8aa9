"""One object."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from aistore.aio.content import AsyncObjectClient
from aistore.aio.reader import AsyncObjectReader
from aistore.aio.writer import AsyncObjectWriter
from aistore.calls.object_handle import ObjectHandle
from aistore.calls.objects import delete

if TYPE_CHECKING:
    import requests

    from aistore.aio.reader import AsyncParallelObjectReader
    from aistore.aio.requests import AsyncRequestClient
    from aistore.sdk.archive_config import ArchiveConfig
    from aistore.sdk.blob_download_config import BlobDownloadConfig
    from aistore.sdk.obj.object_props import ObjectProps

__all__ = ["AsyncObject"]


class AsyncObject(ObjectHandle):
    """An object of a bucket, whether it exists or not."""

    __slots__ = ()

    _client: AsyncRequestClient

    async def head(self, props: str = "") -> ObjectProps:
        """Its properties, requested now: all that the cluster knows, or those named in `props` (`protocol/20` 5.3).

        What comes back has the properties as attributes, and the headers that carry them as a read-only mapping. Raises `ErrObjNotFound`.
        """
        return self._know(await self._client.fetch(self._head_request(props)))

    @overload
    def get_reader(
        self,
        archive_config: ArchiveConfig | None = None,
        blob_download_config: BlobDownloadConfig | None = None,
        chunk_size: int | None = None,
        etl: object = None,
        *,
        latest: bool = False,
        byte_range: str | None = None,
        direct: bool = False,
        num_workers: None = None,
    ) -> AsyncObjectReader: ...

    @overload
    def get_reader(
        self,
        archive_config: ArchiveConfig | None = None,
        blob_download_config: BlobDownloadConfig | None = None,
        chunk_size: int | None = None,
        etl: object = None,
        *,
        latest: bool = False,
        byte_range: str | None = None,
        direct: bool = False,
        num_workers: int,
    ) -> AsyncParallelObjectReader: ...

    def get_reader(
        self,
        archive_config: ArchiveConfig | None = None,
        blob_download_config: BlobDownloadConfig | None = None,
        chunk_size: int | None = None,
        etl: object = None,
        *,
        latest: bool = False,
        byte_range: str | None = None,
        direct: bool = False,
        num_workers: int | None = None,
    ) -> AsyncObjectReader | AsyncParallelObjectReader:
        """A reader of its content, or of a part of it. Sends nothing yet.

        Arguments as for the blocking `Object.get_reader`, whose `writer` is `await reader.copy_to(writer)` here; with `num_workers` ranges
        are read by that many tasks. Raises ValueError for arguments that exclude each other.
        """
        selected = self._select(archive_config, blob_download_config, etl, latest, byte_range, direct, num_workers)
        return AsyncObjectReader(AsyncObjectClient(self._client, *selected), chunk_size, num_workers)

    def get_writer(self) -> AsyncObjectWriter:
        """A writer of its content and custom metadata. Sends nothing yet."""
        return AsyncObjectWriter(self._client, self._ref.object_path(self._name), self._ref.query)

    async def delete(self) -> requests.Response:
        """Delete it; raises `ErrObjNotFound` if it does not exist."""
        from aistore.sdk._response import Response

        return Response(await self._client.run(delete(self._ref.object_path(self._name), self._ref.query)))

    async def blob_download(
        self, chunk_size: int | None = None, num_workers: int | None = None, latest: bool = False
    ) -> str:
        """Bring it into the cluster in ranges of `chunk_size` bytes, `num_workers` at a time; for large objects of remote buckets.

        Returns the id of the job that does (wait for it with `wait_single_node`), empty if the cluster holds it already; with `latest`,
        if it holds the version that its bucket has now.
        """
        from aistore.calls.objects import blob_download

        return await self._client.run(blob_download(self._ref, self._name, chunk_size, num_workers, latest))
