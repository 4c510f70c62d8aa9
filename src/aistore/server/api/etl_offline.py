"""Buckets and many objects through an ETL: jobs (protocol/50 5.4-5.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aistore.server.api.copying import check_plan, destination_of, find_destination, make_destination, start_filling
from aistore.server.api.messages import job_reply
from aistore.server.etl.offline import Chain, Transforming
from aistore.server.jobs.copying import Plan
from aistore.wire import access, actions, params
from aistore.wire.errors import ApiError
from aistore.wire.ids import new_letters
from aistore.wire.messages import CopyBucket, CopyObjects, decode_value
from aistore.wire.names import check_object_name, check_prefix
from aistore.wire.template import parse_template

if TYPE_CHECKING:
    from aistore.http1.message import Reply
    from aistore.http1.server import Request
    from aistore.server.etl.registry import Definition, Etls
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["transform_bucket", "transform_many"]

# Values of `presence` that ask for what is not cached, too.
_ALL: Final = frozenset({"0", "1"})


async def transform_bucket(node: Node, request: Request, etls: Etls, source: Bucket, value: object) -> Reply:
    """Start the transformation of a bucket; the answer is the job's id."""
    identity = node.backends.resolve(destination_of(request))
    everything = request.params.get(params.PRESENCE, "") in _ALL
    message = decode_value(value, CopyBucket, actions.TRANSFORM_BUCKET, node.gateway_name)
    chain = _chain(node, etls, message)
    check_plan(message)
    prefix = check_prefix(message.prefix, "bad etl-bck request")
    if identity == source.id and not message.dry_run:
        raise ApiError(400, f'cannot {actions.TRANSFORM_BUCKET} bucket "{identity.cname}" onto itself')
    node.check_access(source, access.GET, "GET")
    target = find_destination(node, source, identity, deletes=message.synchronize)

    async def work(job: Job, destination: Bucket | None) -> None:
        transforming = _transforming(node, job, chain, source, destination, message, everything=everything)
        with chain.used_by(job):
            await transforming.prefix(prefix, recursive=not message.non_recurs)
            if message.synchronize:
                await transforming.synchronize(prefix)

    what = f"etl {chain.running.name} {source.id.cname}=>{identity.cname}"
    return await start_filling(node, actions.TRANSFORM_BUCKET, what, source, identity, target, work, message)


async def transform_many(node: Node, etls: Etls, source: Bucket, value: object) -> Reply:
    """Transform selected objects; the answer is the id of the job, which may be one that runs already."""
    message = decode_value(value, CopyObjects, actions.TRANSFORM_OBJECTS, node.gateway_name)
    if message.tobck is None:
        raise ApiError(400, "bucket name is missing")
    identity = node.backends.resolve(message.tobck.bucket_id())
    chain = _chain(node, etls, message)
    check_plan(message)
    node.check_access(source, access.GET, "GET")
    target = find_destination(node, source, identity, deletes=message.synchronize)
    if target is None and not message.dry_run:
        target = await make_destination(node, source, identity, message.objnames)

    async def work(job: Job) -> None:
        transforming = _transforming(node, job, chain, source, target, message, everything=True)
        with chain.used_by(job):
            try:
                await _selected(transforming, message)
            except ApiError as error:
                job.give_up(error.message)

    job = node.control.jobs.join(
        actions.TRANSFORM_OBJECTS, work, bucket=source.id, source=source.id, destination=identity,
        job_id=new_letters("tco-"), control=f"etl {chain.running.name} {source.id.cname}=>{identity.cname}",
        names=message.objnames,
    )  # fmt: skip
    return await job_reply(job)


async def _selected(transforming: Transforming, message: CopyObjects) -> None:
    if message.objnames:
        await transforming.names(message.objnames)
        return
    template = parse_template(message.template or message.prefix)
    if template.prefix is None:
        await transforming.names(map(check_object_name, template.names()), missing=False)
    else:
        await transforming.prefix(template.prefix, recursive=not message.non_recurs)


def _transforming(
    node: Node,
    job: Job,
    chain: Chain,
    source: Bucket,
    target: Bucket | None,
    message: CopyBucket | CopyObjects,
    *,
    everything: bool,
) -> Transforming:
    plan = Plan(message.prepend, message.ext, message.dry_run, message.synchronize, message.coer)
    fresh = message.latest_ver or message.synchronize
    return Transforming(
        node, job, chain, source, target, plan, fresh=fresh, workers=message.num_workers, everything=everything
    )


def _chain(node: Node, etls: Etls, message: CopyBucket | CopyObjects) -> Chain:
    """The ETLs of a request. Raises ApiError 404 for one that there is not, or that does not run."""
    definitions: list[Definition] = []
    for name in (message.id, *message.pipeline):
        found = etls.find(name)
        if found is None:
            raise ApiError(404, f"ETL {name} doesn't exist")
        if found.running is None:
            raise ApiError(404, f"{node.name}: {name} does not exist")
        definitions.append(found)
    return Chain(definitions)
