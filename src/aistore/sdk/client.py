"""The client: where everything starts."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from aistore.sdk._settings import object_of_url, settings_of
from aistore.sdk.bucket import Bucket
from aistore.sdk.enums import Colocation
from aistore.sdk.provider import Provider
from aistore.sdk.request_client import RequestClient

if TYPE_CHECKING:
    from types import TracebackType

    import urllib3

    from aistore.sdk.batch.batch import Batch
    from aistore.sdk.cluster import Cluster
    from aistore.sdk.dsort.core import Dsort
    from aistore.sdk.etl.etl import Etl
    from aistore.sdk.job import Job
    from aistore.sdk.namespace import Namespace
    from aistore.sdk.obj.object import Object
    from aistore.sdk.retry_config import RetryConfig

__all__ = ["Client"]


class Client:
    """A client of one cluster. Making one sends nothing; it is safe in threads and after a fork, and pickles.

    `endpoint`: URL of a gateway, or `local:` with or without the path of a data folder, for the cluster in the box, which is started if need
    be; by default what the environment says in `AIS_ENDPOINT`.
    `skip_verify`, `ca_cert`, `client_cert`: TLS, see `AIS_SKIP_VERIFY_CRT`, `AIS_CLIENT_CA`, `AIS_CRT` and `AIS_CRT_KEY` too.
    `timeout`: seconds to wait for a connection and for data, one number or a pair; 0 waits for ever. By default `AIS_CONNECT_TIMEOUT` and
    `AIS_READ_TIMEOUT`, or 3 and 20.
    `retry_config`: how failed requests are repeated, see `RetryConfig`.
    `token`: what authorizes the requests; by default `AIS_AUTHN_TOKEN`, or what is in the file that `AIS_AUTHN_TOKEN_FILE` names or the
    reference's command keeps (`~/.config/ais/cli/auth.token`), which is read again when its token is refused.
    `max_pool_size`: idle connections kept for each node; by default `AIS_MAX_CONN_POOL`, or 10.
    `retry`: deprecated, the `http_retry` of a `RetryConfig`.

    >>> Client("http://localhost:51080").bucket("images").object("cat.jpg")
    <Object ais://images/cat.jpg>
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
        self._client = RequestClient(
            *settings_of(
                endpoint,
                skip_verify,
                ca_cert,
                client_cert,
                timeout,
                retry_config,
                token,
                max_pool_size,
                retry,
            )
        )

    def bucket(
        self, bck_name: str, provider: Provider | str = Provider.AIS, namespace: Namespace | None = None
    ) -> Bucket:
        """A bucket, whether it exists or not. Sends nothing. Raises `InvalidBckProvider`."""
        return Bucket(bck_name, self._client, provider, namespace)

    def cluster(self) -> Cluster:
        """The cluster. Sends nothing."""
        from aistore.sdk.cluster import Cluster

        return Cluster(self._client)

    def job(self, job_id: str = "", job_kind: str = "") -> Job:
        """A job by its id, or the jobs of a kind. Sends nothing."""
        from aistore.sdk.job import Job

        return Job(self._client, job_id, job_kind)

    def batch(
        self,
        objects: list[Object] | Object | str | list[str] | None = None,
        bucket: Bucket | None = None,
        output_format: str = ".tar",
        cont_on_err: bool = True,
        only_obj_name: bool = False,
        streaming_get: bool = True,
        colocation: Colocation = Colocation.NONE,
    ) -> Batch:
        """Many objects, ranges and members of archives in one request; see `Batch` for the parameters. Sends nothing."""
        from aistore.sdk.batch.batch import Batch

        return Batch(
            self._client, objects, bucket, output_format, cont_on_err, only_obj_name, streaming_get, colocation
        )

    def etl(self, etl_name: str) -> Etl:
        """An ETL, whether it exists or not. Sends nothing. Raises ValueError for what is no name of one."""
        from aistore.sdk.etl.etl import Etl

        return Etl(self._client, etl_name)

    def dsort(self, dsort_id: str = "") -> Dsort:
        """A dSort job: by its id, or one that is to be started. Sends nothing."""
        from aistore.sdk.dsort.core import Dsort

        return Dsort(self._client, dsort_id)

    def get_object_from_url(self, url: str) -> Object:
        """The object of a URL such as `ais://bucket/dir/name`. Sends nothing. Raises `InvalidURLException` or `InvalidBckProvider`."""
        bucket, provider, name = object_of_url(url)
        return self.bucket(bucket, provider).object(name)

    def fetch_object_by_url(self, url: str) -> Object:
        """Deprecated: use `get_object_from_url`."""
        warnings.warn(
            "Client.fetch_object_by_url() is deprecated: use get_object_from_url()", DeprecationWarning, stacklevel=2
        )
        return self.get_object_from_url(url)

    def close(self) -> None:
        """Close its idle connections; it can be used again. A client that is dropped does so by itself."""
        self._client.transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self._client.endpoint}>"
