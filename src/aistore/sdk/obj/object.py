"""One object."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, overload

from aistore.calls.bucket_ref import BucketRef
from aistore.calls.object_handle import ObjectHandle, etl_parameters, uname_of
from aistore.sdk.obj.object_client import ObjectClient
from aistore.sdk.obj.object_reader import ObjectReader
from aistore.sdk.obj.object_writer import ObjectWriter
from aistore.sdk.provider import Provider

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    import requests

    from aistore.calls.downloads import Writable
    from aistore.http1.payload import Body
    from aistore.sdk._listing import BucketEntry
    from aistore.sdk.archive_config import ArchiveConfig
    from aistore.sdk.blob_download_config import BlobDownloadConfig
    from aistore.sdk.obj.bucket_details import BucketDetails
    from aistore.sdk.obj.multipart_upload import MultipartUpload
    from aistore.sdk.obj.object_props import ObjectProps
    from aistore.sdk.obj.object_reader import ParallelObjectReader
    from aistore.sdk.request_client import RequestClient

__all__ = ["BucketDetails", "Object"]


class Object(ObjectHandle):
    """An object of a bucket, whether it exists or not. Making one sends nothing."""

    __slots__ = ()

    _client: RequestClient

    def __init__(
        self,
        client: RequestClient,
        bck_details: BucketDetails | BucketRef,
        name: str,
        props: ObjectProps | BucketEntry | None = None,
    ) -> None:
        ref = bck_details if isinstance(bck_details, BucketRef) else _ref_of(bck_details)
        super().__init__(client, ref, name, props)

    @property
    def props(self) -> ObjectProps:
        """Its properties, requested now; they replace the cached ones."""
        return self.head()

    def head(self, props: str = "") -> ObjectProps:
        """Its properties, requested now: all that the cluster knows, or those named in `props` (protocol/20 5.3).

        What comes back has the properties as attributes, and the headers that carry them as a read-only mapping. Raises `ErrObjNotFound`.
        """
        return self._know(self._client.fetch(self._head_request(props)))

    # -- content --

    @overload
    def get_reader(
        self,
        archive_config: ArchiveConfig | None = None,
        blob_download_config: BlobDownloadConfig | None = None,
        chunk_size: int | None = None,
        etl: object = None,
        writer: Writable | None = None,
        latest: bool = False,
        byte_range: str | None = None,
        direct: bool = False,
        num_workers: None = None,
    ) -> ObjectReader: ...

    @overload
    def get_reader(
        self,
        archive_config: ArchiveConfig | None = None,
        blob_download_config: BlobDownloadConfig | None = None,
        chunk_size: int | None = None,
        etl: object = None,
        writer: Writable | None = None,
        latest: bool = False,
        byte_range: str | None = None,
        direct: bool = False,
        *,
        num_workers: int,
    ) -> ParallelObjectReader: ...

    def get_reader(
        self,
        archive_config: ArchiveConfig | None = None,
        blob_download_config: BlobDownloadConfig | None = None,
        chunk_size: int | None = None,
        etl: object = None,
        writer: Writable | None = None,
        latest: bool = False,
        byte_range: str | None = None,
        direct: bool = False,
        num_workers: int | None = None,
    ) -> ObjectReader | ParallelObjectReader:
        """A reader of its content, or of a part of it. Sends nothing yet, unless `writer` or `num_workers` is given.

        `byte_range` is a single range as in HTTP, `bytes=0-499`, `bytes=500-` or `bytes=-500`; `archive_config` selects members of an archive,
        `etl` a transformation; `blob_download_config` has a remote object fetched in parallel chunks, `latest` has it compared with its
        backend first. `chunk_size` is that of iterating. With `direct` the target that owns the object is asked, not the gateway. With
        `num_workers` ranges are read in that many threads. Into `writer` the content is copied at once.

        Raises ValueError for arguments that exclude each other.
        """
        selected = self._select(archive_config, blob_download_config, etl, latest, byte_range, direct, num_workers)
        reader = ObjectReader(ObjectClient(self._client, *selected), chunk_size, num_workers)
        if writer is not None:
            reader.copy_to(writer)
        return reader

    def get_writer(self) -> ObjectWriter:
        """A writer of its content and custom metadata. Sends nothing yet."""
        return ObjectWriter(self._client, self._ref.object_path(self._name), self._ref.query)

    def copy(self, to_obj: Object, etl: object = None, latest: bool = False, sync: bool = False) -> requests.Response:
        """Copy it to another object, of this bucket or another that exists; `etl` transforms it on the way.

        `latest` asks a remote backend for a new version first, `sync` besides drops what the cluster holds if that is gone. Raises
        `ErrObjNotFound`, `ErrBckNotFound`.
        """
        from aistore.calls.objects import copy
        from aistore.sdk._response import Response

        return Response(self._client.run(copy(*self._place, uname_of(to_obj), etl_parameters(etl), latest, sync)))

    def promote(
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
        return self._client.run(steps)

    def multipart_upload(self) -> MultipartUpload:
        """Upload it in parts, in any order and side by side. Sends nothing yet."""
        from aistore.sdk.obj.multipart_upload import MultipartUpload

        return MultipartUpload(self._client, *self._place)

    def delete(self) -> requests.Response:
        """Delete it; raises `ErrObjNotFound` if it does not exist."""
        from aistore.calls.objects import delete
        from aistore.sdk._response import Response

        return Response(self._client.run(delete(self._ref.object_path(self._name), self._ref.query)))

    def blob_download(self, chunk_size: int | None = None, num_workers: int | None = None, latest: bool = False) -> str:
        """Bring it into the cluster in ranges of `chunk_size` bytes, `num_workers` at a time; for large objects of remote buckets.

        Returns the id of the job that does (wait for it with `wait_single_node`), empty if the cluster holds it already; with `latest`,
        if it holds the version that its bucket has now.
        """
        from aistore.calls.objects import blob_download

        return self._client.run(blob_download(self._ref, self._name, chunk_size, num_workers, latest))

    # -- names that SDK 2.0 removed --

    def get(
        self,
        archive_config: ArchiveConfig | None = None,
        blob_download_config: BlobDownloadConfig | None = None,
        chunk_size: int = 32 * 1024,
        etl: object = None,
        writer: Writable | None = None,
        latest: bool = False,
        byte_range: str | None = None,
    ) -> ObjectReader:
        """Deprecated: use `get_reader`."""
        _deprecated("get", "get_reader")
        return self.get_reader(archive_config, blob_download_config, chunk_size, etl, writer, latest, byte_range)

    def head_v2(self, props: str = "") -> ObjectProps:
        """Deprecated: use `head`."""
        _deprecated("head_v2", "head")
        return self.head(props)

    def put_content(self, content: Body | str) -> requests.Response:
        """Deprecated: use `get_writer().put_content`."""
        _deprecated("put_content", "get_writer().put_content")
        return self.get_writer().put_content(content)

    def put_file(self, path: str | PathLike[str]) -> requests.Response:
        """Deprecated: use `get_writer().put_file`."""
        _deprecated("put_file", "get_writer().put_file")
        return self.get_writer().put_file(path)

    def append_content(self, content: Body, handle: str = "", flush: bool = False) -> str:
        """Deprecated: use `get_writer().append_content`."""
        _deprecated("append_content", "get_writer().append_content")
        return self.get_writer().append_content(content, handle, flush)

    def set_custom_props(self, custom_metadata: Mapping[str, str], replace_existing: bool = False) -> requests.Response:
        """Deprecated: use `get_writer().set_custom_props`."""
        _deprecated("set_custom_props", "get_writer().set_custom_props")
        return self.get_writer().set_custom_props(custom_metadata, replace_existing)


def _ref_of(details: BucketDetails) -> BucketRef:
    return BucketRef(details.name, Provider.parse(details.provider).value, details.qparams.get("namespace"))


def _deprecated(old: str, new: str) -> None:
    warnings.warn(f"Object.{old}() is deprecated: use {new}()", DeprecationWarning, stacklevel=3)


def __getattr__(name: str) -> object:
    if name == "BucketDetails":
        from aistore.sdk.obj.bucket_details import BucketDetails

        return BucketDetails
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
