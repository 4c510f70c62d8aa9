"""Buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.aio.object import AsyncObject
from aistore.calls.bucket_handle import BucketHandle
from aistore.calls.bucket_ref import ref_of
from aistore.sdk.enums import FLTPresence
from aistore.sdk.etl.etl_const import DEFAULT_ETL_TIMEOUT
from aistore.sdk.provider import Provider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from os import PathLike
    from pathlib import Path
    from typing import TypeAlias

    import requests

    from aistore.aio.group import AsyncObjectGroup
    from aistore.aio.requests import AsyncRequestClient
    from aistore.calls.etl_handle import EtlHandle
    from aistore.calls.summaries import Summary
    from aistore.sdk._listing import BucketEntry, BucketList
    from aistore.sdk.dataset.dataset_config import DatasetConfig
    from aistore.sdk.list_object_flag import ListObjectFlag
    from aistore.sdk.multiobj.object_range import ObjectRange
    from aistore.sdk.namespace import Namespace
    from aistore.sdk.obj.object_props import ObjectProps
    from aistore.sdk.transfer import Moved, TransferSummary
    from aistore.sdk.types import NBIInfo

    # Inside of the class `object` is a method.
    Etl: TypeAlias = object
    Value: TypeAlias = object

__all__ = ["AsyncBucket"]


class AsyncBucket(BucketHandle):
    """A bucket, whether it exists or not.

    `provider` is where its content lives, `ais` for the cluster itself; `namespace` keeps buckets of the same name apart.
    """

    __slots__ = ("_client",)

    def __init__(
        self,
        name: str,
        client: AsyncRequestClient,
        provider: Provider | str = Provider.AIS,
        namespace: Namespace | None = None,
    ) -> None:
        super().__init__(name, provider, namespace)
        self._client = client

    @property
    def client(self) -> AsyncRequestClient:
        """Client that makes its requests."""
        return self._client

    # -- the bucket itself --

    async def create(self, exist_ok: bool = False) -> AsyncBucket:
        """Make it, and return it.

        Raises `ErrBckAlreadyExists` unless `exist_ok`, and `InvalidBckProvider` for a bucket whose content lives outside of the cluster.
        """
        from aistore.calls import buckets

        await self._client.run(buckets.create(self._ref, exist_ok))
        return self

    async def delete(self, missing_ok: bool = False) -> None:
        """Destroy it, with all that it holds.

        Raises `ErrBckNotFound` unless `missing_ok`, and `InvalidBckProvider` for a bucket whose content lives outside of the cluster.
        """
        from aistore.calls import buckets

        await self._client.run(buckets.destroy(self._ref, missing_ok))

    async def evict(self, keep_md: bool = False) -> None:
        """Drop what the cluster holds of it: its data, which stays where it lives, and with it name and properties unless `keep_md`.

        Raises `InvalidBckProvider` for a bucket that lives in the cluster itself.
        """
        from aistore.calls import buckets

        await self._client.run(buckets.evict(self._ref, keep_md))

    async def head(self) -> requests.structures.CaseInsensitiveDict[str]:
        """Its properties: headers, in which `Ais-Bucket-Props` has the JSON document of them. Raises `ErrBckNotFound`."""
        import requests

        from aistore.calls import buckets

        return requests.structures.CaseInsensitiveDict((await self._client.run(buckets.head(self._ref))).headers)

    async def copy(
        self,
        to_bck: AsyncBucket,
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
        return await self.client.run(steps)

    async def transform(
        self,
        etl_name: str | EtlHandle,
        to_bck: AsyncBucket,
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
        return await self.client.run(steps)

    async def inspect(
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
        return await self.client.run(steps)

    async def rename(self, to_bck_name: str) -> str:
        """Give it another name, which this object has from then on; returns the id of the job.

        Raises `InvalidBckProvider` for a bucket whose content lives outside of the cluster.
        """
        from aistore.calls import buckets

        renamed = self._renamed(to_bck_name)
        job_id = await self.client.run(buckets.rename(self._ref, renamed))
        self._ref = renamed
        return job_id

    async def summary(self, uuid: str = "", prefix: str = "", cached: bool = True, present: bool = True) -> Summary:
        """How many objects it has, and their sizes; of those whose names start with `prefix`.

        `uuid` is the id of a job that counts already. `cached` counts only what the cluster holds; `present` does not look up a remote bucket
        that the cluster does not know.
        """
        from aistore.calls.summaries import summary

        return await self.client.run(summary(self._ref, uuid, prefix, cached, present))

    async def info(
        self, flt_presence: int = FLTPresence.FLT_EXISTS, bsumm_remote: bool = True, prefix: str = ""
    ) -> tuple[str, Summary]:
        """Its properties, as JSON, and its summary; of objects whose names start with `prefix`.

        `bsumm_remote` also counts objects of a remote bucket that the cluster does not hold. Raises ValueError for a `flt_presence` that is
        none of `FLTPresence`.
        """
        from aistore.calls.summaries import info

        return await self.client.run(info(self._ref, flt_presence, bsumm_remote, prefix))

    async def make_request(
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

        return Response(await self._client.run(buckets.act(self._ref, method.upper(), action, value, name, params)))

    # -- its objects --

    def object(self, obj_name: str, props: ObjectProps | None = None) -> AsyncObject:
        """An object of the bucket, whether it exists or not; `props` are its properties, if they are known already."""
        return AsyncObject(self._client, self._ref, obj_name, props)

    def objects(
        self,
        obj_names: list[str] | None = None,
        obj_range: ObjectRange | None = None,
        obj_template: str | None = None,
    ) -> AsyncObjectGroup:
        """Some objects of the bucket, by exactly one of names, range or template. Raises ValueError otherwise, and for an empty selection."""
        from aistore.aio.group import AsyncObjectGroup

        return AsyncObjectGroup(self, obj_names, obj_range, obj_template)

    async def list_objects(
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

        Arguments as for the blocking `Bucket.list_objects`.
        """
        from aistore.calls import listing

        what = self._listing(prefix, props, page_size, flags, target, inventory_name, start_after)
        return await self._client.run(listing.page(what, self, uuid, continuation_token))

    async def list_objects_iter(
        self,
        prefix: str = "",
        props: str = "",
        page_size: int = 0,
        flags: Iterable[ListObjectFlag] | None = None,
        target: str = "",
        inventory_name: str = "",
        start_after: str = "",
    ) -> AsyncIterator[BucketEntry]:
        """Entries of its objects, one at a time; a page is requested when it is needed. Arguments as for `list_objects`."""
        from aistore.calls import listing

        what = self._listing(prefix, props, page_size, flags, target, inventory_name, start_after)
        pages = listing.Pages(what, self)
        while (entries := await self._client.run(pages.next())) is not None:
            for entry in entries:
                yield entry

    async def list_all_objects(
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
        return await self._client.run(listing.all_entries(what, self))

    async def list_archive(
        self, archive_obj_name: str, include_archive_obj: bool = False, props: str = "", page_size: int = 0
    ) -> list[BucketEntry]:
        """Entries of the members of an archive (TAR, TGZ, TAR.LZ4, ZIP), named `archive/member`, sorted by name.

        With `include_archive_obj` the entry of the archive itself comes first. `props` and `page_size` as for `list_objects`. An archive that
        is damaged has no members here.
        """
        from aistore.calls import listing
        from aistore.sdk.list_object_flag import ListObjectFlag

        what = self._listing(archive_obj_name, props, page_size, [ListObjectFlag.ARCH_DIR], "", "", "")
        return await self._client.run(listing.archive_entries(what, self, archive_obj_name, include_archive_obj))

    async def list_all_objects_iter(
        self, prefix: str = "", props: str = "name,size", start_after: str = ""
    ) -> AsyncIterator[AsyncObject]:
        """Its objects, with those properties cached that `props` names."""
        async for entry in self.list_objects_iter(prefix, props, start_after=start_after):
            yield entry.object

    async def list_urls(self, prefix: str = "", etl: Etl = None) -> AsyncIterator[str]:
        """URLs of its objects whose names start with `prefix`; `etl` has them transformed when they are read."""
        async for entry in self.list_objects_iter(prefix, "name"):
            yield self.object(entry.name).get_url(etl=etl)

    async def create_inventory(
        self, name: str = "", prefix: str = "", props: str = "", names_per_chunk: int = 0, force: bool = False
    ) -> str:
        """Record the names that this remote bucket has now, to list from them later; returns the id of the job.

        Only names that start with `prefix` are recorded, with `props` of theirs (as for `list_objects`). `name` is that of the inventory,
        by default the job's id; it is kept in chunks of `names_per_chunk` names (2 to 640,000; 0: 20,000), which a page has unless asked for
        more. A bucket has one inventory: `force` replaces it, else a second one raises AISError.
        """
        from aistore.calls.inventories import create_inventory

        return await self._client.run(create_inventory(self._ref, name, prefix, props, names_per_chunk, force))

    async def show_inventory(self, name: str = "") -> dict[str, NBIInfo]:
        """Its inventory, by the name of the object that it is stored as; empty if there is none, or not one of this `name`."""
        from aistore.calls.inventories import show_inventory

        return await self._client.run(show_inventory(self._ref, name))

    async def destroy_inventory(self, name: str = "") -> None:
        """Remove its inventory, if there is one of this `name`; whatever its name if that is empty."""
        from aistore.calls.inventories import destroy_inventory

        await self._client.run(destroy_inventory(self._ref, name))

    async def put_files(
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
        """Store the files of a folder as objects; returns the names of the objects. Arguments as for the blocking `Bucket.put_files`.

        What is cancelled leaves nothing half done.
        """
        from aistore.aio.transfers import Side, carry_out
        from aistore.calls.folders import PutFiles

        together = Side(self.client)
        work = PutFiles(
            self._ref, together, path, prefix_filter, pattern, basename, prepend or "", recursive, dry_run, verbose
        )
        await carry_out(self.client, work, workers, progress)
        return work.finished()

    async def get_files(
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
        """Make files of the objects whose names start with `prefix`. Arguments as for the blocking `Bucket.get_files`."""
        return await self.sync(
            to=folder,
            prefix=prefix,
            pattern=pattern,
            dry_run=dry_run,
            workers=workers,
            progress=progress,
            on_each=on_each,
        )

    async def sync(
        self,
        *,
        source: str | PathLike[str] | AsyncBucket | None = None,
        to: str | PathLike[str] | AsyncBucket | None = None,
        prefix: str = "",
        other_prefix: str = "",
        pattern: str = "*",
        delete: bool = False,
        dry_run: bool = False,
        workers: int = 16,
        progress: bool | None = None,
        on_each: Callable[[Moved], Value] | None = None,
    ) -> TransferSummary:
        """Make this bucket like `source`, or `to` like this bucket. Arguments as for the blocking `Bucket.sync`; buckets are asyncio ones."""
        from aistore.aio.transfers import Side, carry_out
        from aistore.calls.sync_kinds import sync_of
        from aistore.calls.syncing import Choice

        choice = Choice(prefix, other_prefix, pattern, delete, dry_run, on_each)
        work = sync_of(self, source, to, choice, Side(self.client))
        client = to.client if isinstance(to, AsyncBucket) else self.client
        return await carry_out(client, work, workers, progress)

    async def import_folder(
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
        """Make objects of the files of a folder on this machine. Arguments as for the blocking `Bucket.import_folder`."""
        from aistore.aio.transfers import Side, carry_out
        from aistore.calls.bucket_end import BucketEnd
        from aistore.calls.importing import ImportFolder
        from aistore.calls.syncing import Choice
        from aistore.local.proof import prove

        choice = Choice(prefix, pattern=pattern, dry_run=dry_run, on_each=on_each)
        work = ImportFolder(folder, BucketEnd(self, prefix), choice, Side(self.client), link, prove)
        return await carry_out(self.client, work, workers, progress)

    async def write_dataset(
        self, config: DatasetConfig, skip_missing: bool = True, *, progress: bool | None = None, **kwargs: Value
    ) -> None:
        """Store a data set as WebDataset shards. Arguments and errors as for the blocking `Bucket.write_dataset`."""
        from aistore.calls.datasets import write_dataset

        await self._client.run(write_dataset(self._ref, config, skip_missing, kwargs, progress))

    def _listed(self, entry: BucketEntry) -> AsyncObject:
        """The object of an entry of this bucket's listing."""
        return AsyncObject(self._client, self._ref, entry.n, entry)
