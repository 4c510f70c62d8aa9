"""Groups of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls import groups
from aistore.calls.bucket_ref import ref_of
from aistore.sdk.etl.etl_const import DEFAULT_ETL_TIMEOUT
from aistore.sdk.multiobj._choice import chosen, listed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aistore.aio.bucket import AsyncBucket
    from aistore.aio.object import AsyncObject
    from aistore.aio.requests import AsyncRequestClient
    from aistore.calls.etl_handle import EtlHandle
    from aistore.sdk.multiobj.object_range import ObjectRange

__all__ = ["AsyncObjectGroup"]


class AsyncObjectGroup:
    """Some objects of a bucket: those of a list of names, of a range, or of a template.

    Raises ValueError unless exactly one of the three is given, and not empty: to the server an empty selection is the whole bucket.
    """

    __slots__ = ("_bck", "_collection")

    def __init__(
        self,
        bck: AsyncBucket,
        obj_names: list[str] | None = None,
        obj_range: ObjectRange | None = None,
        obj_template: str | None = None,
    ) -> None:
        self._collection = chosen(obj_names, obj_range, obj_template)
        self._bck = bck

    @property
    def client(self) -> AsyncRequestClient:
        """Client of the bucket."""
        return self._bck.client

    def list_names(self) -> list[str]:
        """Names of all objects of the group. Raises ValueError if there are more than ten million."""
        return listed(self._collection)

    async def list_urls(self, prefix: str = "", etl: object = None) -> AsyncIterator[str]:
        """URLs of all objects of the group; a `prefix` is ignored. Asks nothing, but is asynchronous like that of buckets."""
        del prefix
        for name in self._collection:
            yield self._bck.object(name).get_url(etl=etl)

    async def list_all_objects_iter(
        self, prefix: str = "", props: str | None = "name,size"
    ) -> AsyncIterator[AsyncObject]:
        """Objects of the group whose names start with `prefix`, with their properties; `props=None` skips those, and the requests for them."""
        for name in self._collection:
            if not name.startswith(prefix):
                continue
            found = self._bck.object(name)
            if props is not None:
                await found.head(props)
            yield found

    async def copy(
        self,
        to_bck: AsyncBucket,
        prepend: str = "",
        continue_on_error: bool = False,
        dry_run: bool = False,
        force: bool = False,
        latest: bool = False,
        sync: bool = False,
        num_workers: int | None = None,
    ) -> list[str]:
        """Copy the objects of the group to a bucket, `prepend` in front of their names; returns the ids of the jobs that do.

        The bucket is made if it does not exist. With `continue_on_error` objects that fail are errors of the job and not its end. `dry_run` only
        counts. `latest` asks a remote backend for new versions first; `sync` besides deletes from `to_bck` what is gone here.
        """
        steps = groups.copy(
            self._bck.ref, self._collection.get_value(), ref_of(to_bck, "to_bck"), prepend, continue_on_error, dry_run, force, latest, sync,
            num_workers,
        )  # fmt: skip
        return await self.client.run(steps)

    async def transform(
        self,
        to_bck: AsyncBucket,
        etl_name: str | EtlHandle,
        timeout: str = DEFAULT_ETL_TIMEOUT,
        prepend: str = "",
        ext: Mapping[str, str] | None = None,
        continue_on_error: bool = False,
        dry_run: bool = False,
        force: bool = False,
        latest: bool = False,
        sync: bool = False,
        num_workers: int | None = None,
        etl_pipeline: list[str] | None = None,
    ) -> str:
        """Transform the objects of the group by the ETL `etl_name` (or an `Etl`, with its pipeline), and those of `etl_pipeline` in turn, into a bucket.

        Returns the id of the job that does; wait for it with `Job.wait_for_idle`. Arguments are those of `copy` and of `Bucket.transform`.
        """
        from aistore.calls.etl import transform_objects

        steps = transform_objects(
            self._bck.ref, self._collection.get_value(), to_bck.ref, etl_name, etl_pipeline, timeout, prepend, ext,
            continue_on_error, dry_run, force, latest, sync, num_workers,
        )  # fmt: skip
        return await self.client.run(steps)

    async def inspect(
        self,
        etl_name: str | EtlHandle,
        timeout: str = DEFAULT_ETL_TIMEOUT,
        latest: bool = False,
        num_workers: int | None = None,
        etl_pipeline: list[str] | None = None,
    ) -> str:
        """Try an ETL on the objects of the group, and store nothing; returns the id of the job. `Etl.view(job_id)` tells what failed."""
        from aistore.calls.etl import transform_objects

        steps = transform_objects(
            self._bck.ref, self._collection.get_value(), self._bck.ref, etl_name, etl_pipeline, timeout, "", None,
            True, True, False, latest, False, num_workers,
        )  # fmt: skip
        return await self.client.run(steps)

    async def delete(self) -> str:
        """Delete the objects of the group; returns the id of the job that does."""
        return await self.client.run(groups.delete(self._bck.ref, self._collection.get_value()))

    async def evict(self) -> str:
        """Drop the objects of the group from the cluster, where they are fetched from again; returns the id of the job that does.

        Raises `InvalidBckProvider` for a bucket that lives in the cluster itself.
        """
        return await self.client.run(groups.evict(self._bck.ref, self._collection.get_value()))

    async def prefetch(
        self,
        blob_threshold: int | None = None,
        num_workers: int | None = None,
        latest: bool = False,
        continue_on_error: bool = False,
    ) -> str:
        """Bring the objects of the group into the cluster; returns the id of the job that does.

        Objects of at least `blob_threshold` bytes are fetched in parallel ranges; `num_workers` objects are fetched at a time. `latest`
        fetches those again that were changed where they live; `continue_on_error` goes on where one cannot be fetched.

        Raises `InvalidBckProvider` for a bucket that lives in the cluster itself.
        """
        selection = self._collection.get_value()
        return await self.client.run(
            groups.prefetch(self._bck.ref, selection, blob_threshold, num_workers, latest, continue_on_error)
        )

    async def archive(
        self,
        archive_name: str,
        mime: str = "",
        to_bck: AsyncBucket | None = None,
        include_source_name: bool = False,
        allow_append: bool = False,
        continue_on_err: bool = False,
    ) -> list[str]:
        """Put the objects of the group into an archive; returns the ids of the jobs that do.

        The extension of `archive_name` says its format: `.tar`, `.tgz`, `.tar.gz`, `.tar.lz4` or `.zip`; `mime` is best left empty. It is
        made in `to_bck`, by default the group's bucket, and replaces what has its name, unless `allow_append` adds to the archive that is there.
        With `include_source_name` members are named `<bucket>/<object>`. `continue_on_err` goes on where an object cannot be read.

        The jobs live on for a minute: wait for them with `Job.wait_for_idle`. Raises `ErrBckNotFound`.
        """
        to = self._bck.ref if to_bck is None else ref_of(to_bck, "to_bck")
        selection = self._collection.get_value()
        return await self.client.run(
            groups.archive(
                self._bck.ref, selection, archive_name, mime, to, include_source_name, allow_append, continue_on_err
            )
        )

    def __repr__(self) -> str:
        return f"<AsyncObjectGroup {self._collection!r} of {self._bck!r}>"
