"""dSort: `/v1/sort` (protocol/40 B2)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec.structs import replace

from aistore.server.api.copying import find_destination, make_destination
from aistore.server.api.key_map import fetch_map
from aistore.server.api.messages import OK, json_reply, method_refused, read_message, text_reply
from aistore.server.api.registering import registering
from aistore.server.api.remote.reading import cached
from aistore.server.api.remote.writing import write_through
from aistore.server.archive.archives import Content
from aistore.server.archive.regexp import Regexp
from aistore.server.dsort.progress import Progress
from aistore.server.dsort.sorting import Places, sort_shards
from aistore.server.dsort.spec import check_specification
from aistore.server.jobs.registry import USER_ABORT
from aistore.server.store.content import finished, in_thread
from aistore.wire import access, actions
from aistore.wire import params as param
from aistore.wire.dsort import SECTION, Creation, Extraction, JobInfo, Specification
from aistore.wire.errors import ApiError
from aistore.wire.headers import TEXT
from aistore.wire.ids import new_job_id
from aistore.wire.messages import BadMessage, parse_document
from aistore.wire.values import parse_bool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aistore.http1.message import Reply
    from aistore.http1.server import Request, Result
    from aistore.server.dsort.sorting import Made
    from aistore.server.dsort.spec import Order
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["infos", "input_shards", "order_of", "sort"]

P = TypeVar("P", Extraction, Creation)

_ALLOW: Final = "DELETE, GET, POST"
_EXPRESSION_MAX: Final = 4096
_PROGRAM_MAX: Final = 1000
_STEP_SECONDS: Final = 0.05
_FETCHED_AHEAD: Final = 8
_LOOKUPS: Final = 256  # of names in a row, before others have their turn
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
        places = _places(node, order, source, target)
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


def _places(node: Node, order: Order, source: Bucket, target: Bucket | None) -> Places:
    if target is None:  # a dry run into a bucket that there is not
        return Places(
            lambda: input_shards(node, order, source), _nowhere, at_once=False, replacing=True, checksum_type="none"
        )
    remote = node.remote_of(target) is not None
    props = node.props(target)

    async def publish(shards: list[Made]) -> None:
        if remote:
            for made in shards:
                await write_through(node, target, made.name, made.content, made.checksum, {})
            return
        # Queued one behind the other, all are in one commit.
        changes = [
            node.store.put(target, made.name, made.content, *made.checksum, versioned=props.versioning.enabled)
            for made in shards
        ]
        await finished(asyncio.gather(*changes))

    same = target.bid == source.bid
    return Places(
        lambda: input_shards(node, order, source),
        publish,
        at_once=same and not remote,
        replacing=not (same and remote),
        checksum_type=props.checksum.type,
    )


async def _nowhere(_: list[Made]) -> None:
    raise AssertionError("a dry run makes no shards")


async def input_shards(node: Node, order: Order, source: Bucket) -> AsyncIterator[tuple[str, Content | None]]:
    """Name and content of each input shard, None for one that is missing."""
    some: list[str] = []
    ahead = 1 if node.remote_of(source) is None else _FETCHED_AHEAD
    for number, name in enumerate(order.input_names(), 1):
        if number % _LOOKUPS == 0:
            await asyncio.sleep(0)
        some.append(name)
        if len(some) == ahead:
            async for one in _opened(node, source, some):
                yield one
            some = []
    async for one in _opened(node, source, some):
        yield one


async def _opened(node: Node, source: Bucket, names: list[str]) -> AsyncIterator[tuple[str, Content | None]]:
    if node.remote_of(source) is not None:
        await asyncio.gather(*(_fetch(node, source, name) for name in names))
    for name in names:
        content = Content.open(node.store, source, name)
        if content is None and node.remote_of(source) is not None and await _fetch(node, source, name):
            content = Content.open(node.store, source, name)  # it had been evicted at that moment
        if content is None:
            _check_there(node, source)
        yield name, content


def _check_there(node: Node, bucket: Bucket) -> None:
    """Raise `ApiError` for a bucket that is gone: its shards are not just missing."""
    there = node.store.bucket(bucket.id)
    if there is None or there.bid != bucket.bid:
        raise ApiError(404, f'bucket "{bucket.id.cname}" was evicted or destroyed meanwhile', "ErrBckNotFound")


async def _fetch(node: Node, source: Bucket, name: str) -> bool:
    """Have an object of a remote bucket in the cache; whether there is such an object."""
    try:
        await cached(node, source, name)
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True
