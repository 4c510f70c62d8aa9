"""Start, stop and queries of jobs (protocol/30 4-10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aistore.server.api.messages import OK, job_reply, json_reply, read_message
from aistore.server.api.remote.jobs import blob_download, prefetch_all
from aistore.server.api.sort import infos
from aistore.server.jobs.objects import visit
from aistore.wire import actions, whats
from aistore.wire.errors import ApiError, not_remote, unsupported
from aistore.wire.headers import TEXT
from aistore.wire.ids import is_job_id, new_job_id
from aistore.wire.kinds import QUICK_SCRUB, SCRUB, Kind, find_kind
from aistore.wire.messages import ActionMessage, JobArgs, decode_value, parse_query

if TYPE_CHECKING:
    from aistore.http1.message import Reply
    from aistore.http1.server import Request
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket
    from aistore.wire.messages import BucketMessage, JobQuery
    from aistore.wire.names import BucketId
    from aistore.wire.snaps import JobSnapshot

__all__ = ["QUERIES", "query", "start", "stop"]

QUERIES: Final = frozenset({whats.JOB_STATUS, whats.ALL_JOB_STATUSES, whats.RUNNING_JOBS, whats.JOB_SNAPSHOTS})


# Kinds that run on one target, of which the gateway knows no status: their snapshots tell (protocol/30 13.9).
_UNRECORDED: Final = frozenset({actions.BLOB_DOWNLOAD, actions.GET_BATCH, actions.DSORT})
# Key of the catalog's for the number of the last rebalance.
_REBALANCES: Final = "rebalances"
# Where the reference's targets execute what the gateway passes on; errors found there show it.
_TARGETS_PATH: Final = "/v1/xactions"


# -- start and stop --


async def start(node: Node, request: Request, message: ActionMessage) -> Reply:
    """Start a job by its kind; the answer is its id."""
    args = decode_value(message.value, JobArgs, "start", node.gateway_name)
    if args.kind not in ("rebalance", "resilver"):
        request.path = _TARGETS_PATH
    kind = find_kind(args.kind)
    job_id = new_job_id()
    if kind is None:
        raise ApiError(400, f'invalid xaction (job) kind "": xa-[{job_id}]')
    if kind.scope == "B" and args.bck is None:
        raise ApiError(400, f'xaction "{kind.name}" requires a bucket to start')
    buckets = [_find(node, one) for one in ([args.bck] if args.bck else args.buckets)]
    bucket = buckets[0] if len(buckets) == 1 else None
    shown = f"xa-{kind.name}[{job_id}]" + (f"-{bucket.id.cname}" if bucket else "")
    if kind.start == "own-call":
        raise ApiError(400, f'initiating "{shown}" must be done via a separate documented API')
    if kind.start == "driven-by-puts":
        raise ApiError(400, f'cannot start "{shown}" (is driven by PUTs into a mirrored bucket)')
    if kind.start == "unsupported":
        raise unsupported("start", f"xaction {kind.name}")
    _check_start(node, kind, args, bucket)
    control = ""
    if kind.name == SCRUB:
        control = f"{'quick' if args.flags & QUICK_SCRUB else 'full'}, {'repair' if args.force else 'dry run'}"
    if kind.name == actions.BLOB_DOWNLOAD and bucket is not None:
        return await blob_download(node, bucket, ActionMessage(kind.name, message.name))
    if kind.name == "rebalance":
        job_id = await _next_rebalance(node)
    job = node.control.jobs.start(
        kind.name,
        lambda job: _work(node, job, args, buckets),
        job_id=job_id,
        bucket=bucket.id if bucket else None,
        control=control,
    )
    return await job_reply(job)


async def _next_rebalance(node: Node) -> str:
    """Rebalances are numbered (protocol/30 3)."""
    number = int(node.store.catalog.meta(_REBALANCES) or 0) + 1
    await node.store.catalog.set_meta({_REBALANCES: str(number)})
    return f"g{number}"


def _find(node: Node, message: BucketMessage) -> Bucket:
    return node.find(message.bucket_id())


def _check_start(node: Node, kind: Kind, args: JobArgs, bucket: Bucket | None) -> None:
    """Refuse kinds that this cluster has nothing for."""
    if kind.name == "rebalance":
        have = len(node.smap.targets)
        if have < 2:
            need = f"not enough targets: Smap v{node.smap.version}, need 2, have {have}"
            raise ApiError(400, f"{node.gateway_name}: {need}", "errNotEnoughTargets")
    if kind.name == "resilver":
        if not args.daemonid:
            raise unsupported("run", "resilver on all targets in the cluster")
        if not node.smap.has_target(args.daemonid):
            what = f"cannot resilver node {args.daemonid} not present in Smap v{node.smap.version}"
            raise ApiError(400, f"{node.gateway_name}: {what}", "errNodeNotFound")
    if kind.name == SCRUB and (running := node.control.jobs.select(SCRUB, running=True)):
        raise ApiError(409, f"{SCRUB}[{running[0].id}] is already running - not starting", "ErrBusy")
    if (
        bucket is not None
        and kind.name in (actions.BLOB_DOWNLOAD, actions.PREFETCH_OBJECTS)
        and node.remote_of(bucket) is None
    ):
        raise not_remote(kind.name, bucket.id.cname)


async def _work(node: Node, job: Job, args: JobArgs, buckets: list[Bucket]) -> None:
    """What the kinds started by name do here: content lies in one place, and nothing is evicted from native buckets."""
    bucket = buckets[0] if len(buckets) == 1 else None
    if job.kind == actions.RECHUNK and bucket is not None:
        limit = node.props(bucket).chunks.objsize_limit
        if limit:
            await visit(job, node.control.scanner, bucket, "", limit)
    elif job.kind == "cleanup-store":
        await node.control.scanner.run(node.store.work.remove_stale)
    elif job.kind == actions.PREFETCH_OBJECTS and bucket is not None:
        await prefetch_all(job, node, bucket)
    elif job.kind == SCRUB:
        from aistore.server.doctor import DOCUMENTS  # and with it all of the scrub, which most servers never need

        quick = bool(args.flags & QUICK_SCRUB)
        await node.control.scrubs.run(job, DOCUMENTS, full=not quick, repair=args.force)
    elif job.kind == "lru":
        objects, size = await node.backends.space.relieve(force=args.force, among=buckets)
        job.done(objects, size)


def stop(node: Node, request: Request, message: ActionMessage) -> Reply:
    """Abort jobs by id, or by kind and bucket."""
    args = decode_value(message.value, JobArgs, "stop", node.gateway_name)
    request.path = _TARGETS_PATH
    kind = find_kind(args.kind)
    jobs = node.control.jobs
    if args.id:
        if not is_job_id(args.id):
            raise ApiError(400, f'invalid xaction (job) UUID "{args.id}": xa-[{args.id}]')
        job = jobs.find(args.id)
        if job is not None:
            jobs.abort(job)
    elif kind is None:
        raise ApiError(400, "cannot stop xaction given 'xa-[]' - expecting a valid kind and/or UUID")
    else:
        bucket = args.bck.bucket_id() if args.bck else None
        for job in jobs.select(kind.name, running=True):
            if bucket is None or job.concerns(bucket):
                jobs.abort(job)
    return OK


# -- queries --


async def query(node: Node, request: Request, what: str) -> Reply:
    """One of the four job queries."""
    message = parse_query(await read_message(request), request.method, node.gateway_name)
    if what == whats.JOB_STATUS:
        return json_reply(request, _status(node, message).status(), TEXT)
    if what == whats.ALL_JOB_STATUSES:
        return json_reply(request, _status_all(node, message), TEXT)
    if what == whats.RUNNING_JOBS:
        kind = find_kind(message.kind)
        bucket = message.bck.bucket_id() if message.bck else None
        running = node.control.jobs.select(kind.name if kind else "", bucket, running=True)
        return json_reply(request, [f"{job.kind}[{job.id}]" for job in running])
    return json_reply(request, _snapshots(node, request, message))


def _shown(message: JobQuery, kind: Kind | None) -> str:
    """A query as the reference prints it in its refusals."""
    text = f"x-{kind.name if kind else ''}" + (f"[{message.id}]" if message.id else "")
    if message.bck:
        text += f"-{message.bck.bucket_id().cname}"
    return text


def _status(node: Node, message: JobQuery) -> Job:
    kind = find_kind(message.kind)
    jobs = node.control.jobs
    if not message.id and kind is None:
        raise ApiError(400, f"invalid {_shown(message, kind)}")
    bucket = _find(node, message.bck).id if message.bck else None
    if message.id:
        job = jobs.find(message.id)
        if job is not None and kind is not None and job.kind != kind.name:
            raise ApiError(400, f"kind mismatch: {_shown(message, kind)}, expected kind={job.kind}")
    else:
        found = jobs.select(kind.name if kind else "", bucket, running=True if message.show_active else None)
        job = next((one for one in found if one.running), found[0] if found else None)
    if job is None or job.kind in _UNRECORDED:
        what = f"x-[{message.id}]" if message.id else _shown(message, kind)
        raise ApiError(404, f"{node.gateway_name}: {what} does not exist", "ErrNotFound")
    return job


def _status_all(node: Node, message: JobQuery) -> object:
    # The records carry no bucket, so that a bucket matches none; display names do not match either (protocol/30 8).
    if message.bck is not None:
        return None
    found = node.control.jobs.select(message.kind, running=True if message.show_active else None)
    ordered = sorted(found, key=lambda job: not job.running)
    with_errors = [job.status() for job in ordered]
    return with_errors or None


def _snapshots(node: Node, request: Request, message: JobQuery) -> dict[str, object]:
    kind = find_kind(message.kind)
    jobs = node.control.jobs
    targets = sorted(node.smap.targets)
    if message.id:
        job = _job_of_ids(node, request, message, kind)
        return {target: [_snapshot(node, job, target, targets[0])] for target in targets}
    bucket: BucketId | None = None
    if message.bck:
        bucket = message.bck.bucket_id()
        if node.store.bucket(bucket) is None:
            raise ApiError(404, f'"x--{bucket.cname}" not found')
    found = jobs.select(kind.name if kind else "", bucket, running=message.show_active)
    return {target: [_snapshot(node, job, target, targets[0]) for job in found] for target in targets}


def _snapshot(node: Node, job: Job, target: str, counted_on: str) -> JobSnapshot:
    snapshot = job.snapshot(counted=target == counted_on)
    if job.kind == actions.DSORT and (info := node.control.sorts.find(job.id)) is not None:
        snapshot.ext = infos(node, info)[target].metrics
    if job.kind == SCRUB and target == counted_on:
        snapshot.ext = node.control.scrubs.find(job.id)
    return snapshot


def _job_of_ids(node: Node, request: Request, message: JobQuery, kind: Kind | None) -> Job:
    """The first job that is known of those listed in `id`."""
    ids = message.id.split(",")
    if len(ids) == 1 and not is_job_id(message.id):
        request.path = _TARGETS_PATH
        raise ApiError(400, f'invalid xaction (job) UUID "{message.id}"')
    job = next(filter(None, map(node.control.jobs.find, ids)), None)
    if job is not None and (kind is None or job.kind == kind.name) and (not message.show_active or job.running):
        return job
    only = "-only-running" if message.show_active else ""
    raise ApiError(404, f'"x-{kind.name if kind else ""}[{message.id}]{only}" not found')
