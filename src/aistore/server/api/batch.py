"""GetBatch: `GET /v1/ml/moss[/<bucket>]`, many objects, ranges and members of archives in one archive (protocol/40 A).

What the reference does not do: an entry that cannot be had never ends an answer as if it were whole. A streamed answer breaks off there.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.server.api.batch_answer import BatchAnswer, Order
from aistore.server.api.batch_reading import Wanted
from aistore.server.api.messages import bucket_identity, method_refused, read_message
from aistore.server.api.registering import register
from aistore.server.archive.formats import Format, by_mime
from aistore.server.backends.registry import UnknownBucket
from aistore.wire import access, actions
from aistore.wire.batch import BatchEntry, BatchRequest, decode_opaque
from aistore.wire.errors import ApiError, not_implemented
from aistore.wire.ids import new_job_id
from aistore.wire.names import check_object_name, parse_bucket, parse_uname

if TYPE_CHECKING:
    from aistore.http1.message import Reply
    from aistore.http1.server import Request, Result
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket
    from aistore.wire.names import BucketId

__all__ = ["buckets_of", "ml"]

_ENTRIES_MAX: Final = 100_000
_ENTRIES_OF_ALL: Final = 500_000  # each takes most of a kilobyte of memory
_BUCKETS_MAX: Final = 1000  # each takes a while to read, and its rights to look up
_CHECKED: Final = 500  # entries that are looked at in one turn
_BEHIND: Final = 3  # what a redirect adds to the path: job, work, number of targets

_decode = msgspec.json.Decoder(BatchRequest).decode


def ml(node: Node, request: Request, tail: str) -> Result:
    """Calls below `/v1/ml`."""
    what, _, rest = tail.partition("/")
    if what != "moss":
        raise not_implemented("use", f"/v1/ml/{what}")
    if request.method != "GET":
        return method_refused(request, "GET")
    return _moss(node, request, rest)


def _split(request: Request, rest: str) -> tuple[list[str], str]:
    """What a path behind `/v1/ml/moss/` names: the bucket, if any, and the job that a redirect adds."""
    path, job_id = [part for part in rest.split("/") if part], ""
    if len(path) >= _BEHIND:
        job_id = path[-_BEHIND]
        path = path[:-_BEHIND]
    if len(path) > 1:
        raise ApiError(400, f"invalid path {request.path!r}: expected /v1/ml/moss/<bucket>")
    return path, job_id


def buckets_of(request: Request, body: bytes) -> list[BucketId]:
    """All buckets that a request is about. Raises `ApiError` 400."""
    path, _ = _split(request, request.path.removeprefix("/v1/ml/").partition("/")[2])
    default = bucket_identity(path[0], request) if path else None
    found = {default: None} if default is not None else {}
    seen: set[tuple[str | None, str | None, str | None]] = set()
    for entry in _parse(body).entries or []:
        key = (entry.uname, entry.bucket, entry.provider)
        if key not in seen:
            seen.add(key)
            found[_identity(entry, default)] = None
    return list(found)


async def _moss(node: Node, request: Request, rest: str) -> Reply:
    path, job_id = _split(request, rest)
    coloc = request.params.get("coloc", "")
    if coloc not in ("", "0", "1", "2"):
        raise ApiError(400, f"invalid coloc={coloc!r}: expected 0, 1 or 2")
    body = await read_message(request)
    await node.turns.next()
    message = _parse(body)
    default = bucket_identity(path[0], request) if path else None
    wanted = await _resolve(node, message.entries or [], default)
    form = _form(message.mime or ".tar", request.path)
    bucket = wanted[0].bucket if default is None else await _find(node, default)
    if node.redirects:
        work = new_job_id()
        # Any target, or the one that owns the first object: all work on one folder.
        url = node.smap.owner_url(bucket.id.uname + (wanted[0].name if coloc in ("1", "2") else work))
        if url is not None:  # else they are being started again, and the gateway does it
            return _redirect(node, request, _join(node, default), work, url, len(wanted))
    if node.batches >= node.limits.batches:
        raise _too_many(f"{node.batches} batches")
    if node.batch_entries + len(wanted) > _ENTRIES_OF_ALL:
        raise _too_many(f"batches of {node.batch_entries} entries")
    return await _answer(node, request, message, wanted, form, default, job_id)


def _too_many(what: str) -> ApiError:
    return ApiError(429, f"{what} are being answered: try again", headers={"Retry-After": "1"})


async def _answer(
    node: Node,
    request: Request,
    message: BatchRequest,
    wanted: list[Wanted],
    form: Format,
    default: BucketId | None,
    job_id: str,
) -> Reply:
    order = Order(
        message.entries or [],
        wanted,
        form,
        continue_on_error=bool(message.coer),
        only_name=bool(message.onob),
        soft_errors=_soft_errors(node),
    )
    answer = BatchAnswer(node, order)
    if node.is_target:  # jobs are the gateway's, which has counted it
        answer.job_id = job_id
    else:
        try:
            job = _join(node, default, answer)
        except BaseException:  # a job may have too many requests already
            answer.close()
            raise
        answer.job, answer.job_id = job, job.id
    return await (answer.streamed() if message.strm else answer.buffered(request))


def _soft_errors(node: Node) -> int:
    value = node.control.config.current.other.get("get_batch", {}).get("max_soft_errs")
    return value if isinstance(value, int) and value > 0 else 8


def _join(node: Node, bucket: BucketId | None, answer: BatchAnswer | None = None) -> Job:
    async def work(_: Job) -> None:
        if answer is not None:
            await answer.ended.wait()

    control = f"{node.name}:[batches:{node.batches}]"
    return node.control.jobs.join(actions.GET_BATCH, work, bucket=bucket, job_id=f"gbt-{new_job_id()}", control=control)


def _redirect(node: Node, request: Request, job: Job, work: str, url: str, entries: int) -> Reply:
    job.done(entries, 0)  # what a target sends it does not tell
    request.path = f"{request.path.rstrip('/')}/{job.id}/{work}/{len(node.smap.targets)}"
    reply = node.redirect_to(request, url)
    reply.status = 307  # clients would leave the body out after a 301
    return reply


# -- the message --


def _form(mime: str, path: str) -> Format:
    try:
        return by_mime(mime)
    except ApiError as error:  # the reference finds that out where the archive is made, to which the gateway posts
        raise ApiError(400, error.message, error.tcode, call=("POST", path)) from None


def _parse(body: bytes) -> BatchRequest:
    try:
        message = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, f"moss: {error}") from None
    entries = message.entries
    if not entries:
        raise ApiError(400, "moss: empty input")
    if len(entries) > _ENTRIES_MAX:
        raise ApiError(400, f"moss: {len(entries)} entries (at most {_ENTRIES_MAX}): make several batches")
    if len({(entry.uname, entry.bucket, entry.provider) for entry in entries}) > _BUCKETS_MAX:
        raise ApiError(400, f"moss: entries of more than {_BUCKETS_MAX} buckets: make several batches")
    return message


async def _resolve(node: Node, entries: list[BatchEntry], default: BucketId | None) -> list[Wanted]:
    """The entries, checked; remote buckets become known. Raises `ApiError` 400, 403, 404."""
    buckets: dict[tuple[str | None, str | None, str | None], Bucket] = {}
    if default is not None:
        buckets[None, None, None] = await _find(node, default)
    wanted: list[Wanted] = []
    for entry in entries:
        if wanted and not len(wanted) % _CHECKED:
            await node.turns.next()
        name = entry.objname
        key = (entry.uname, entry.bucket, entry.provider if entry.bucket else None)
        bucket = buckets.get(key)
        if bucket is None:
            identity = _identity(entry, default)
            bucket = buckets[key] = await _find(node, identity)
        checked = check_object_name(name)
        path, start, length = "", 0, 0
        if entry.archpath or entry.opaque or entry.start or entry.length:
            path, start, length = _details(entry)
        wanted.append(Wanted(bucket, checked, path, start, length))
    return wanted


def _identity(entry: BatchEntry, default: BucketId | None) -> BucketId:
    if entry.uname:
        identity, name = parse_uname(entry.uname)
        if name:
            raise ApiError(400, f'"uname" {entry.uname!r} names an object: expected a bucket')
        return identity
    if entry.bucket:
        return parse_bucket(entry.bucket, entry.provider or "")
    if default is None:
        raise ApiError(400, f'missing bucket specification for object "{entry.objname[:300]}"')
    return default


def _details(entry: BatchEntry) -> tuple[str, int, int]:
    """Member and range of an entry. Raises `ApiError` 400."""
    path = entry.archpath or ""
    if path:
        try:
            path = check_object_name(path.removeprefix("/"))
        except ApiError:
            raise ApiError(400, f'invalid archpath "{path[:300]}" (oname: "{entry.objname[:300]}")') from None
    start, length = entry.start or 0, entry.length or 0
    if start < 0 or length < -1 or (start and not length):
        raise ApiError(400, f'not satisfiable range [start={start},length={length} (oname: "{entry.objname[:300]}")]')
    if entry.opaque:
        try:  # SDK 1.17 sends the URL-safe alphabet; all read the standard one
            entry.opaque = base64.b64encode(decode_opaque(entry.opaque)).decode()
        except ValueError as error:
            raise ApiError(400, f'opaque of "{entry.objname[:300]}" is no base64: {error}') from None
    return path, start, length


async def _find(node: Node, identity: BucketId) -> Bucket:
    try:
        bucket = node.find(identity)
    except UnknownBucket as unknown:
        bucket = await register(node, unknown.bucket)
        node.props(bucket)
    node.check_access(bucket, access.GET, "GET")
    return bucket
