"""Calls on ETLs, and transformations of buckets and of selected objects (protocol/50 3-5)."""

from __future__ import annotations

import base64
import inspect
import logging
import re
import sys
from typing import TYPE_CHECKING, NamedTuple

from aistore.calls.buckets import act
from aistore.calls.etl_handle import EtlHandle
from aistore.calls.query import encode_query, quote_name
from aistore.transport.request import Request, Timeout
from aistore.wire import actions, params

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aistore.calls.bucket_ref import BucketRef
    from aistore.calls.steps import Steps
    from aistore.sdk.etl.webserver.base_etl_server import ETLServer
    from aistore.sdk.types import ETLDetails, ETLInfo, ETLNodeLogs

__all__ = [
    "ClassOptions",
    "delete",
    "discard",
    "init",
    "init_class",
    "init_spec",
    "list_etls",
    "logs",
    "start",
    "stop",
    "transform_bucket",
    "transform_objects",
    "view",
]

logger = logging.getLogger("aistore.sdk.etl")

_START_SECONDS = 300.0
_ENDING_SECONDS = 30.0
_SERVER_DEFAULT = 45.0  # what a server has for an `init_timeout` of 0
_DIRECT_FQN = "ETL_DIRECT_FQN"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_GO_DURATION = re.compile(r"0|(?:[0-9]+(?:\.[0-9]*)?(?:ns|us|µs|ms|s|m|h))+", re.ASCII)
_DURATION = re.compile(r"([0-9]+)([a-z]*)", re.ASCII)


class ClassOptions(NamedTuple):
    """How a class is to run: see `Etl.init_class`."""

    dependencies: Sequence[str] | None
    os_packages: Sequence[str] | None
    comm_type: str
    init_timeout: str
    obj_timeout: str
    direct_put: bool
    direct_file_access: bool
    variables: Mapping[str, object]


def init(
    name: str,
    image: str,
    command: str | Sequence[str] | None,
    comm_type: str,
    init_timeout: str,
    obj_timeout: str,
    direct_put: bool,
    environment: Sequence[tuple[str, object]],
) -> Steps[str]:
    """Start an ETL that runs `command` in `image`; returns the id of its job."""
    _check_communication(comm_type)
    _check_duration(obj_timeout)
    runtime: dict[str, object] = {"image": image}
    if command:
        runtime["command"] = command.split() if isinstance(command, str) else list(command)
    if environment:
        runtime["env"] = [{"name": variable, "value": str(value)} for variable, value in environment]
    message = {
        "name": name,
        "communication": f"{comm_type}://",
        "init_timeout": init_timeout,
        "obj_timeout": obj_timeout,
        "support_direct_put": direct_put,
        "runtime": runtime,
    }
    return (yield from _init(message, init_timeout))


def environment_of(variables: Mapping[str, object], direct_file_access: bool) -> list[tuple[str, object]]:
    """Variables of an ETL, in the order in which they are sent."""
    return [*variables.items(), *([(_DIRECT_FQN, "true")] if direct_file_access else ())]


def init_class(name: str, cls: type[ETLServer], options: ClassOptions) -> Steps[str]:
    """Start an ETL that runs a class; returns the id of its job. Raises TypeError for what is no subclass of `ETLServer`."""
    from aistore.sdk.etl.webserver.base_etl_server import ETLServer
    from aistore.sdk.etl.webserver.utils import serialize_class

    if not (inspect.isclass(cls) and issubclass(cls, ETLServer)):
        raise TypeError(f"{getattr(cls, '__name__', cls)!r} must extend ETLServer")
    for argument, listed in (("dependencies", options.dependencies), ("os_packages", options.os_packages)):
        if isinstance(listed, str):
            raise TypeError(f"{argument} is a list: [{listed!r}]")
    variables: dict[str, object] = {"ETL_CLASS_PAYLOAD": serialize_class(cls)}
    if options.dependencies:
        variables["PACKAGES"] = ",".join(options.dependencies)
    if options.os_packages:
        variables["OS_PACKAGES"] = ",".join(options.os_packages)
    variables.update(options.variables)
    return (
        yield from init(
            name,
            f"aistorage/runtime_python:{_python_version()}",
            None,
            options.comm_type,
            options.init_timeout,
            options.obj_timeout,
            options.direct_put,
            environment_of(variables, options.direct_file_access),
        )
    )


def _python_version() -> str:
    """Version of this interpreter: a class that travels by value runs in no other."""
    from aistore.sdk.etl.etl_const import ETL_SUPPORTED_PYTHON_VERSIONS

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version not in ETL_SUPPORTED_PYTHON_VERSIONS:
        raise ValueError(f"Unsupported Python version {version}; supported: {', '.join(ETL_SUPPORTED_PYTHON_VERSIONS)}")
    return version


def init_spec(name: str, template: str, comm_type: str, init_timeout: str, obj_timeout: str) -> Steps[str]:
    """Start an ETL by the manifest of a Kubernetes pod; returns the id of its job."""
    _check_communication(comm_type)
    message = {
        "name": name,
        "init_timeout": init_timeout,
        "obj_timeout": obj_timeout,
        "communication": f"{comm_type}://",
        "spec": base64.b64encode(template.encode()).decode(),
    }
    return (yield from _init(message, init_timeout))


def _init(message: Mapping[str, object], init_timeout: str) -> Steps[str]:
    import msgspec

    # The answer comes when all workers are ready, or when those that do not get ready are gone. Given up before that, the request would be
    # sent again, and the answer be that the name is taken (protocol/50 3.6).
    seconds = (_seconds(init_timeout) or _SERVER_DEFAULT) + _ENDING_SECONDS
    answer = yield Request("PUT", "etl", body=msgspec.json.encode(message), timeout=Timeout(read=seconds))
    return answer.content.decode()


def _check_communication(comm_type: str) -> None:
    from aistore.sdk.etl.etl_const import ETL_COMM_OPTIONS

    if comm_type not in ETL_COMM_OPTIONS:
        raise ValueError(f"communication_type should be one of: {', '.join(ETL_COMM_OPTIONS)}")


def _check_duration(duration: str) -> None:
    """Raise ValueError for what no server takes for a duration."""
    if not isinstance(duration, str) or _GO_DURATION.fullmatch(duration) is None:
        raise ValueError(f"{duration!r} is no duration: digits and a unit, such as '500ms', '45s' or '5m'")


def _seconds(duration: str) -> float:
    """Seconds of a duration: digits and one of `s`, `m`, `h` and `d`. Raises ValueError (protocol/50 2.3)."""
    match = _DURATION.fullmatch(duration) if isinstance(duration, str) else None
    if match is None or (match[2] and match[2] not in _SECONDS):
        raise ValueError(f"{duration!r} is no duration: digits and one unit, such as '45s', '5m' or '1h'")
    return float(int(match[1]) * _SECONDS.get(match[2], 1))


def view(name: str, job_id: str) -> Steps[ETLDetails]:
    """How an ETL was started, and what failed: inline, or in a job."""
    from aistore.sdk.types import ETLDetails

    answer = yield Request("GET", _path(name), encode_query({params.UUID: job_id}))
    return ETLDetails.model_validate_json(answer.content)


def logs(name: str, target_id: str) -> Steps[list[ETLNodeLogs]]:
    """What an ETL wrote on one target, or on all."""
    import msgspec

    from aistore.sdk.types import ETLNodeLogs

    path = f"{_path(name)}/logs/{quote_name(target_id)}" if target_id else f"{_path(name)}/logs"
    answer = yield Request("GET", path)
    found = msgspec.json.decode(answer.content, type=list[dict[str, str | None]] | None)
    return [
        ETLNodeLogs(
            target_id=one.get("target_id") or "",
            logs=base64.b64decode(one.get("logs") or "").decode("utf-8", "replace"),
        )
        for one in found or ()
    ]


def start(name: str) -> Steps[None]:
    """Start an ETL that was stopped."""
    yield Request("POST", f"{_path(name)}/start", timeout=Timeout(read=_START_SECONDS))


def stop(name: str) -> Steps[None]:
    """Stop an ETL; it stays defined."""
    yield Request("POST", f"{_path(name)}/stop")


def delete(name: str) -> Steps[None]:
    """Remove an ETL, running or not."""
    yield Request("DELETE", _path(name))


def discard(name: str) -> Steps[None]:
    """Stop and remove an ETL at the end of a `with` block; what the cluster says against it is logged."""
    from aistore.sdk.errors import AISError, ErrETLNotFound

    for step in (stop, delete):
        try:
            yield from step(name)
        except ErrETLNotFound:  # it did not get that far, or somebody was quicker
            continue
        except AISError as error:
            logger.warning("could not %s ETL %s: %s", step.__name__, name, error)


def _path(name: str) -> str:
    return f"etl/{quote_name(name)}"


def list_etls(stages: Sequence[str] | None) -> Steps[list[ETLInfo]]:
    """ETLs in the given stages, by default those that run."""
    from pydantic import TypeAdapter

    from aistore.sdk.etl.etl_const import ETL_STAGE_RUNNING
    from aistore.sdk.types import ETLInfo

    wanted = [ETL_STAGE_RUNNING] if stages is None else stages
    answer = yield Request("GET", "etl")
    listed = TypeAdapter(list[ETLInfo] | None).validate_json(answer.content)
    return [etl for etl in listed or () if etl.stage in wanted]


def transform_bucket(
    ref: BucketRef,
    to: BucketRef,
    etl_name: str | EtlHandle,
    pipeline: Sequence[str] | None,
    timeout: str,
    prefix: str,
    prepend: str,
    ext: Mapping[str, str] | None,
    force: bool,
    dry_run: bool,
    latest: bool,
    sync: bool,
    num_workers: int | None,
    cont_on_err: bool,
) -> Steps[str]:
    """Transform the bucket's objects into another one; returns the id of the job that does."""
    value: dict[str, object] = {}
    if ext:
        value["ext"] = dict(ext)
    if num_workers:
        value["num-workers"] = num_workers
    if cont_on_err:
        value["coer"] = True
    value.update(_copying(prepend, dry_run, force, latest, sync, prefix), **_transforming(etl_name, timeout, pipeline))
    parameters = {**ref.parameters, params.BCK_TO: to.uname}
    return (yield from act(ref, "POST", actions.TRANSFORM_BUCKET, value, parameters=parameters)).content.decode()


def transform_objects(
    ref: BucketRef,
    selection: Mapping[str, object],
    to: BucketRef,
    etl_name: str | EtlHandle,
    pipeline: Sequence[str] | None,
    timeout: str,
    prepend: str,
    ext: Mapping[str, str] | None,
    continue_on_error: bool,
    dry_run: bool,
    force: bool,
    latest: bool,
    sync: bool,
    num_workers: int | None,
) -> Steps[str]:
    """Transform the selected objects into a bucket; returns the id of the job that does."""
    value: dict[str, object] = {**selection}
    if ext:
        value["ext"] = dict(ext)
    value.update(_copying(prepend, dry_run, force, latest, sync, ""), **_transforming(etl_name, timeout, pipeline))
    value.update(tobck=to.document, coer=continue_on_error)
    if num_workers:
        value["num-workers"] = num_workers
    answer = yield from act(ref, "POST", actions.TRANSFORM_OBJECTS, value)
    return answer.content.decode()


def _copying(prepend: str, dry_run: bool, force: bool, latest: bool, sync: bool, prefix: str) -> dict[str, object]:
    return {
        "prefix": prefix,
        "prepend": prepend,
        "dry_run": dry_run,
        "force": force,
        "latest-ver": latest,
        "synchronize": sync,
    }


def _transforming(etl: str | EtlHandle, timeout: str, pipeline: Sequence[str] | None) -> dict[str, object]:
    if isinstance(etl, str):
        stages = None if pipeline is None else list(pipeline)
    elif not isinstance(etl, EtlHandle):
        raise TypeError(f"etl_name is a name or an Etl, not {type(etl).__name__}")
    else:
        stages = [*etl.pipeline, *(pipeline or ())] or None
        etl = etl.name
    return {"id": etl, "request_timeout": timeout, "pipeline": stages}
