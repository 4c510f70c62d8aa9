"""Copies of buckets and of many objects, and other names for buckets (protocol/10 7, 14, 23.4)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec.structs import replace

from aistore.server.api import inventory
from aistore.server.api.messages import job_reply
from aistore.server.api.remote.copying import RemoteCopying
from aistore.server.api.remote.selecting import workers_of
from aistore.server.jobs.copying import Copying, Plan
from aistore.server.store.errors import BucketExists
from aistore.wire import access, actions, params
from aistore.wire.errors import ApiError, bucket_exists, remote_cluster_missing
from aistore.wire.ids import new_letters
from aistore.wire.messages import CopyBucket, CopyObjects, decode_value
from aistore.wire.names import BACKENDS, BucketId, check_object_name, parse_uname
from aistore.wire.props import BackendBucket, pack_native
from aistore.wire.template import parse_template

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aistore.http1.message import Reply
    from aistore.http1.server import Request
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = [
    "check_plan",
    "copy_bucket",
    "copy_many",
    "copying_of",
    "destination_of",
    "find_destination",
    "make_destination",
    "rename_bucket",
    "start_filling",
]

T = TypeVar("T")

# Jobs that a bucket must not be renamed under, and how long it is waited for their end (protocol/10 14.2).
_EXCLUSIVE: Final = frozenset(
    {actions.COPY_BUCKET, actions.COPY_OBJECTS, actions.TRANSFORM_BUCKET, actions.TRANSFORM_OBJECTS}
)
_CONFLICT_WAIT: Final = 5.0
# Values of `presence` that ask for what is not cached, too.
_ALL: Final = frozenset({"0", "1"})


async def copy_bucket(node: Node, request: Request, source: Bucket, value: object) -> Reply:
    """Start the copy of a bucket; the answer is the job's id."""
    identity = node.backends.resolve(destination_of(request))
    message = decode_value(value, CopyBucket, actions.COPY_BUCKET, node.gateway_name)
    check_plan(message)
    if identity == source.id and not (message.dry_run or source.remote is not None):
        raise ApiError(400, f'cannot {actions.COPY_BUCKET} bucket "{identity.cname}" onto itself')
    node.check_access(source, access.GET, "GET")
    for job in node.control.jobs.select(actions.COPY_BUCKET, running=True):
        if job.pair == (source.id, identity):
            raise ApiError(400, f"{job.kind}[{job.id}] is already running - not starting")
    target = find_destination(node, source, identity, deletes=message.synchronize)
    if source.remote is not None and request.params.get(params.PRESENCE, "") in _ALL:
        return await _start_copies(node, source, identity, target, _as_selection(message))

    async def work(job: Job, destination: Bucket | None) -> None:
        copying = copying_of(node, job, source, destination, message, everything=False)
        await copying.prefix(message.prefix, count_bytes=identity != source.id)
        if message.synchronize:
            await copying.synchronize(message.prefix)

    what = f"cp {source.id.cname}=>{identity.cname}"
    return await start_filling(node, actions.COPY_BUCKET, what, source, identity, target, work, message)


async def copy_many(node: Node, source: Bucket, value: object) -> Reply:
    """Copy selected objects; the answer is the id of the job, which may be one that runs already."""
    message = decode_value(value, CopyObjects, actions.COPY_OBJECTS, node.gateway_name)
    if message.tobck is None:
        raise ApiError(400, "bucket name is missing")
    try:
        identity = node.backends.resolve(message.tobck.bucket_id())
    except ApiError as error:
        if error.tcode != "ErrInvalidBackendProvider":
            raise
        return await _start_refused(node, source, error)
    check_plan(message)
    node.check_access(source, access.GET, "GET")
    target = find_destination(node, source, identity, deletes=message.synchronize)
    return await _start_copies(node, source, identity, target, message)


def _as_selection(message: CopyBucket) -> CopyObjects:
    """The request to copy all objects of a remote bucket, as the request that does that (protocol/10 14)."""
    return CopyObjects(
        **{name: getattr(message, name) for name in message.__struct_fields__ if name in CopyObjects.__struct_fields__}
    )


async def _start_copies(
    node: Node, source: Bucket, identity: BucketId, target: Bucket | None, message: CopyObjects
) -> Reply:
    if target is None and not message.dry_run:
        target = await make_destination(node, source, identity, message.objnames)

    async def work(job: Job) -> None:
        copying = copying_of(node, job, source, target, message, everything=True)
        await _copy_selected(copying, message, f"{node.name}: {{}} does not exist")

    job = node.control.jobs.join(
        actions.COPY_OBJECTS, work, bucket=source.id, source=source.id, destination=identity, job_id=new_letters("tco-"),
        control=f"cp {source.id.cname}=>{identity.cname}", names=message.objnames,
    )  # fmt: skip
    return await job_reply(job)


async def _start_refused(node: Node, source: Bucket, error: ApiError) -> Reply:
    """An unknown provider of the destination is what the job finds, and not the call (protocol/10 23.4)."""

    async def work(_: Job) -> None:
        raise error

    job = node.control.jobs.join(
        actions.COPY_OBJECTS, work, bucket=source.id, source=source.id, job_id=new_letters("tco-")
    )
    return await job_reply(job)


async def _copy_selected(copying: Copying | RemoteCopying, message: CopyObjects, missing: str) -> None:
    if message.objnames:
        names = []
        for name in message.objnames:
            try:
                names.append(check_object_name(name))
            except ApiError as error:
                copying.job.failed(error.message)
        await copying.names(names, missing)
        return
    template = parse_template(message.template or message.prefix)
    if template.prefix is None:
        await copying.names(map(check_object_name, template.names()))
        if message.synchronize:
            await copying.synchronize_names(map(check_object_name, template.names()))
    else:
        await copying.prefix(template.prefix, recursive=not message.non_recurs, count_bytes=False)
        if message.synchronize:
            await copying.synchronize(template.prefix)


def check_plan(message: CopyBucket | CopyObjects) -> None:
    """Raise ApiError 400 for options that exclude one another, or mean nothing."""
    if message.synchronize and message.prepend:
        text = f'prepend option ("{message.prepend}") is incompatible with the request to synchronize buckets'
        raise ApiError(400, text)
    # Fewer than "none" (-1) crashes the reference's request handler.
    if message.num_workers < -1:
        raise ApiError(400, f"invalid num-workers {message.num_workers} (expected -1 or more)")


def copying_of(
    node: Node,
    job: Job,
    source: Bucket,
    target: Bucket | None,
    message: CopyBucket | CopyObjects,
    *,
    everything: bool,
) -> Copying | RemoteCopying:
    """How a request is worked on: within the cluster, or with what lives elsewhere."""
    plan = Plan(message.prepend, message.ext, message.dry_run, message.synchronize, message.coer)
    if source.remote is not None or (target is not None and node.remote_of(target) is not None):
        latest = message.latest_ver or message.synchronize
        return RemoteCopying(job, node, source, target, plan, workers_of(message.num_workers), latest, everything)
    checksum = node.props(target).checksum.type if target is not None else ""
    return Copying(job, node.store, node.control.scanner, source, target, checksum, plan)


def destination_of(request: Request) -> BucketId:
    """The bucket that `bck_to` names. Raises ApiError 400."""
    uname = request.params.get(params.BCK_TO, "")
    if not uname:
        raise ApiError(400, 'missing "bck_to" query parameter')
    target, name = parse_uname(uname)
    if name:
        raise ApiError(400, f'parse-uname "{uname}": not expecting object name (got "{target.object_cname(name)}")')
    return target


def find_destination(node: Node, source: Bucket, identity: BucketId, *, deletes: bool = False) -> Bucket | None:
    """The bucket to copy into, None for one that has to be made; `deletes` says that what is no copy may be deleted there.

    Raises ApiError 403 and 404, and `UnknownBucket` for a remote one that is not registered yet.
    """
    target: Bucket | None
    if identity.is_remote:
        if identity.uuid and node.backends.cluster(identity.uuid) is None:
            raise remote_cluster_missing(node.gateway_name, identity.cname, identity.uuid, source.id.name)
        target = node.find(identity)
    else:
        target = node.store.bucket(identity)
    if target is not None:
        node.check_access(target, access.PUT, "PUT")
        if deletes:
            node.check_access(target, access.DELETE_OBJECT, "DELETE-OBJECT")
    return target


async def start_filling(
    node: Node,
    kind: str,
    what: str,
    source: Bucket,
    identity: BucketId,
    target: Bucket | None,
    work: Callable[[Job, Bucket | None], Awaitable[None]],
    message: CopyBucket,
) -> Reply:
    """Start the job that fills a bucket from another one; the answer is its id.

    Without a `target` the bucket is made first, as the job's own. `work` gets it, or None in a dry run where there is none.
    """
    made = None
    if target is None and not message.dry_run:
        node.control.jobs.check_room()
        made = _create_like(node, source, identity, lambda number: job.has_made(number))  # noqa: PLW0108 (there is no job yet)

    async def run(job: Job) -> None:
        await work(job, target if made is None else await _when_made(node, identity, made))

    job = node.control.jobs.start(
        kind, run, bucket=identity, source=source.id, destination=identity, control=what
    )  # fmt: skip
    if made is not None:
        await _when_made(node, identity, made)
    return await job_reply(job)


async def make_destination(node: Node, source: Bucket, identity: BucketId, names: Sequence[str] = ()) -> Bucket:
    """Make the bucket that objects of another one (of these names, or selected) go to; if somebody else has made it by now, that one.

    Raises ApiError 429 while the job that is to fill it could not be started.
    """
    node.control.jobs.check_room(names)
    return await _when_made(node, identity, _create_like(node, source, identity))


def _create_like(
    node: Node, source: Bucket, identity: BucketId, told: Callable[[int], None] | None = None
) -> asyncio.Future[Bucket]:
    """Make a bucket with the properties of another, or of a cloud bucket with those of new ones; `told` learns its number."""
    is_cloud = source.id.provider in BACKENDS
    props = node.control.config.current.bucket_props() if is_cloud else node.props(source)
    # The copy is native: what it holds is its own.
    props = replace(props, backend_bck=BackendBucket())

    def document(number: int) -> bytes:
        if told is not None:
            told(number)
        return pack_native(props, number)

    return node.store.create_bucket(identity, document)


async def _when_made(node: Node, identity: BucketId, made: asyncio.Future[Bucket]) -> Bucket:
    """The bucket that is being made, or the one that somebody else made at the same moment."""
    try:
        return await asyncio.shield(made)
    except BucketExists:
        bucket = node.store.bucket(identity)
        if bucket is None:
            raise
        return bucket


# -- rename --------------------------------------------------------------------------------------------------------


async def rename_bucket(node: Node, request: Request, bucket: Bucket) -> Reply:
    """Give a bucket another name, at once whatever it holds; the answer is the id of the job."""
    old, new = bucket.id, destination_of(request)
    if old.is_remote:
        raise ApiError(400, f"can only rename AIS ('ais://') bucket (\"{old.cname}\" is not)")
    if new == old:
        raise ApiError(400, f'cannot rename bucket "{new.cname}" to itself ("{new.cname}")')
    if new.is_remote:
        raise ApiError(400, f"can only rename to AIS ('ais://') bucket (\"{new.cname}\" is remote)")
    node.check_access(bucket, access.MOVE_BUCKET, "MOVE-BUCKET")
    if node.store.bucket(new) is not None:
        raise bucket_exists(new.cname, status=400)
    await _wait_for_conflicts(node, bucket)
    node.control.jobs.check_room()
    if bucket.remote is not None:  # its inventory carries its old name
        await inventory.forget(node, bucket)
    objects, size = node.store.usage(bucket)  # while nothing has happened that a failure would hide
    try:
        await node.store.rename_bucket(bucket, new)
    except BucketExists:
        raise bucket_exists(new.cname, status=400) from None

    async def work(job: Job) -> None:
        job.done(objects, size)

    job = node.control.jobs.start(
        actions.MOVE_BUCKET, work, bucket=new, source=old, destination=new, control=f"mv {old.cname}=>{new.cname}"
    )  # fmt: skip
    return await job_reply(job)


async def _wait_for_conflicts(node: Node, bucket: Bucket) -> None:
    """Wait for the end of copies from or to a bucket, for some seconds. Raises ApiError 409."""
    jobs = node.control.jobs
    deadline = time.monotonic() + _CONFLICT_WAIT
    while conflict := next(
        (job for job in jobs.select(running=True) if job.kind in _EXCLUSIVE and job.busy and job.concerns(bucket.id)),
        None,
    ):
        if time.monotonic() > deadline:
            text = f'{node.name}: {conflict.kind}[{conflict.id}] is currently running, cannot run "{actions.MOVE_BUCKET}"({bucket.id.cname}) concurrently'
            raise ApiError(409, text, "ErrLimitedCoexistence")
        await asyncio.sleep(0.05)
