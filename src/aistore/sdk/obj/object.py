"""One object."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, overload

from aistore.calls.bucket_ref import BucketRef
from aistore.sdk.obj.object_client import ObjectClient
from aistore.sdk.obj.object_reader import ObjectReader
from aistore.sdk.obj.object_writer import ObjectWriter
from aistore.sdk.provider import Provider

if TYPE_CHECKING:
    from os import PathLike

    import requests

    from aistore.calls.copying import Writable
    from aistore.http1.payload import Body
    from aistore.sdk._listing import BucketEntry
    from aistore.sdk.archive_config import ArchiveConfig
    from aistore.sdk.blob_download_config import BlobDownloadConfig
    from aistore.sdk.obj.bucket_details import BucketDetails
    from aistore.sdk.obj.object_props import ObjectProps
    from aistore.sdk.obj.object_reader import ParallelObjectReader
    from aistore.sdk.request_client import RequestClient

__all__ = ["BucketDetails", "Object"]

_RANGE = "bytes="


class Object:
    """An object of a bucket, whether it exists or not. Making one sends nothing."""

    __slots__ = ("_client", "_name", "_props", "_ref")

    def __init__(
        self,
        client: RequestClient,
        bck_details: BucketDetails | BucketRef,
        name: str,
        props: ObjectProps | BucketEntry | None = None,
    ) -> None:
        self._client = client
        self._ref = bck_details if isinstance(bck_details, BucketRef) else _ref_of(bck_details)
        self._name = name
        self._props = props

    # -- what it is called --

    @property
    def bucket_name(self) -> str:
        """Name of its bucket."""
        return self._ref.name

    @property
    def bucket_provider(self) -> Provider:
        """Provider of its bucket."""
        return Provider.parse(self._ref.provider)

    @property
    def query_params(self) -> dict[str, str]:
        """Query parameters that all its requests have."""
        return self._ref.parameters

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def uname(self) -> str:
        """Its unique name: `ais/@#/bucket/object`."""
        return self._ref.uname + self._name

    def get_semantic_url(self) -> str:
        """`provider://bucket/object`, nothing encoded."""
        return f"{self._ref.provider}://{self._ref.name}/{self._name}"

    def get_url(self, archpath: str = "", etl: object = None) -> str:
        """URL to read it from; `archpath` selects a member of an archive, `etl` a transformation."""
        more: dict[str, object] = {"archpath": archpath} if archpath else {}
        more.update(etl_parameters(etl))
        from aistore.calls.query import extend

        query = extend(self._ref.query, **more)
        return f"{self._client.base_url}/{self._ref.object_path(self._name)}?{query}"

    # -- attributes --

    @property
    def props(self) -> ObjectProps:
        """Its properties, requested now; they replace the cached ones."""
        return self.head()

    @property
    def props_cached(self) -> ObjectProps | None:
        """Its properties as they were last known, by `head()` or a listing; None if they never were."""
        known = self._props
        if known is not None and not isinstance(known, Mapping):  # the entry of a listing
            known = self._props = known.generate_object_props()
        return known

    def head(self, props: str = "") -> ObjectProps:
        """Its properties, requested now: all that the cluster knows, or those named in `props` (`protocol/20` 5.3).

        What comes back has the properties as attributes, and the headers that carry them as a read-only mapping. Raises `ErrObjNotFound`.
        """
        from aistore.calls.objects import head_request
        from aistore.sdk.obj.object_props import ObjectProps

        ref = self._ref
        answer = self._client.fetch(head_request(ref.object_path(self._name), ref.query, props))
        self._props = ObjectProps(answer.head.headers).named(self._name, ref.name, ref.provider)
        return self._props

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
        client = self._client
        path = self._ref.object_path(self._name)
        if (
            archive_config is None
            and byte_range is None
            and num_workers is None
            and not (latest or direct or etl or blob_download_config)
        ):
            object_client = ObjectClient(client, path, self._ref.query)
        else:
            if num_workers is not None:
                _check_workers(num_workers, byte_range, blob_download_config, etl)
            headers, span = _range_headers(byte_range, blob_download_config)
            object_client = ObjectClient(
                client,
                path,
                self._selection(archive_config, etl, latest),
                headers,
                span,
                self.uname if direct else None,
            )
        reader = ObjectReader(object_client, chunk_size, num_workers)
        if writer is not None:
            reader.copy_to(writer)
        return reader

    def get_writer(self) -> ObjectWriter:
        """A writer of its content and custom metadata. Sends nothing yet."""
        return ObjectWriter(self._client, self._ref.object_path(self._name), self._ref.query)

    def delete(self) -> requests.Response:
        """Delete it; raises `ErrObjNotFound` if it does not exist."""
        from aistore.calls.objects import delete
        from aistore.sdk._response import Response

        return Response(self._client.run(delete(self._ref.object_path(self._name), self._ref.query)))

    def _selection(self, archive_config: ArchiveConfig | None, etl: object, latest: bool) -> str:
        from aistore.calls.query import extend
        from aistore.wire import params

        more: dict[str, object] = {}
        if archive_config is not None:
            more[params.ARCHPATH] = archive_config.archpath
            more[params.ARCHREGX] = archive_config.regex
            if archive_config.mode is not None:
                more[params.ARCHMODE] = getattr(archive_config.mode, "value", archive_config.mode)
        more.update(etl_parameters(etl))
        if latest:
            more[params.LATEST_VER] = "true"
        return extend(self._ref.query, **more)

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

    def __repr__(self) -> str:
        return f"<Object {self._ref}/{self._name}>"


def etl_parameters(etl: object) -> dict[str, object]:
    """Query parameters of an `ETLConfig` (`protocol/20` 4.7)."""
    if not etl:
        return {}
    found: dict[str, object] = {"etl_name": getattr(etl, "name", etl)}
    args = getattr(etl, "args", None)
    if args:
        import json

        found["etl_args"] = args if isinstance(args, str) else json.dumps(args, separators=(",", ":"))
    return found


def _ref_of(details: BucketDetails) -> BucketRef:
    return BucketRef(details.name, Provider.parse(details.provider).value, details.qparams.get("namespace"))


def _check_workers(
    num_workers: int, byte_range: str | None, blob_download_config: BlobDownloadConfig | None, etl: object
) -> None:
    if num_workers < 2:
        raise ValueError("`num_workers` must be at least 2.")
    for name, value in (("byte_range", byte_range), ("blob_download_config", blob_download_config), ("etl", etl)):
        if value:
            raise ValueError(f"Cannot use `num_workers` with `{name}`. Parallel download is for full object retrieval.")


def _range_headers(
    byte_range: str | None, blob: BlobDownloadConfig | None
) -> tuple[dict[str, str | None], tuple[int | None, int | None]]:
    from aistore.wire import headers

    lines: dict[str, str | None] = {}
    span: tuple[int | None, int | None] = (None, None)
    if blob is not None:
        if byte_range:
            raise ValueError("Cannot use `byte_range` with `blob_download_config`.")
        lines[headers.BLOB_DOWNLOAD] = "true"
        lines[headers.BLOB_CHUNK] = blob.chunk_size
        lines[headers.BLOB_WORKERS] = blob.num_workers
    if byte_range:
        lines["Range"] = byte_range
        first, _, last = byte_range[len(_RANGE) :].partition("-")
        span = (int(first) if first else None, int(last) if last else None)
    return lines, span


def _deprecated(old: str, new: str) -> None:
    warnings.warn(f"Object.{old}() is deprecated: use {new}()", DeprecationWarning, stacklevel=3)


def __getattr__(name: str) -> object:
    if name == "BucketDetails":
        from aistore.sdk.obj.bucket_details import BucketDetails

        return BucketDetails
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
