"""ETLs: transformers that run where the objects are."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, TypeVar

from aistore.calls import etl as calls
from aistore.calls.etl_handle import EtlHandle
from aistore.sdk.etl.etl_const import DEFAULT_ETL_COMM, DEFAULT_ETL_OBJ_TIMEOUT, DEFAULT_ETL_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from aistore.sdk.etl.webserver.base_etl_server import ETLServer
    from aistore.sdk.request_client import RequestClient
    from aistore.sdk.types import ETLDetails, ETLNodeLogs

__all__ = ["Etl"]

C = TypeVar("C", bound="type[ETLServer]")


class Etl(EtlHandle):
    """An ETL by its name, whether it exists or not. Making one sends nothing; ValueError for what is no name of one.

    `first >> second` is the ETL `first` whose results go through `second`. In a `with` block it is stopped and deleted at the end.
    """

    __slots__ = ("_client",)

    def __init__(self, client: RequestClient, name: str) -> None:
        super().__init__(name)
        self._client = client

    def init(
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
        """Run a container's image as a transformer, and return the id of its job once it is ready.

        `command` replaces what the image runs; `kwargs` are variables of its environment. `comm_type` is how the cluster talks to it: `hpush`
        sends objects, `hpull` lets it fetch them, `ws` uses WebSocket. It has `init_timeout` to become ready, and `obj_timeout` for each object:
        digits and one of `s`, `m` and `h`. With `direct_put` it sends results where they are stored itself, with `direct_file_access` it gets
        paths of files instead of their content.

        Raises `ErrETLAlreadyExists`; `AISError` with its log if it does not start; ValueError for a communication type or a timeout that is none.
        """
        environment = calls.environment_of(kwargs, direct_file_access)
        return self._client.run(
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
    ) -> Callable[[C], C]:
        """A decorator that runs a subclass of `ETLServer` as a transformer, and returns once it is ready.

        `dependencies` are installed with pip, `os_packages` with the system's package manager. The rest is as for `init`.

        The decorator raises TypeError for another class, ValueError for a version of Python that there is no image for, and what `init` raises.

        >>> @client.etl("etl-upper").init_class()  # doctest: +SKIP
        ... class Upper(HTTPMultiThreadedServer):
        ...     def transform(self, data, path, etl_args):
        ...         return data.upper()
        """
        options = calls.ClassOptions(
            dependencies, os_packages, comm_type, init_timeout, obj_timeout, direct_put, direct_file_access, kwargs
        )

        def run(cls: C) -> C:
            self._client.run(calls.init_class(self._name, cls, options))
            return cls

        return run

    def init_spec(
        self,
        template: str,
        communication_type: str = DEFAULT_ETL_COMM,
        init_timeout: str = DEFAULT_ETL_TIMEOUT,
        obj_timeout: str = DEFAULT_ETL_OBJ_TIMEOUT,
    ) -> str:
        """Deprecated: use `init`. Runs the manifest of a Kubernetes pod (YAML) as a transformer; returns the id of its job."""
        warnings.warn("Etl.init_spec() is deprecated: use init() or init_class()", FutureWarning, stacklevel=2)
        return self._client.run(calls.init_spec(self._name, template, communication_type, init_timeout, obj_timeout))

    def view(self, job_id: str = "") -> ETLDetails:
        """How it was started, and the objects that it failed on: inline, or in the job `job_id`. Raises `ErrETLNotFound`; AISError unless it runs."""
        return self._client.run(calls.view(self._name, job_id))

    def logs(self, target_id: str = "") -> list[ETLNodeLogs]:
        """What it wrote to standard output and standard error, by target; AISError unless it runs."""
        return self._client.run(calls.logs(self._name, target_id))

    def start(self) -> None:
        """Start it again after a stop. Raises `ErrETLNotFound`; AISError if it runs already, or does not start."""
        self._client.run(calls.start(self._name))

    def stop(self) -> None:
        """Stop it, with the jobs that use it; it stays defined. Raises `ErrETLNotFound`."""
        self._client.run(calls.stop(self._name))

    def delete(self) -> None:
        """Remove it; one that runs is stopped first. Raises `ErrETLNotFound`."""
        self._client.run(calls.delete(self._name))

    def __rshift__(self, other: Etl) -> Etl:
        if not isinstance(other, Etl):
            return NotImplemented
        return self._then(other, Etl(self._client, self._name))

    def __enter__(self) -> Etl:
        return self

    def __exit__(
        self,
        _exc_type: type[BaseException] | None,
        _exc_value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._client.run(calls.discard(self._name))
