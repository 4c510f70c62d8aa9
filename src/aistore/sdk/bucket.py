"""Buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls.bucket_handle import BucketHandle
from aistore.calls.bucket_ref import ref_of
from aistore.sdk.ais_source import AISSource
from aistore.sdk.enums import FLTPresence
from aistore.sdk.etl.etl_const import DEFAULT_ETL_TIMEOUT
from aistore.sdk.obj.object import Object
from aistore.sdk.provider import Provider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from os import PathLike
    from pathlib import Path
    from typing import TypeAlias

    import requests

    from aistore.calls.etl_handle import EtlHandle
    from aistore.calls.summaries import Summary
    from aistore.sdk._listing import BucketEntry, BucketList
    from aistore.sdk.dataset.dataset_config import DatasetConfig
    from aistore.sdk.list_object_flag import ListObjectFlag
    from aistore.sdk.multiobj.object_group import ObjectGroup
    from aistore.sdk.multiobj.object_range import ObjectRange
    from aistore.sdk.namespace import Namespace
    from aistore.sdk.obj.object_iterator import ObjectIterator
    from aistore.sdk.obj.object_props import ObjectProps
    from aistore.sdk.request_client import RequestClient
    from aistore.sdk.transfer import Moved, TransferSummary
    from aistore.sdk.types import NBIInfo

    # Inside of the class `object` is a method.
    Etl: TypeAlias = object
    Value: TypeAlias = object

__all__ = ["Bucket"]


class Bucket(BucketHandle, AISSource):
    """A bucket, whether it exists or not. Making one sends nothing.

    `provider` is where its content lives, `ais` for the cluster itself; `namespace` keeps buckets of the same name apart.
    """

    __slots__ = ("_client",)

    def __init__(
        self,
        name: str,
        client: RequestClient | None = None,
        provider: Provider | str = Provider.AIS,
        namespace: Namespace | None = None,
    ) -> None:
        super().__init__(name, provider, namespace)
        self._client = client

    @property
    def client(self) -> RequestClient:
        """Client that makes its requests. Raises ValueError if it has none."""
        if self._client is None:
            raise ValueError(f"bucket {self._ref} has no client: make it with client.bucket({self._ref.name!r})")
        return self._client

    @client.setter
    def client(self, client: RequestClient) -> None:
        self._client = client

    # -- the bucket itself --

    def create(self, exist_ok: bool = False) -> Bucket:
        """Make it, and return it.

        Raises `ErrBckAlreadyExists` unless `exist_ok`, and `InvalidBckProvider` for a bucket whose content lives outside of the cluster.
        """
        from aistore.calls import buckets

        self.client.run(buckets.create(self._ref, exist_ok))
        return self

    def delete(self, missing_ok: bool = False) -> None:
        """Destroy it, with all that it holds.

        Raises `ErrBckNotFound` unless `missing_ok`, and `InvalidBckProvider` for a bucket whose content lives outside of the cluster.
        """
        from aistore.calls import buckets

        self.client.run(buckets.destroy(self._ref, missing_ok))

    def evict(self, keep_md: bool = False) -> None:
        """Drop what the cluster holds of it: its data, which stays where it lives, and with it name and properties unless `keep_md`.

        Raises `InvalidBckProvider` for a bucket that lives in the cluster itself.
        """
        from aistore.calls import buckets

        self.client.run(buckets.evict(self._ref, keep_md))

    def head(self) -> requests.structures.CaseInsensitiveDict[str]:
        """Its properties: headers, in which `Ais-Bucket-Props` has the JSON document of them. Raises `ErrBckNotFound`."""
        import requests

        from aistore.calls import buckets

        return requests.structures.CaseInsensitiveDict(self.client.run(buckets.head(self._ref)).headers)

    def copy(
        self,
        to_bck: Bucket,
        prefix_filter: str = "",
        prepend: str = "",
        ext: Mapping[str, str] | None = None,
        dry_run: bool = False,
        force: bool = False,
        latest: bool = False,
        sync: bool = False,
        num_workers: int = 0,
    ) -> str:
        """Copy its objects to another bucket, which is made with the properties of this one if it does not exist; returns the id of the job.

        Only names that start with `prefix_filter` are copied. A copy is called as its original, with `prepend` in front of it and with the
        extension that `ext` has for the original's (`{"jpeg": "jpg"}`). `dry_run` only counts. `latest` asks a remote backend for new
        versions first; `sync` besides deletes from `to_bck` what is gone here. `force` runs although another job forbids it.
        """
        from aistore.calls import buckets

        steps = buckets.copy(
            self._ref, ref_of(to_bck, "to_bck"), prefix_filter, prepend, ext, dry_run, force, latest, sync, num_workers
        )
        return self.client.run(steps)

    def transform(
        self,
        etl_name: str | EtlHandle,
        to_bck: Bucket,
        timeout: str = DEFAULT_ETL_TIMEOUT,
        prefix_filter: str = "",
        prepend: str = "",
        ext: Mapping[str, str] | None = None,
        force: bool = False,
        dry_run: bool = False,
        latest: bool = False,
        sync: bool = False,
        num_workers: int = 0,
        cont_on_err: bool = False,
        etl_pipeline: list[str] | None = None,
    ) -> str:
        """Transform its objects by the ETL `etl_name` (or an `Etl`, with its pipeline), and those of `etl_pipeline` in turn, into another bucket; returns the id of the job.

        Other arguments are those of `copy`. With `dry_run` objects are transformed, but not stored. With `cont_on_err` objects that fail are
        errors of the job and not its end: `Etl.view(job_id)` tells them. `timeout` is not used by servers yet.
        """
        from aistore.calls.etl import transform_bucket

        steps = transform_bucket(
            self._ref, to_bck.ref, etl_name, etl_pipeline, timeout, prefix_filter, prepend, ext, force, dry_run, latest, sync,
            num_workers, cont_on_err,
        )  # fmt: skip
        return self.client.run(steps)

    def inspect(
        self,
        etl_name: str | EtlHandle,
        timeout: str = DEFAULT_ETL_TIMEOUT,
        prefix_filter: str = "",
        latest: bool = False,
        num_workers: int | None = None,
        etl_pipeline: list[str] | None = None,
    ) -> str:
        """Try an ETL on its objects, and store nothing; returns the id of the job. `Etl.view(job_id)` tells what failed.

        Arguments are those of `transform`.
        """
        from aistore.calls.etl import transform_bucket

        steps = transform_bucket(
            self._ref, self._ref, etl_name, etl_pipeline, timeout, prefix_filter, "", None, False, True, latest, False,
            num_workers, True,
        )  # fmt: skip
        return self.client.run(steps)

    def rename(self, to_bck_name: str) -> str:
        """Give it another name, which this object has from then on; returns the id of the job.

        Raises `InvalidBckProvider` for a bucket whose content lives outside of the cluster.
        """
        from aistore.calls import buckets

        renamed = self._renamed(to_bck_name)
        job_id = self.client.run(buckets.rename(self._ref, renamed))
        self._ref = renamed
        return job_id

    def summary(self, uuid: str = "", prefix: str = "", cached: bool = True, present: bool = True) -> Summary:
        """How many objects it has, and their sizes; of those whose names start with `prefix`.

        `uuid` is the id of a job that counts already. `cached` counts only what the cluster holds; `present` does not look up a remote bucket
        that the cluster does not know.
        """
        from aistore.calls.summaries import summary

        return self.client.run(summary(self._ref, uuid, prefix, cached, present))

    def info(
        self, flt_presence: int = FLTPresence.FLT_EXISTS, bsumm_remote: bool = True, prefix: str = ""
    ) -> tuple[str, Summary]:
        """Its properties, as JSON, and its summary; of objects whose names start with `prefix`.

        `bsumm_remote` also counts objects of a remote bucket that the cluster does not hold. Raises ValueError for a `flt_presence` that is
        none of `FLTPresence`.
        """
        from aistore.calls.summaries import info

        return self.client.run(info(self._ref, flt_presence, bsumm_remote, prefix))

    def make_request(
        self,
        method: str,
        action: str,
        value: Mapping[str, Value] | None = None,
        params: Mapping[str, Value] | None = None,
        name: str = "",
    ) -> requests.Response:
        """Send an action message to it and return the answer; `params` replace its own query parameters."""
        from aistore.calls import buckets
        from aistore.sdk._response import Response

        steps = buckets.act(self._ref, method.upper(), action, value, name, params)
        return Response(self.client.run(steps))

    # -- its objects --

    def object(self, obj_name: str, props: ObjectProps | None = None) -> Object:
        """An object of the bucket, whether it exists or not; `props` are its properties, if they are known already."""
        return Object(self._client or self.client, self._ref, obj_name, props)

    def objects(
        self,
        obj_names: list[str] | None = None,
        obj_range: ObjectRange | None = None,
        obj_template: str | None = None,
    ) -> ObjectGroup:
        """Some objects of the bucket, by exactly one of names, range or template. Raises ValueError otherwise, and for an empty selection."""
        from aistore.sdk.multiobj.object_group import ObjectGroup

        return ObjectGroup(self, obj_names, obj_range, obj_template)

    def list_objects(
        self,
        prefix: str = "",
        props: str = "",
        page_size: int = 0,
        uuid: str = "",
        continuation_token: str = "",
        flags: Iterable[ListObjectFlag] | None = None,
        target: str = "",
        inventory_name: str = "",
        start_after: str = "",
    ) -> BucketList:
        """One page of its objects, sorted by name, and the token of the next page: an empty one marks the last.

        `props` says which properties the entries have (comma-separated: name, size, checksum, atime, version, location, custom, copies;
        default name and size), `page_size` how many entries there are at most (0: as many as the server likes, 10,000 in ais buckets).
        `uuid` and `continuation_token` are those of the page before. `start_after` begins behind that name (ais buckets only, else
        NotImplementedError). `target` names the node that asks a remote backend. `inventory_name` lists what that inventory of the bucket has.
        """
        from aistore.calls import listing

        what = self._listing(prefix, props, page_size, flags, target, inventory_name, start_after)
        return self.client.run(listing.page(what, self, uuid, continuation_token))

    def list_objects_iter(
        self,
        prefix: str = "",
        props: str = "",
        page_size: int = 0,
        flags: Iterable[ListObjectFlag] | None = None,
        target: str = "",
        inventory_name: str = "",
        start_after: str = "",
    ) -> ObjectIterator:
        """Entries of its objects, one at a time; a page is requested when it is needed. Arguments as for `list_objects`."""
        from aistore.calls import listing
        from aistore.sdk.obj.object_iterator import ObjectIterator

        what = self._listing(prefix, props, page_size, flags, target, inventory_name, start_after)

        def next_page(uuid: str, continuation_token: str) -> BucketList:
            return self.client.run(listing.page(what, self, uuid, continuation_token))

        return ObjectIterator(next_page)

    def list_all_objects(
        self,
        prefix: str = "",
        props: str = "",
        page_size: int = 0,
        flags: Iterable[ListObjectFlag] | None = None,
        target: str = "",
        inventory_name: str = "",
        start_after: str = "",
    ) -> list[BucketEntry]:
        """Entries of all its objects. Arguments as for `list_objects`."""
        from aistore.calls import listing

        what = self._listing(prefix, props, page_size, flags, target, inventory_name, start_after)
        return self.client.run(listing.all_entries(what, self))

    def list_archive(
        self, archive_obj_name: str, include_archive_obj: bool = False, props: str = "", page_size: int = 0
    ) -> list[BucketEntry]:
        """Entries of the members of an archive (TAR, TGZ, TAR.LZ4, ZIP), named `archive/member`, sorted by name.

        With `include_archive_obj` the entry of the archive itself comes first. `props` and `page_size` as for `list_objects`. An archive that
        is damaged has no members here.
        """
        from aistore.calls import listing
        from aistore.sdk.list_object_flag import ListObjectFlag

        what = self._listing(archive_obj_name, props, page_size, [ListObjectFlag.ARCH_DIR], "", "", "")
        return self.client.run(listing.archive_entries(what, self, archive_obj_name, include_archive_obj))

    def list_all_objects_iter(
        self, prefix: str = "", props: str = "name,size", start_after: str = ""
    ) -> Iterator[Object]:
        """Its objects, with those properties cached that `props` names."""
        for entry in self.list_objects_iter(prefix, props, start_after=start_after):
            yield entry.object

    def list_urls(self, prefix: str = "", etl: Etl = None) -> Iterator[str]:
        """URLs of its objects whose names start with `prefix`; `etl` has them transformed when they are read."""
        for entry in self.list_objects_iter(prefix, "name"):
            yield self.object(entry.name).get_url(etl=etl)

    def create_inventory(
        self, name: str = "", prefix: str = "", props: str = "", names_per_chunk: int = 0, force: bool = False
    ) -> str:
        """Record the names that this remote bucket has now, to list from them later; returns the id of the job.

        Only names that start with `prefix` are recorded, with `props` of theirs (as for `list_objects`). `name` is that of the inventory,
        by default the job's id; it is kept in chunks of `names_per_chunk` names (2 to 640,000; 0: 20,000), which a page has unless asked for
        more. A bucket has one inventory: `force` replaces it, else a second one raises AISError.
        """
        from aistore.calls.inventories import create_inventory

        return self.client.run(create_inventory(self._ref, name, prefix, props, names_per_chunk, force))

    def show_inventory(self, name: str = "") -> dict[str, NBIInfo]:
        """Its inventory, by the name of the object that it is stored as; empty if there is none, or not one of this `name`."""
        from aistore.calls.inventories import show_inventory

        return self.client.run(show_inventory(self._ref, name))

    def destroy_inventory(self, name: str = "") -> None:
        """Remove its inventory, if there is one of this `name`; whatever its name if that is empty."""
        from aistore.calls.inventories import destroy_inventory

        self.client.run(destroy_inventory(self._ref, name))

    def put_files(
        self,
        path: str | Path,
        prefix_filter: str = "",
        pattern: str = "*",
        basename: bool = False,
        prepend: str | None = None,
        recursive: bool = False,
        dry_run: bool = False,
        verbose: bool = True,
        *,
        workers: int = 16,
        progress: bool | None = None,
    ) -> list[str]:
        """Store the files of a folder as objects, several at a time; returns the names of the objects.

        Files are those in `path`, and with `recursive` at any depth below it, that match `pattern` (as a shell does) and whose own names
        start with `prefix_filter`. Objects are named by the path below `path`, or with `basename` by the file's name alone, after `prepend`.
        `dry_run` stores nothing. `verbose` logs every file at level INFO. `workers` files are sent at a time; `progress` shows a bar (None: on
        a terminal, if it takes over a second). Raises ValueError if `path` is no directory. The first failure ends it; what is raised says
        how many files are stored by then, and each of those is stored whole.
        """
        from aistore.calls.folders import PutFiles
        from aistore.sdk._transfers import Side, carry_out

        together = Side(self.client)
        work = PutFiles(
            self._ref, together, path, prefix_filter, pattern, basename, prepend or "", recursive, dry_run, verbose
        )
        carry_out(self.client, work, workers, progress)
        return work.finished()

    def get_files(
        self,
        folder: str | PathLike[str],
        prefix: str = "",
        pattern: str = "*",
        *,
        dry_run: bool = False,
        workers: int = 16,
        progress: bool | None = None,
        on_each: Callable[[Moved], Value] | None = None,
    ) -> TransferSummary:
        """Make files of the objects whose names start with `prefix`, in folders below `folder` as their names say behind it.

        Only names whose last part matches `pattern` (as a shell does). Files that have the size and the checksum of their object already are
        left as they are, so a call that was interrupted goes on where it was. Each file appears, or is replaced, when it is complete; nothing
        is ever written outside of `folder`, whatever names and links say. What cannot be stored is told by the summary, and does not end
        the call. `on_each` is called with what was done with each name. `workers` and `progress` as for `put_files`.
        """
        return self.sync(
            to=folder,
            prefix=prefix,
            pattern=pattern,
            dry_run=dry_run,
            workers=workers,
            progress=progress,
            on_each=on_each,
        )

    def sync(
        self,
        *,
        source: str | PathLike[str] | Bucket | None = None,
        to: str | PathLike[str] | Bucket | None = None,
        prefix: str = "",
        other_prefix: str = "",
        pattern: str = "*",
        delete: bool = False,
        dry_run: bool = False,
        workers: int = 16,
        progress: bool | None = None,
        on_each: Callable[[Moved], Value] | None = None,
    ) -> TransferSummary:
        """Make this bucket like `source`, or `to` like this bucket; exactly one of them, which is a folder or another bucket.

        Names in this bucket begin with `prefix`, those of another bucket with `other_prefix`; what stands behind is the path in a folder.
        A bucket of another cluster is one of that cluster's client: content goes through this process then, else it is copied within the
        cluster. What has the same size and checksum at both ends is left as it is. `delete` removes at the destination what the source has
        no more, of what `pattern` matches. `dry_run` only counts. Buckets have to exist.

        Links and special files in a folder are left out. What fails is told by the summary, and does not end the call; an unreachable
        cluster, a missing bucket and a full disk do. Other arguments as for `get_files`.
        """
        from aistore.calls.sync_kinds import sync_of
        from aistore.calls.syncing import Choice
        from aistore.sdk._transfers import Side, carry_out

        choice = Choice(prefix, other_prefix, pattern, delete, dry_run, on_each)
        work = sync_of(self, source, to, choice, Side(self.client))
        client = to.client if isinstance(to, Bucket) else self.client
        return carry_out(client, work, workers, progress)

    def import_folder(
        self,
        folder: str | PathLike[str],
        prefix: str = "",
        pattern: str = "*",
        *,
        link: bool = False,
        dry_run: bool = False,
        workers: int = 8,
        progress: bool | None = None,
        on_each: Callable[[Moved], Value] | None = None,
    ) -> TransferSummary:
        """Make objects of the files of a folder on this machine, taken by the embedded cluster from where they lie.

        Where the file system shares blocks (Btrfs, XFS), nothing is copied and the objects stay what they are whatever becomes of the files
        (`reflink` in the summary's `how`). Elsewhere they are copied (`copy`; small ones into the catalog, `inline`), unless `link` allows hard
        links: those cost nothing either, but writing to such a file in place damages its object. Objects are named `prefix` and the path below
        the folder; what is there already, unchanged, is skipped, and links and special files are left out, as `sync` does.

        Raises ValueError for a cluster that is not an embedded one of the same user on this machine: `sync(source=...)` and `put_files` serve
        any. Other arguments as for `get_files`.
        """
        from aistore.calls.bucket_end import BucketEnd
        from aistore.calls.importing import ImportFolder
        from aistore.calls.syncing import Choice
        from aistore.local.proof import prove
        from aistore.sdk._transfers import Side, carry_out

        choice = Choice(prefix, pattern=pattern, dry_run=dry_run, on_each=on_each)
        work = ImportFolder(folder, BucketEnd(self, prefix), choice, Side(self.client), link, prove)
        return carry_out(self.client, work, workers, progress)

    def write_dataset(
        self, config: DatasetConfig, skip_missing: bool = True, *, progress: bool | None = None, **kwargs: Value
    ) -> None:
        """Store a data set as WebDataset shards: one sample for every file of the configuration's primary attribute.

        Shards are objects `PATTERN-NUMBER.tar`, `dataset-000000.tar` and so on by default, of up to `maxcount` samples (100,000) and
        `maxsize` bytes (3e9). A sample that lacks an attribute is left out, or with `skip_missing=False` written without it; either is
        told by a warning in the log. Each shard is written to the working folder first, under the object's name, and removed once it is
        stored. `progress` shows a bar (None: on a terminal, if it takes over a second). Other arguments (`pattern`, `maxcount`,
        `maxsize`, `start_shard`, `post`, `encoder`, `mtime` ...) are those of `webdataset.ShardWriter`; `post` is called with the path
        of each shard before it is stored.

        Only whole shards are stored, whatever fails; those stored before a failure stay. Raises ImportError without the package
        `webdataset`, ValueError if there is nothing to write, FileExistsError if a shard's file is there already.
        """
        from aistore.calls.datasets import write_dataset

        self.client.run(write_dataset(self._ref, config, skip_missing, kwargs, progress))

    def _listed(self, entry: BucketEntry) -> Object:
        """The object of an entry of this bucket's listing."""
        return Object(self.client, self._ref, entry.n, entry)
