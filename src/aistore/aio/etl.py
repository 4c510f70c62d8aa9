"""ETLs: transformers that run where the objects are."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, TypeVar

from aistore.calls import etl as calls
from aistore.calls.etl_handle import EtlHandle
from aistore.sdk.etl.etl_const import DEFAULT_ETL_COMM, DEFAULT_ETL_OBJ_TIMEOUT, DEFAULT_ETL_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from aistore.aio.requests import AsyncRequestClient
    from aistore.sdk.etl.webserver.base_etl_server import ETLServer
    from aistore.sdk.types import ETLDetails, ETLNodeLogs

__all__ = ["AsyncEtl"]

C = TypeVar("C", bound="type[ETLServer]")


class AsyncEtl(EtlHandle):
    """An ETL by its name, whether it exists or not; ValueError for what is no name of one.

    `first >> second` is the ETL `first` whose results go through `second`. In an `async with` block it is stopped and deleted at the end.
    """

    __slots__ = ("_client",)

    def __init__(self, client: AsyncRequestClient, name: str) -> None:
        super().__init__(name)
        self._client = client

    async def init(
        self,
        image: str,
        command: str | list[str] | None = None,
        comm_type: str = DEFAULT_ETL_COMM,
        init_timeout: str = DEFAULT_ETL_TIMEOUT,
        obj_timeout: str = DEFAULT_ETL_OBJ_TIMEOUT,
        direct_put: bool = False,
        direct_file_access: bool = False,
        **kwargs: object,
    ) -> str:
        """Run a container's image as a transformer, and return the id of its job once it is ready; see `aistore.sdk.Etl.init`."""
        environment = calls.environment_of(kwargs, direct_file_access)
        return await self._client.run(
            calls.init(self._name, image, command, comm_type, init_timeout, obj_timeout, direct_put, environment)
        )

    def init_class(
        self,
        *,
        dependencies: list[str] | None = None,
        os_packages: list[str] | None = None,
        comm_type: str = DEFAULT_ETL_COMM,
        init_timeout: str = DEFAULT_ETL_TIMEOUT,
        obj_timeout: str = DEFAULT_ETL_OBJ_TIMEOUT,
        direct_put: bool = True,
        direct_file_access: bool = False,
        **kwargs: object,
    ) -> Callable[[C], Awaitable[C]]:
        """What runs a subclass of `ETLServer` as a transformer: `await etl.init_class()(Upper)`; see `aistore.sdk.Etl.init_class`."""
        options = calls.ClassOptions(
            dependencies, os_packages, comm_type, init_timeout, obj_timeout, direct_put, direct_file_access, kwargs
        )

        async def run(cls: C) -> C:
            await self._client.run(calls.init_class(self._name, cls, options))
            return cls

        return run

    async def init_spec(
        self,
        template: str,
        communication_type: str = DEFAULT_ETL_COMM,
        init_timeout: str = DEFAULT_ETL_TIMEOUT,
        obj_timeout: str = DEFAULT_ETL_OBJ_TIMEOUT,
    ) -> str:
        """Deprecated: use `init`. Runs the manifest of a Kubernetes pod (YAML) as a transformer; returns the id of its job."""
        warnings.warn("AsyncEtl.init_spec() is deprecated: use init() or init_class()", FutureWarning, stacklevel=2)
        return await self._client.run(
            calls.init_spec(self._name, template, communication_type, init_timeout, obj_timeout)
        )

    async def view(self, job_id: str = "") -> ETLDetails:
        """How it was started, and the objects that it failed on: inline, or in the job `job_id`. Raises `ErrETLNotFound`; AISError unless it runs."""
        return await self._client.run(calls.view(self._name, job_id))

    async def logs(self, target_id: str = "") -> list[ETLNodeLogs]:
        """What it wrote to standard output and standard error, by target; AISError unless it runs."""
        return await self._client.run(calls.logs(self._name, target_id))

    async def start(self) -> None:
        """Start it again after a stop. Raises `ErrETLNotFound`; AISError if it runs already, or does not start."""
        await self._client.run(calls.start(self._name))

    async def stop(self) -> None:
        """Stop it, with the jobs that use it; it stays defined. Raises `ErrETLNotFound`."""
        await self._client.run(calls.stop(self._name))

    async def delete(self) -> None:
        """Remove it; one that runs is stopped first. Raises `ErrETLNotFound`."""
        await self._client.run(calls.delete(self._name))

    def __rshift__(self, other: AsyncEtl) -> AsyncEtl:
        if not isinstance(other, AsyncEtl):
            return NotImplemented
        return self._then(other, AsyncEtl(self._client, self._name))

    async def __aenter__(self) -> AsyncEtl:
        return self

    async def __aexit__(
        self,
        _exc_type: type[BaseException] | None,
        _exc_value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        await self._client.run(calls.discard(self._name))
