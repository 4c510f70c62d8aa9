"""Messages and records of the protocol as users construct and inspect them.

The models stand for JSON documents; `as_dict()` gives the document where its names differ from those of the fields. Entries and pages
of listings are `msgspec` structs, because there are millions of them.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  pydantic evaluates it
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, RootModel

from aistore.sdk._etl_models import (
    EnvVar,
    ETLDetails,
    ETLInfo,
    ETLInitMsg,
    ETLNodeLogs,
    ETLObjError,
    ETLRuntimeSpec,
    ETLSpecMsg,
    InitETLArgs,
    InitSpecETLArgs,
)
from aistore.sdk._listing import BucketEntry, BucketList
from aistore.sdk.list_object_flag import ListObjectFlag
from aistore.sdk.namespace import Namespace
from aistore.wire.values import ZERO_TIME

__all__ = [
    "ActionMsg",
    "AggregatedJobSnap",
    "ArchiveMultiObj",
    "BlobMsg",
    "BsummCtrlMsg",
    "BucketEntry",
    "BucketList",
    "BucketModel",
    "CopyBckMsg",
    "CreateNBIMsg",
    "ETLDetails",
    "ETLInfo",
    "ETLInitMsg",
    "ETLNodeLogs",
    "ETLObjError",
    "ETLRuntimeSpec",
    "ETLSpecMsg",
    "EnvVar",
    "InitETLArgs",
    "InitSpecETLArgs",
    "JobArgs",
    "JobQuery",
    "JobSnap",
    "JobStats",
    "JobStatus",
    "ListObjectsMsg",
    "MptCompletedPart",
    "NBIInfo",
    "NetInfo",
    "PrefetchMsg",
    "PromoteAPIArgs",
    "Smap",
    "Snode",
    "TCBckMsg",
    "TCMultiObj",
    "TransformBckMsg",
]

# What JSON can hold; the protocol leaves the contents of some members open.
Document = dict[str, Any]

# Flags of nodes that take no requests: in maintenance, being decommissioned (protocol/00 12.2).
_INACTIVE = 4 | 8


class ActionMsg(BaseModel):
    """Envelope of every named operation."""

    action: str
    name: str = ""
    value: Any = None


# -- cluster map --


class NetInfo(BaseModel):
    """One network address of a node."""

    node_hostname: str = ""
    daemon_port: str = ""
    direct_url: str = ""


class Snode(BaseModel):
    """A node: gateway (`proxy`) or target."""

    daemon_id: str
    daemon_type: str
    public_net: NetInfo | None = None
    intra_control_net: NetInfo | None = None
    intra_data_net: NetInfo | None = None
    flags: int = 0
    id_digest: int = 0

    def in_maint_or_decomm(self) -> bool:
        """Whether the node takes no requests at the moment."""
        return bool(self.flags & _INACTIVE)


class Smap(BaseModel):
    """The cluster map: targets and gateways by id, and the primary gateway (`proxy_si`)."""

    tmap: Mapping[str, Snode]
    pmap: Mapping[str, Snode]
    proxy_si: Snode
    version: int = 0
    uuid: str = ""
    creation_time: str = ""

    def get_target_for_object(self, uname: str) -> Snode:
        """Target that owns the object of this unique name (protocol/00 10.1); raises `NoTargetError` if none is active."""
        from aistore.wire.hrw import owner

        active = {id_: node.id_digest for id_, node in self.tmap.items() if not node.in_maint_or_decomm()}
        if not active:
            from aistore.sdk.errors import NoTargetError

            raise NoTargetError(len(self.tmap))
        return self.tmap[owner(uname, active)]


# -- buckets --


class BucketModel(BaseModel):
    """A bucket as messages and lists name it."""

    name: str
    provider: str
    namespace: Namespace | None = None

    def as_dict(self) -> Document:
        """Document of the bucket; without a namespace there is no such member."""
        document: Document = {"name": self.name, "provider": self.provider}
        if self.namespace is not None:
            document["namespace"] = self.namespace.model_dump()
        return document

    def get_path(self) -> str:
        """Unique name of the bucket: `ais/@#/data/`."""
        return f"{self.provider}/{(self.namespace or Namespace()).get_path()}/{self.name}/"


class BsummCtrlMsg(BaseModel):
    """Arguments of a bucket summary."""

    uuid: str
    prefix: str
    cached: bool
    present: bool


class ListObjectsMsg(BaseModel):
    """Arguments of an object listing."""

    prefix: str
    page_size: int
    uuid: str
    props: str
    continuation_token: str
    flags: list[ListObjectFlag]
    target: str
    start_after: str = ""

    def as_dict(self) -> Document:
        """Document of the message (protocol/10 17)."""
        document: Document = {
            "prefix": self.prefix,
            "pagesize": self.page_size,
            "uuid": self.uuid,
            "props": self.props,
            "continuation_token": self.continuation_token,
            "flags": str(ListObjectFlag.join_flags(self.flags)),
            "target": self.target,
        }
        if self.start_after:
            document["start_after"] = self.start_after
        return document


class CopyBckMsg(BaseModel):
    """Arguments of a copy, alone or as a part of a transformation."""

    prefix: str = ""
    prepend: str
    dry_run: bool
    force: bool
    latest: bool
    sync: bool

    def as_dict(self) -> Document:
        """Document of the message (protocol/10 14)."""
        return {
            "prefix": self.prefix,
            "prepend": self.prepend,
            "dry_run": self.dry_run,
            "force": self.force,
            "latest-ver": self.latest,
            "synchronize": self.sync,
        }


class TransformBckMsg(BaseModel):
    """Arguments of a transformation: names of the ETLs, and the time each object may take."""

    etl_name: str
    etl_pipeline: list[str] | None = None
    timeout: str

    def as_dict(self) -> Document:
        """Document of the message (protocol/10 15)."""
        return {"id": self.etl_name, "request_timeout": self.timeout, "pipeline": self.etl_pipeline}


class TCBckMsg(BaseModel):
    """Arguments of a bucket's copy or transformation."""

    ext: dict[str, str] | None = None
    copy_msg: CopyBckMsg | None = None
    transform_msg: TransformBckMsg | None = None
    num_workers: int | None = None
    cont_on_err: bool = False

    def as_dict(self) -> Document:
        """Document of the message; what is not set is left out."""
        document: Document = {}
        if self.ext:
            document["ext"] = self.ext
        if self.num_workers:
            document["num-workers"] = self.num_workers
        if self.cont_on_err:
            document["coer"] = True
        for part in (self.copy_msg, self.transform_msg):
            if part is not None:
                document.update(part.as_dict())
        return document


class CreateNBIMsg(BaseModel):
    """Arguments of a bucket inventory."""

    name: str = ""
    names_per_chunk: int = 0
    force: bool = False
    prefix: str = ""
    props: str = ""
    flags: str = "0"

    def as_dict(self) -> Document:
        """Document of the message: only what differs from the defaults."""
        return self.model_dump(exclude_defaults=True)


class NBIInfo(BaseModel):
    """A stored bucket inventory; times are Unix nanoseconds."""

    bucket: str = ""
    name: str = ""
    obj_name: str = ""
    size: int = 0
    prefix: str = ""
    started: int = 0
    finished: int = 0
    ntotal: int = 0
    smap_ver: int = 0
    chunks: int = 0
    nat: int = 0


# -- objects --


class PromoteAPIArgs(BaseModel):
    """Arguments of a promotion."""

    target_id: str = ""
    source_path: str = ""
    object_name: str = ""
    recursive: bool = False
    overwrite_dest: bool = False
    delete_source: bool = False
    src_not_file_share: bool = False

    def as_dict(self) -> Document:
        """Document of the message (protocol/20 12)."""
        return {
            "tid": self.target_id,
            "src": self.source_path,
            "obj": self.object_name,
            "rcr": self.recursive,
            "ovw": self.overwrite_dest,
            "dls": self.delete_source,
            "notshr": self.src_not_file_share,
        }


class BlobMsg(BaseModel):
    """Arguments of a blob download; `chunk_size` in bytes."""

    chunk_size: int | None = None
    num_workers: int | None = None
    latest: bool

    def as_dict(self) -> Document:
        """Document of the message; what is not set is left out."""
        document: Document = {"latest-ver": self.latest}
        if self.chunk_size:
            document["chunk-size"] = self.chunk_size
        if self.num_workers:
            document["num-workers"] = self.num_workers
        return document


class MptCompletedPart(BaseModel):
    """One part of a multipart upload that is being completed."""

    part_number: int
    etag: str = ""

    def as_dict(self) -> Document:
        """Document of the part."""
        return {"part-number": self.part_number, "etag": self.etag}


# -- many objects; `object_selection` is what an ObjectCollection's get_value() gives --


class PrefetchMsg(BaseModel):
    """Arguments of a prefetch; `blob_threshold` in bytes."""

    object_selection: Document
    continue_on_err: bool
    latest: bool
    blob_threshold: int | None = None
    num_workers: int | None = None

    def as_dict(self) -> Document:
        """Document of the message; what is not set is left out."""
        document: Document = {**self.object_selection, "coer": self.continue_on_err, "latest-ver": self.latest}
        if self.blob_threshold:
            document["blob-threshold"] = self.blob_threshold
        if self.num_workers:
            document["num-workers"] = self.num_workers
        return document


class TCMultiObj(BaseModel):
    """Arguments of a copy or transformation of many objects."""

    to_bck: BucketModel
    tc_msg: TCBckMsg | None = None
    continue_on_err: bool
    object_selection: Document
    num_workers: int | None = None

    def as_dict(self) -> Document:
        """Document of the message."""
        document: Document = dict(self.object_selection)
        if self.tc_msg is not None:
            document.update(self.tc_msg.as_dict())
        document["tobck"] = self.to_bck.model_dump()
        document["coer"] = self.continue_on_err
        if self.num_workers:
            document["num-workers"] = self.num_workers
        return document


class ArchiveMultiObj(BaseModel):
    """Arguments of an archive made of many objects."""

    archive_name: str
    to_bck: BucketModel
    mime: str | None = None
    include_source_name: bool = False
    allow_append: bool = False
    continue_on_err: bool = False
    object_selection: Document

    def as_dict(self) -> Document:
        """Document of the message (protocol/10 23.6)."""
        document: Document = {
            **self.object_selection,
            "archname": self.archive_name,
            "isbn": self.include_source_name,
            "aate": self.allow_append,
            "coer": self.continue_on_err,
        }
        if self.mime:
            document["mime"] = self.mime
        document["tobck"] = self.to_bck.model_dump()
        return document


# -- jobs --


class JobArgs(BaseModel):
    """Arguments by which jobs are started, stopped and asked for."""

    id: str = ""
    kind: str = ""
    daemon_id: str = ""
    bucket: BucketModel | None = None
    buckets: list[BucketModel] | None = None

    def as_dict(self) -> Document:
        """Document of the message (protocol/30 4); buckets stay models."""
        return {
            "ID": self.id,
            "Kind": self.kind,
            "DaemonID": self.daemon_id,
            "Bck": self.bucket,
            "Buckets": self.buckets,
        }


class JobQuery(BaseModel):
    """What lists of jobs are restricted to."""

    active: bool = False
    kind: str = ""
    target: str = ""

    def as_dict(self) -> Document:
        """Document of the message (protocol/30 6)."""
        return {"kind": self.kind, "node": self.target, "show_active": self.active}


class JobStatus(BaseModel):
    """State of a job in the whole cluster; `end_time` in Unix nanoseconds, 0 while it runs."""

    uuid: str = ""
    err: str = ""
    end_time: int = 0
    aborted: bool = False


class JobStats(BaseModel):
    """Counters of a job on one target: done there, sent to and received from other targets."""

    model_config = ConfigDict(populate_by_name=True)

    objects: int = Field(default=0, alias="loc-objs")
    bytes: int = Field(default=0, alias="loc-bytes")
    out_objects: int = Field(default=0, alias="out-objs")
    out_bytes: int = Field(default=0, alias="out-bytes")
    in_objects: int = Field(default=0, alias="in-objs")
    in_bytes: int = Field(default=0, alias="in-bytes")


class JobSnap(BaseModel):
    """A job on one target; times are RFC 3339 text, the zero time stands for "not yet"."""

    model_config = ConfigDict(populate_by_name=True)

    id: str = ""
    kind: str = ""
    start_time: str = Field(default="", alias="start-time")
    end_time: str = Field(default="", alias="end-time")
    bucket: BucketModel | None = Field(default=None, alias="bck")
    source_bck: BucketModel | None = Field(default=None, alias="src-bck")
    destination_bck: BucketModel | None = Field(default=None, alias="dst-bck")
    stats: JobStats | None = None
    aborted: bool = False
    is_idle: bool = False
    abort_err: str = Field(default="", alias="abort-err")
    packed: int = Field(default=0, alias="glob.id")

    def unpack_glob_id(self) -> tuple[int, int, int]:
        """Number of joggers, number of workers, and how often the work channel was full."""
        return self.packed & 1023, (self.packed >> 10) & 1023, self.packed >> 20


class AggregatedJobSnap(RootModel[dict[str, list[JobSnap]]]):
    """Snapshots of jobs by target id."""

    @property
    def snapshots(self) -> dict[str, list[JobSnap]]:
        """The mapping itself."""
        return self.root

    def list_snapshots(self) -> list[JobSnap]:
        """All snapshots, whatever their target."""
        return [snap for snaps in self.root.values() for snap in snaps]

    def get_num_workers(self) -> int:
        """Number of workers that the first snapshot tells; 0 without snapshots."""
        return next((snap.unpack_glob_id()[1] for snap in self.list_snapshots()), 0)

    def all_idle(self) -> bool:
        """Whether every snapshot is idle, aborted, or has an abort error."""
        return all(snap.is_idle or snap.aborted or bool(snap.abort_err) for snap in self.list_snapshots())

    def any_aborted(self) -> bool:
        """Whether any snapshot is aborted or has an abort error."""
        return any(snap.aborted or bool(snap.abort_err) for snap in self.list_snapshots())

    def any_finished(self) -> bool:
        """Whether any snapshot is aborted or has ended."""
        return any(
            snap.aborted or bool(snap.abort_err) or snap.end_time not in ("", ZERO_TIME)
            for snap in self.list_snapshots()
        )

    def idle_or_aborted(self) -> bool:
        """Whether waiting for idleness may end: all are idle, or one was aborted."""
        return self.all_idle() or self.any_aborted()
