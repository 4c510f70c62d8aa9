"""How much buckets hold (protocol/10 11, 12): a job counts it, and whoever started it asks until it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from aistore.http1.message import Reply
from aistore.server.api.messages import bucket_identity
from aistore.wire import actions
from aistore.wire import params as param
from aistore.wire.errors import ApiError
from aistore.wire.headers import BUCKET_PROPS, BUCKET_SUMMARY, TEXT, XACTION_ID
from aistore.wire.ids import is_job_id
from aistore.wire.messages import decode_value
from aistore.wire.props import encode_wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aistore.http1.server import Request
    from aistore.server.jobs.registry import Job
    from aistore.server.jobs.summary import BucketSummary
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["info", "summarize"]


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    uuid: str = ""
    prefix: str = ""
    cached: bool = False
    present: bool = False
    dont_add_remote: bool = False


async def summarize(node: Node, request: Request, name: str, value: object) -> Reply:
    """Start counting, or answer with what was counted; one bucket, or all that match."""
    message = decode_value(value, _Message, actions.SUMMARY, node.gateway_name)
    buckets = [node.bucket(name, request)] if name else _matching(node, request)
    if not message.uuid:
        return Reply(202, [("Content-Type", TEXT)], _start(node, buckets, message.prefix).id.encode())
    if not is_job_id(message.uuid):
        raise ApiError(400, f'{actions.SUMMARY}: invalid UUID "{message.uuid}"')
    found = _find(node, message.uuid, buckets[0] if name else None)
    headers = [("Content-Type", TEXT)]
    if found is None:
        return Reply(202, headers, b"[]")
    return Reply(200, headers, encode_wire(found) + b"\n")


def info(node: Node, request: Request, bucket: Bucket, prefix: str) -> Reply:
    """The same in headers, with the bucket's properties."""
    props = (BUCKET_PROPS, encode_wire(node.props(bucket)).decode())
    job_id = request.params.get(param.UUID, "")
    if not job_id:
        return Reply(202, [props, (XACTION_ID, _start(node, [bucket], prefix).id)])
    if not is_job_id(job_id):
        asked = ("GET", f"/v1/buckets/{bucket.id.name}/query")
        raise ApiError(400, f'invalid xaction (job) UUID "{job_id}"', call=asked)
    found = _find(node, job_id, bucket)
    headers = [props, (XACTION_ID, job_id)]
    if found is None:
        return Reply(202, headers)
    summary = msgspec.structs.replace(found[0], is_present=True)
    return Reply(200, [*headers, (BUCKET_SUMMARY, encode_wire(summary).decode())])


def _matching(node: Node, request: Request) -> list[Bucket]:
    """Known buckets of the provider and namespace that the query names, if it names any."""
    params = request.params
    wanted = bucket_identity("any", request)
    found = [
        bucket
        for bucket in node.store.buckets()
        if (not params.get(param.PROVIDER) or bucket.id.provider == wanted.provider)
        and (
            not params.get(param.NAMESPACE) or (bucket.id.uuid, bucket.id.namespace) == (wanted.uuid, wanted.namespace)
        )
    ]
    if not found:
        raise ApiError(400, "no buckets in the cluster, nothing to do")
    return found


def _start(node: Node, buckets: Sequence[Bucket], prefix: str) -> Job:
    return node.control.summaries.start(buckets, prefix.removesuffix("*"))


def _find(node: Node, job_id: str, bucket: Bucket | None) -> list[BucketSummary] | None:
    """The result of a job, of this bucket if one is given, None while it counts. Raises `ApiError` 404 and 410."""
    job = node.control.jobs.find(job_id)
    found = node.control.summaries.find(job_id)
    # The reference's error comes from a target.
    asked = ("GET", f"/v1/buckets/{bucket.id.name if bucket is not None else ''}/query")
    if job is not None and bucket is not None and not job.concerns(bucket.id):
        job = None  # who may look at one bucket learns nothing of another
    if job is not None and job.aborted:
        raise ApiError(410, f"{node.name}: {actions.SUMMARY} job {job_id}: {job.status().err}", call=asked)
    if job is None or job.kind != actions.SUMMARY or (job.ended and found is None):
        text = f"{node.name}: {actions.SUMMARY} job {job_id} does not exist"
        raise ApiError(404, text, "ErrNotFound", call=asked)
    return found
