"""dSort: `/v1/sort` (protocol/40 B2)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec.structs import replace

from aistore.server.api.copying import find_destination, make_destination
from aistore.server.api.key_map import fetch_map
from aistore.server.api.messages import OK, json_reply, method_refused, read_message, text_reply
from aistore.server.api.registering import registering
from aistore.server.api.sort_places import places_of
from aistore.server.archive.regexp import Regexp
from aistore.server.dsort.progress import Progress
from aistore.server.dsort.sorting import sort_shards
from aistore.server.dsort.spec import check_specification
from aistore.server.jobs.registry import USER_ABORT
from aistore.server.store.content import in_thread
from aistore.wire import access, actions
from aistore.wire import params as param
from aistore.wire.dsort import SECTION, Creation, Extraction, JobInfo, Specification
from aistore.wire.errors import ApiError
from aistore.wire.headers import TEXT
from aistore.wire.ids import new_job_id
from aistore.wire.messages import BadMessage, parse_document
from aistore.wire.values import parse_bool

if TYPE_CHECKING:
    from aistore.http1.message import Reply
    from aistore.http1.server import Request, Result
    from aistore.server.dsort.spec import Order
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node

__all__ = ["infos", "order_of", "sort"]

P = TypeVar("P", Extraction, Creation)

_ALLOW: Final = "DELETE, GET, POST"
_EXPRESSION_MAX: Final = 4096
_PROGRAM_MAX: Final = 1000
_STEP_SECONDS: Final = 0.05
_SHOWN_MAX: Final = 100


def sort(node: Node, request: Request, tail: str) -> Result:
    """Calls below `/v1/sort`."""
    job_id = request.params.get(param.UUID, "")
    if request.method == "POST" and not tail:
        return registering(node, lambda: _start(node, request))
    if request.method == "GET" and not tail:
        return _info(node, request, job_id) if job_id else _listed(node, request)
    if request.method == "DELETE":
        if tail == "abort":
            return _abort(node, job_id)
        if not tail:
            return _remove(node, job_id)
    if request.method in ("POST", "GET", "DELETE"):
        raise ApiError(400, f"invalid path {request.path!r}: expected /v1/sort or /v1/sort/abort")
    return method_refused(request, _ALLOW)


# -- looking --


def _info(node: Node, request: Request, job_id: str) -> Reply:
    info = node.control.sorts.find(job_id)
    if info is None:
        raise ApiError(404, f"[dsort] {job_id} does not exist")
    return json_reply(request, infos(node, info), TEXT)


def infos(node: Node, info: JobInfo) -> dict[str, JobInfo]:
    """What each target tells of a job. One of them did all the work, so that sums are right."""
    first, *others = sorted(node.smap.targets) or [node.target_id]
    metrics = info.metrics
    idle = replace(
        info,
        objects="0",
        bytes="0",
        metrics=replace(
            metrics,
            local_extraction=_uncounted(metrics.local_extraction, Extraction()),
            shard_creation=_uncounted(metrics.shard_creation, Creation()),
        ),
    )
    return {first: info, **dict.fromkeys(others, idle)}


def _uncounted(phase: P, zero: P) -> P:
    """A phase with times and state of another, and no counts."""
    return replace(
        zero,
        started_time=phase.started_time,
        end_time=phase.end_time,
        elapsed=phase.elapsed,
        running=phase.running,
        finished=phase.finished,
    )


async def _listed(node: Node, request: Request) -> Reply:
    expression = request.params.get(param.REGEX, "")
    if len(expression) > _EXPRESSION_MAX:
        raise ApiError(400, f"{param.REGEX} is longer than {_EXPRESSION_MAX} characters")
    active = parse_bool(request.params.get(param.ONLY_ACTIVE, ""))
    shown = [info for info in node.control.sorts.all() if not (active and info.archived)]
    if expression:
        wanted = await _matching(Regexp(expression), {info.metrics.description or "" for info in shown})
        shown = [info for info in shown if (info.metrics.description or "") in wanted]
    return json_reply(request, shown, TEXT)


async def _matching(found: Regexp, descriptions: set[str]) -> set[str]:
    """Those that match. There may be thousands, each of which may take more than a second: in threads, with turns for others."""
    if found.size > _PROGRAM_MAX:
        raise ApiError(400, f"{param.REGEX} is too large: {found.size} instructions (at most {_PROGRAM_MAX})")
    matching: set[str] = set()
    rest = iter(descriptions)

    def step() -> bool:
        deadline = time.monotonic() + _STEP_SECONDS
        for description in rest:
            if found.search(description):
                matching.add(description)
            if time.monotonic() > deadline:
                return True
        return False

    while await in_thread(step):
        pass
    return matching


# -- ending --


def _abort(node: Node, job_id: str) -> Reply:
    if job_id:
        if node.control.sorts.find(job_id) is None:
            raise ApiError(404, f"dsort job {job_id} does not exist", "ErrNotFound")
        job = node.control.jobs.find(job_id)
        if job is not None:
            node.control.jobs.abort(job)
    return OK


def _remove(node: Node, job_id: str) -> Result:
    sorts = node.control.sorts
    if not job_id or sorts.runs(job_id):
        raise ApiError(400, f"dsort process {job_id} still in progress and cannot be removed")
    if sorts.find(job_id) is None:
        raise ApiError(404, f'invalid request: job "{job_id}" does not exist')
    return _removed(node, job_id)


async def _removed(node: Node, job_id: str) -> Reply:
    await node.control.sorts.remove(job_id)
    return OK


# -- starting --


def order_of(node: Node, body: bytes) -> Order:
    """What a request to start a job asks for. Raises `ApiError` 400."""
    try:
        spec = parse_document(body, Specification)
    except BadMessage as error:
        shown = body[:_SHOWN_MAX].decode("utf-8", "replace")
        raise ApiError(400, f"{node.gateway_name}: failed to unmarshal dsort request ({shown}), err: {error}") from None
    return check_specification(spec, node.control.config.current.other.get(SECTION, {}))


async def _start(node: Node, request: Request) -> Reply:
    order = order_of(node, await read_message(request))
    source = node.find(order.source)
    node.check_access(source, access.GET, "GET")
    identity = node.backends.resolve(order.target)
    target = find_destination(node, source, identity)
    if target is None and not order.dry_run:
        target = await make_destination(node, source, identity)
    host = request.headers.get("host", "")
    progress = Progress(f"srt-{new_job_id()}", source.id, identity, order.description)
    sorts = node.control.sorts

    async def work(job: Job) -> None:
        key_map = await fetch_map(node, order, host, progress.warn) if order.key_map else None
        places = places_of(node, order, source, target)
        try:
            await sort_shards(node.store, node.control.archives, order, places, key_map, progress)
        finally:
            job.done(progress.shards, progress.size)

    job = node.control.jobs.start(
        actions.DSORT, work, job_id=progress.id, bucket=source.id, source=source.id, destination=identity,
        control=f"{source.id.cname}=>{identity.cname} {order.algorithm.kind}",
    )  # fmt: skip
    job.when_ended(lambda: sorts.end(progress, _error_of(job)))
    try:
        await sorts.start(progress)
    except BaseException:  # nobody learns of its id
        node.control.jobs.abort(job)
        raise
    return text_reply(job.id)


def _error_of(job: Job) -> str:
    return f"dsort job {job.id} aborted" if job.abort_reason == USER_ABORT else job.abort_reason
