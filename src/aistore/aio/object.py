"""One object."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from aistore.aio.content import AsyncObjectClient
from aistore.aio.reader import AsyncObjectReader
from aistore.aio.writer import AsyncObjectWriter
from aistore.calls.object_handle import ObjectHandle, etl_parameters, uname_of
from aistore.calls.objects import delete

if TYPE_CHECKING:
    import requests

    from aistore.aio.multipart import AsyncMultipartUpload
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
        """Its properties, requested now: all that the cluster knows, or those named in `props` (protocol/20 5.3).

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

    async def copy(
        self, to_obj: AsyncObject, etl: object = None, latest: bool = False, sync: bool = False
    ) -> requests.Response:
        """Copy it to another object, of this bucket or another that exists; `etl` transforms it on the way.

        `latest` asks a remote backend for a new version first, `sync` besides drops what the cluster holds if that is gone. Raises
        `ErrObjNotFound`, `ErrBckNotFound`.
        """
        from aistore.calls.objects import copy
        from aistore.sdk._response import Response

        return Response(await self._client.run(copy(*self._place, uname_of(to_obj), etl_parameters(etl), latest, sync)))

    async def promote(
        self,
        path: str,
        target_id: str = "",
        recursive: bool = False,
        overwrite_dest: bool = False,
        delete_source: bool = False,
        src_not_file_share: bool = False,
    ) -> str:
        """Make objects of a file or a folder that the server reaches; returns the id of the job that does, empty if it is done already.

        A file becomes this object, or if the name ends in `/` one below it; files of a folder become objects whose names start with this
        one's. `recursive` takes subfolders too; objects that exist are left alone unless `overwrite_dest`; `delete_source` removes the
        files afterwards. Servers take files from one folder only (`ais serve --promote-root`).
        """
        from aistore.calls.objects import promote

        steps = promote(
            self._ref, self._name, str(path), target_id, recursive, overwrite_dest, delete_source, src_not_file_share
        )
        return await self._client.run(steps)

    def multipart_upload(self) -> AsyncMultipartUpload:
        """Upload it in parts, in any order and side by side. Sends nothing yet."""
        from aistore.aio.multipart import AsyncMultipartUpload

        return AsyncMultipartUpload(self._client, *self._place)

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
