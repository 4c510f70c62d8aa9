"""The asyncio client: where everything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.aio.bucket import AsyncBucket
from aistore.aio.requests import AsyncRequestClient
from aistore.sdk._settings import object_of_url, settings_of
from aistore.sdk.enums import Colocation
from aistore.sdk.provider import Provider

if TYPE_CHECKING:
    from types import TracebackType

    import urllib3

    from aistore.aio.batch import AsyncBatch
    from aistore.aio.cluster import AsyncCluster
    from aistore.aio.dsort import AsyncDsort
    from aistore.aio.etl import AsyncEtl
    from aistore.aio.job import AsyncJob
    from aistore.aio.object import AsyncObject
    from aistore.sdk.namespace import Namespace
    from aistore.sdk.retry_config import RetryConfig

__all__ = ["AsyncClient"]


class AsyncClient:
    """A client of one cluster for asyncio. Making one sends nothing; parameters are those of `aistore.Client`.

    It belongs to the event loop and the process of its first call: RuntimeError in another one, so make a client for each. At most 100
    requests are under way at a time, more wait. Close it, or use it in `async with`; that finds or starts the server of a `local:` endpoint,
    too, which otherwise the first call does.

    >>> AsyncClient("http://localhost:51080").bucket("images").object("cat.jpg")
    <AsyncObject ais://images/cat.jpg>
    """

    __slots__ = ("_client",)

    def __init__(
        self,
        endpoint: str | None = None,
        skip_verify: bool = False,
        ca_cert: str | None = None,
        client_cert: str | tuple[str, str] | None = None,
        timeout: float | tuple[float | None, float | None] | None = None,
        retry_config: RetryConfig | None = None,
        token: str | RetryConfig | urllib3.Retry | None = None,
        max_pool_size: int | str | None = None,
        *,
        retry: urllib3.Retry | None = None,
    ) -> None:
        self._client = AsyncRequestClient(
            settings_of(endpoint, skip_verify, ca_cert, client_cert, timeout, retry_config, token, max_pool_size, retry)
        )

    def bucket(
        self, bck_name: str, provider: Provider | str = Provider.AIS, namespace: Namespace | None = None
    ) -> AsyncBucket:
        """A bucket, whether it exists or not. Raises `InvalidBckProvider`."""
        return AsyncBucket(bck_name, self._client, provider, namespace)

    def cluster(self) -> AsyncCluster:
        """The cluster."""
        from aistore.aio.cluster import AsyncCluster

        return AsyncCluster(self._client)

    def job(self, job_id: str = "", job_kind: str = "") -> AsyncJob:
        """A job by its id, or the jobs of a kind."""
        from aistore.aio.job import AsyncJob

        return AsyncJob(self._client, job_id, job_kind)

    def batch(
        self,
        objects: list[AsyncObject] | AsyncObject | str | list[str] | None = None,
        bucket: AsyncBucket | None = None,
        output_format: str = ".tar",
        cont_on_err: bool = True,
        only_obj_name: bool = False,
        streaming_get: bool = True,
        colocation: Colocation = Colocation.NONE,
    ) -> AsyncBatch:
        """Many objects, ranges and members of archives in one request; see `AsyncBatch` for the parameters."""
        from aistore.aio.batch import AsyncBatch

        return AsyncBatch(
            self._client, objects, bucket, output_format, cont_on_err, only_obj_name, streaming_get, colocation
        )

    def etl(self, etl_name: str) -> AsyncEtl:
        """An ETL, whether it exists or not. Raises ValueError for what is no name of one."""
        from aistore.aio.etl import AsyncEtl

        return AsyncEtl(self._client, etl_name)

    def dsort(self, dsort_id: str = "") -> AsyncDsort:
        """A dSort job: by its id, or one that is to be started."""
        from aistore.aio.dsort import AsyncDsort

        return AsyncDsort(self._client, dsort_id)

    def get_object_from_url(self, url: str) -> AsyncObject:
        """The object of a URL such as `ais://bucket/dir/name`. Raises `InvalidURLException` or `InvalidBckProvider`."""
        bucket, provider, name = object_of_url(url)
        return self.bucket(bucket, provider).object(name)

    async def close(self) -> None:
        """Close its idle connections; it can be used again."""
        await self._client.close()

    async def __aenter__(self) -> AsyncClient:
        await self._client.transport()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncClient {self._client.endpoint}>"
