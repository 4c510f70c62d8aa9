"""Calls on dSort jobs (protocol/40 B2, B8)."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aistore.calls import jobs
from aistore.calls.bucket_ref import BucketRef
from aistore.calls.query import encode_query, quote_name
from aistore.calls.steps import local
from aistore.calls.uploads import store
from aistore.transport.request import Request
from aistore.wire import params
from aistore.wire.values import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.calls.steps import Steps
    from aistore.sdk.dsort.framework import DsortFramework
    from aistore.sdk.dsort.types import JobInfo
    from aistore.sdk.wait_result import WaitResult

__all__ = ["abort", "job_info", "list_jobs", "read_specification", "remove", "start", "wait"]

_PATH: Final = "sort"
_KEY_MAP: Final = "ekm-file.json"
_SUFFIXES: Final = (".json", ".yaml", ".yml")
_WARNINGS_SHOWN: Final = 10

logger = logging.getLogger("aistore.sdk.job")


def start(spec: str | os.PathLike[str] | DsortFramework | Mapping[str, Any], base_url: Callable[[], str]) -> Steps[str]:
    """Start a job, and return its id. A key map is stored in the input bucket first; `base_url` is that of the cluster."""
    document = yield from _document(spec, base_url)
    answer = yield Request("POST", _PATH, body=json.dumps(document).encode())
    return answer.content.decode()


def _document(
    spec: str | os.PathLike[str] | DsortFramework | Mapping[str, Any], base_url: Callable[[], str]
) -> Steps[Mapping[str, Any]]:
    from aistore.sdk.dsort.ekm import ExternalKeyMap
    from aistore.sdk.dsort.framework import DsortFramework

    if isinstance(spec, (str, os.PathLike)):
        spec = yield from local(read_specification, Path(spec))
    if isinstance(spec, Mapping):
        _warn_of_unknown_keys(spec)
        return spec
    if not isinstance(spec, DsortFramework):
        raise ValueError("spec must be a Path or a DsortFramework instance")  # noqa: TRY004  the documented error
    document = spec.to_spec()
    wanted = spec.output_shards.format
    if isinstance(wanted, ExternalKeyMap):
        bucket = spec.input_shards.bck
        namespace = bucket.namespace.get_path() if bucket.namespace is not None else None
        ref = BucketRef(bucket.name, bucket.provider, namespace)
        path = f"{ref.objects}{quote_name(_KEY_MAP)}"
        yield from store(path, ref.query, json.dumps(wanted.as_dict()).encode())
        document.update(ekm_file=f"{base_url()}/{path}?{ref.query}", ekm_file_sep="", output_format="")
    return document


def _warn_of_unknown_keys(document: Mapping[str, Any]) -> None:
    """Log a warning for each key that no cluster knows: it would be ignored without a word."""
    from msgspec.structs import fields

    from aistore.wire.dsort import Algorithm, Reactions, Selection, Specification

    parts: list[tuple[str, Any, type]] = [("", document, Specification)]
    nested = {"input_format": Selection, "algorithm": Algorithm, "config": Reactions}
    parts += [(f"{key}.", document[key], nested[key.lower()]) for key in document if str(key).lower() in nested]
    for prefix, part, kind in parts:
        if not isinstance(part, Mapping):
            continue
        known = {field.encode_name.lower(): field.encode_name for field in fields(kind)}
        for key in part:
            if str(key).lower() not in known:
                near = get_close_matches(str(key).lower(), known, 1)
                hint = f": is {known[near[0]]!r} meant?" if near else ""
                logger.warning("dSort specification: %r is no key of it, and is ignored%s", f"{prefix}{key}", hint)


def read_specification(path: Path) -> dict[str, Any]:
    """The mapping in a JSON or YAML file. Raises ValueError."""
    if not path.exists():
        raise ValueError(f"Path: {path} does not exist")
    if path.is_dir():
        raise ValueError(f"Path: {path} is a directory, not a file")
    if path.suffix not in _SUFFIXES:
        raise ValueError("Specification must be a JSON or YAML file")
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        found = json.loads(text)
    else:
        import yaml

        try:
            found = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is no YAML: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not a mapping")  # noqa: TRY004  what is in a file is a value
    return found


def job_info(dsort_id: str) -> Steps[dict[str, JobInfo]]:
    """What each target tells of a job."""
    from pydantic import TypeAdapter

    from aistore.sdk.dsort.types import JobInfo

    answer = yield Request("GET", _PATH, _query(dsort_id))
    return TypeAdapter(dict[str, JobInfo]).validate_json(answer.content)


def list_jobs(regex: str, only_active: bool) -> Steps[list[JobInfo]]:
    """Jobs whose description matches an expression, those that are over too unless `only_active`."""
    from pydantic import TypeAdapter

    from aistore.sdk.dsort.types import JobInfo

    query = {params.REGEX: regex} if regex else {}
    if only_active:
        query[params.ONLY_ACTIVE] = "true"
    answer = yield Request("GET", _PATH, encode_query(query))
    return TypeAdapter(list[JobInfo]).validate_json(answer.content)


def abort(dsort_id: str) -> Steps[None]:
    """Abort a job."""
    yield Request("DELETE", f"{_PATH}/abort", _query(dsort_id))


def remove(dsort_id: str) -> Steps[None]:
    """Forget a job that is over."""
    yield Request("DELETE", _PATH, _query(dsort_id))


def wait(dsort_id: str, timeout: float, verbose: bool) -> Steps[WaitResult]:
    """Wait until the shards are created on all targets, or the job was aborted. Raises `Timeout`.

    If `verbose`, the job's warnings are logged when it is over.
    """

    def look() -> Steps[WaitResult | None]:
        infos = list((yield from job_info(dsort_id)).values())
        result = _result(dsort_id, infos)
        if verbose and result is not None:
            _log_warnings(dsort_id, infos)
        return result

    return (yield from jobs.poll(dsort_id, timeout, verbose, look))


def _log_warnings(dsort_id: str, infos: list[JobInfo]) -> None:
    warnings = [text for one in infos for text in one.metrics.warnings or ()]
    for text in warnings[:_WARNINGS_SHOWN]:
        logger.warning("Job '%s': %s", dsort_id, text)
    if len(warnings) > _WARNINGS_SHOWN:
        logger.warning("Job '%s': %s more warnings", dsort_id, len(warnings) - _WARNINGS_SHOWN)


def _result(dsort_id: str, infos: list[JobInfo]) -> WaitResult | None:
    """The result of a job that is over."""
    from aistore.sdk.wait_result import WaitResult, moment

    error = next((text for one in infos for text in one.metrics.errors or () if text), None)
    if any(one.aborted for one in infos):
        return WaitResult(dsort_id, False, error or "aborted")
    if not infos or not all(one.metrics.shard_creation.finished for one in infos):
        return None
    ended = max((parse_time(one.finish_time) for one in infos if one.finish_time), default=0)
    return WaitResult(dsort_id, True, error, moment(ended) if ended else None)


def _query(dsort_id: str) -> str:
    return encode_query({params.UUID: dsort_id})
