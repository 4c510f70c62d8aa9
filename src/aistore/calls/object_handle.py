"""What an object knows without asking the cluster, in both faces; and how its content is selected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from aistore.calls.objects import head_request
from aistore.sdk.provider import Provider
from aistore.wire import params

if TYPE_CHECKING:
    from typing import TypeAlias

    from aistore.calls.bucket_ref import BucketRef
    from aistore.calls.steps import Answer
    from aistore.sdk._listing import BucketEntry
    from aistore.sdk.archive_config import ArchiveConfig
    from aistore.sdk.blob_download_config import BlobDownloadConfig
    from aistore.sdk.obj.object_props import ObjectProps
    from aistore.transport.request import Request

    Span: TypeAlias = tuple[int | None, int | None]
    Selected: TypeAlias = tuple[str, str, Mapping[str, str | None] | None, Span, str | None]

__all__ = ["HasBaseUrl", "ObjectHandle", "etl_parameters", "uname_of"]

_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")
_ANYWHERE: Span = (None, None)


class HasBaseUrl(Protocol):
    """The client of a face."""

    @property
    def base_url(self) -> str:
        """What the paths of calls are below."""
        ...


class ObjectHandle:
    """Name and bucket of an object, and its properties as they were last known."""

    __slots__ = ("_client", "_name", "_props", "_ref")

    def __init__(
        self, client: HasBaseUrl, ref: BucketRef, name: str, props: ObjectProps | BucketEntry | None = None
    ) -> None:
        self._client = client
        self._ref = ref
        self._name = name
        self._props = props

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
        more: dict[str, object] = {params.ARCHPATH: archpath} if archpath else {}
        more.update(etl_parameters(etl))
        from aistore.calls.query import extend

        query = extend(self._ref.query, **more)
        return f"{self._client.base_url}/{self._ref.object_path(self._name)}?{query}"

    @property
    def props_cached(self) -> ObjectProps | None:
        """Its properties as they were last known, by `head()` or a listing; None if they never were."""
        known = self._props
        if known is not None and not isinstance(known, Mapping):  # the entry of a listing
            known = self._props = known.generate_object_props()
        return known

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._ref}/{self._name}>"

    # -- for the faces --

    @property
    def _place(self) -> tuple[str, str]:
        """Path and query of its requests."""
        return self._ref.object_path(self._name), self._ref.query

    def _head_request(self, props: str) -> Request:
        return head_request(self._ref.object_path(self._name), self._ref.query, props)

    def _know(self, answer: Answer) -> ObjectProps:
        """Properties from the answer to a HEAD, which are kept."""
        from aistore.sdk.obj.object_props import ObjectProps

        found = ObjectProps(answer.head.headers).named(self._name, self._ref.name, self._ref.provider)
        self._props = found
        return found

    def _select(
        self,
        archive_config: ArchiveConfig | None,
        blob_download_config: BlobDownloadConfig | None,
        etl: object,
        latest: bool,
        byte_range: str | None,
        direct: bool,
        num_workers: int | None,
    ) -> Selected:
        """Arguments of a `Selection`. Raises ValueError for arguments that exclude each other."""
        path = self._ref.object_path(self._name)
        if (
            archive_config is None
            and byte_range is None
            and num_workers is None
            and not (latest or direct or etl or blob_download_config)
        ):
            return path, self._ref.query, None, _ANYWHERE, None
        if num_workers is not None:
            _check_workers(num_workers, byte_range, blob_download_config, etl)
        headers, span = _range_headers(byte_range, blob_download_config)
        query = _selection_query(self._ref.query, archive_config, etl, latest)
        return path, query, headers, span, self.uname if direct else None


def _selection_query(query: str, archive_config: ArchiveConfig | None, etl: object, latest: bool) -> str:
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
    return extend(query, **more)


def uname_of(to_obj: object) -> str:
    """The unique name of an object that is an argument of a call. Raises TypeError for a name, or anything else that is none."""
    if not isinstance(to_obj, ObjectHandle):
        raise TypeError(f"`to_obj` has to be an object such as bucket.object('name'), not {to_obj!r}")
    return to_obj.uname


def etl_parameters(etl: object) -> dict[str, object]:
    """Query parameters of an `ETLConfig`, or of what can be one's name (protocol/50 5.1)."""
    if not etl:
        return {}
    from aistore.sdk.etl.etl_config import ETLConfig

    found: dict[str, object] = {}
    config = etl if isinstance(etl, ETLConfig) else ETLConfig(etl)  # type: ignore[arg-type]  # a name, or an Etl
    config.update_qparams(found)
    return found


def _check_workers(
    num_workers: int, byte_range: str | None, blob_download_config: BlobDownloadConfig | None, etl: object
) -> None:
    if num_workers < 2:
        raise ValueError("`num_workers` must be at least 2.")
    for name, value in (("byte_range", byte_range), ("blob_download_config", blob_download_config), ("etl", etl)):
        if value:
            raise ValueError(f"Cannot use `num_workers` with `{name}`. Parallel download is for full object retrieval.")


def _range_headers(byte_range: str | None, blob: BlobDownloadConfig | None) -> tuple[dict[str, str | None], Span]:
    from aistore.wire import headers

    lines: dict[str, str | None] = {}
    span = _ANYWHERE
    if blob is not None:
        if byte_range:
            raise ValueError("Cannot use `byte_range` with `blob_download_config`.")
        lines[headers.BLOB_DOWNLOAD] = "true"
        lines[headers.BLOB_CHUNK] = blob.chunk_size
        lines[headers.BLOB_WORKERS] = blob.num_workers
    if byte_range:
        found = _RANGE.fullmatch(byte_range)
        if found is None or byte_range == "bytes=-":
            raise ValueError(f"byte_range {byte_range!r} is not one range: write bytes=0-499, bytes=500- or bytes=-500")
        lines["Range"] = byte_range
        first, last = found.groups()
        span = (int(first) if first else None, int(last) if last else None)
    return lines, span
