"""How much buckets hold (protocol/10 11, 12): a job counts it, and is asked until it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, cast

from aistore.calls.buckets import act
from aistore.calls.query import encode_query, quote_name
from aistore.calls.steps import Sleep
from aistore.transport.request import Request
from aistore.wire import actions, headers, params

if TYPE_CHECKING:
    from aistore.calls.bucket_ref import BucketRef
    from aistore.calls.steps import Answer, Steps

__all__ = ["ObjectCounts", "ObjectSizes", "Summary", "TotalSizes", "info", "summary"]

_OK = 200
_ACCEPTED = 202
_PARTIAL = 206
_FIRST_INTERVAL = 0.02
_SLOWEST = 10.0


class ObjectCounts(TypedDict):
    """How many objects there are, as decimal numbers in text: in the cluster, and in the bucket's remote backend."""

    obj_count_present: str
    obj_count_remote: str


class ObjectSizes(TypedDict):
    """Smallest, mean and largest size of the objects in the cluster, in bytes."""

    obj_min_size: int
    obj_avg_size: int
    obj_max_size: int


class TotalSizes(TypedDict):
    """Bytes, as decimal numbers in text."""

    size_on_disk: str
    size_all_present_objs: str
    size_all_remote_objs: str
    total_disks_size: str


class Summary(TypedDict):
    """What a bucket holds (protocol/10 11)."""

    name: str
    provider: str
    namespace: dict[str, str]
    ObjCount: ObjectCounts
    ObjSize: ObjectSizes
    TotalSize: TotalSizes
    used_pct: int
    is_present: bool


def summary(ref: BucketRef, uuid: str, prefix: str, cached: bool, present: bool) -> Steps[Summary]:
    """Count what the bucket holds, or learn what the job `uuid` has counted."""
    import msgspec

    def ask(job: str) -> Steps[Answer]:
        value = {"uuid": job, "prefix": prefix, "cached": cached, "present": present}
        return (yield from act(ref, "GET", actions.SUMMARY, value))

    if not uuid:
        started = yield from ask("")
        _expect(started, _ACCEPTED)
        uuid = started.content.decode().strip('"')
    interval = _FIRST_INTERVAL
    while True:
        answer = yield from ask(uuid)
        _expect(answer, _OK, _ACCEPTED, _PARTIAL)
        if answer.status == _OK:
            return cast("list[Summary]", msgspec.json.decode(answer.content))[0]
        yield Sleep(interval)
        interval = min(interval * 1.5, _SLOWEST)


def info(ref: BucketRef, presence: int, remote: bool, prefix: str) -> Steps[tuple[str, Summary]]:
    """Properties of the bucket, as JSON, and what it holds. Raises ValueError for an unknown `presence`."""
    import msgspec

    from aistore.sdk.enums import FLTPresence

    if int(presence) not in list(FLTPresence):
        raise ValueError(f"`flt_presence` must be in {[member.value for member in FLTPresence]}, not {presence!r}")
    query = {**ref.parameters, params.PRESENCE: str(int(presence)), params.BSUMM_REMOTE: str(remote)}
    resource = f"{ref.resource}/{quote_name(prefix)}" if prefix else ref.resource
    answer = yield Request("HEAD", resource, encode_query(query))
    _expect(answer, _ACCEPTED)
    query[params.UUID] = answer.headers.get(headers.XACTION_ID, "").strip('"')
    interval = _FIRST_INTERVAL
    while answer.status != _OK:
        yield Sleep(interval)
        interval = min(interval * 1.5, _SLOWEST)
        answer = yield Request("HEAD", ref.resource, encode_query(query))
        _expect(answer, _OK, _ACCEPTED, _PARTIAL)
    found = msgspec.json.decode(answer.headers.get(headers.BUCKET_SUMMARY, "{}"))
    return answer.headers.get(headers.BUCKET_PROPS, "{}"), cast("Summary", found)


def _expect(answer: Answer, *statuses: int) -> None:
    if answer.status not in statuses:
        from aistore.sdk.errors import UnexpectedHTTPStatusCode

        raise UnexpectedHTTPStatusCode(list(statuses), answer.status)
