"""Objects through an ETL: GET with `etl_name`, and copies of single objects (protocol/50 5.2, 5.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aistore.http1.message import Reply
from aistore.server.api.messages import OK
from aistore.server.api.remote.reading import cached
from aistore.server.etl.running import ObjectError, Order, TransformFailed
from aistore.server.etl.source import Source
from aistore.server.etl.storing import store_answer
from aistore.wire import access
from aistore.wire import headers as header
from aistore.wire import params as param
from aistore.wire.errors import ApiError, object_not_found, unsupported
from aistore.wire.names import check_object_name, parse_uname
from aistore.wire.values import parse_bool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aistore.http1.server import Request, Result
    from aistore.server.etl.exchange import Answer
    from aistore.server.etl.registry import Etls
    from aistore.server.etl.running import Running
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["is_inline", "transform_inline"]

_SNIFFED: Final = 512
# Bytes that no text has (https://mimesniff.spec.whatwg.org, 2 "binary data byte").
_BINARY: Final = bytes([*range(0x09), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20)])
_HPULL: Final = "hpull://"
_NOT_FOUND: Final = "object not found"


def is_inline(request: Request) -> bool:
    """Whether a GET or PUT of an object names an ETL."""
    return (
        request.method in ("GET", "PUT")
        and bool(request.params.get(param.ETL_NAME))
        and (request.method == "GET" or bool(request.params.get(param.OBJECT_TO)))
    )


def transform_inline(node: Node, request: Request, bucket: Bucket, name: str) -> Result:
    """Answer such a call; a target process sends the client to the gateway, which runs the ETLs."""
    if node.is_target:
        return node.redirect_to(request, node.settings.gateway_url)
    etls = node.etls
    if etls is None:
        raise unsupported("use", "ETL in a build without ETL support")
    if request.method == "GET":
        return _get(node, request, etls, bucket, name)
    return _copy(node, request, etls, bucket, name)


async def _get(node: Node, request: Request, etls: Etls, bucket: Bucket, name: str) -> Reply:
    params = request.params
    primary = etls.find(params[param.ETL_NAME])
    running = primary.running if primary is not None else None
    if running is None:
        text = f'{node.name}: {params[param.ETL_NAME]} does not exist - try starting new ETL with "{node.url}/v1/etl/init" endpoint'
        raise ApiError(404, text)
    stages = _stages(node, request, etls)
    if stages and running.kind == _HPULL:
        raise ApiError(400, "inline transform pipeline not supported for hpull://")
    noted = running if running.kind != _HPULL else None
    source = await _source(node, request, bucket, name, noted)
    answer: Answer | None = None
    try:
        order = Order(bucket.id, name, params.get(param.ETL_ARGS, ""), stages, _fresh(request))
        answer = await running.transform(node.store, order, source)
    except TransformFailed as error:
        if noted is None:
            return _as_it_came(error)
        noted.note_error(ObjectError(bucket.id.object_cname(name), error.message, error.status))
        raise
    finally:
        if answer is None or answer.whole:
            source.close()
    if noted is not None:
        noted.transformed += 1
    node.stats.read(answer.length or 0)
    return _reply(answer, source, passed_on=noted is None)


def _reply(answer: Answer, source: Source, *, passed_on: bool) -> Reply:
    """The client's answer. What is not here yet goes on as it comes, and the source is kept until then."""
    status = 200 if answer.status in (202, 204) else answer.status
    kind = answer.headers.get("content-type", "") if passed_on else ""
    headers = [("Content-Type", kind or _sniffed(answer.data))]
    if answer.whole:
        return Reply(status, headers, answer.data)
    if answer.length is not None:
        headers.append(("Content-Length", str(answer.length)))
    return Reply(status, headers, _Pieces(answer, source))


class _Pieces:
    """A body as it comes. No generator: one that is closed before it was asked for its first piece would let nothing go."""

    def __init__(self, answer: Answer, source: Source) -> None:
        self._pieces = answer.pieces()
        self._answer = answer
        self._source = source

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        """Give up what was not sent."""
        self._answer.close()
        self._source.close()


def _as_it_came(error: TransformFailed) -> Reply:
    """What a client of an `hpull` ETL sees: the transformer's own refusal."""
    if error.answer is None:
        raise error
    kind = error.answer.headers.get("content-type", header.TEXT)
    return Reply(error.answer.status, [("Content-Type", kind)], error.answer.data)


def _sniffed(data: bytes) -> str:
    start = data[:_SNIFFED]
    return header.OCTETS if start.translate(None, _BINARY) != start else header.TEXT


async def _copy(node: Node, request: Request, etls: Etls, bucket: Bucket, name: str) -> Reply:
    """Store what an ETL makes of an object as another one."""
    params = request.params
    node.check_access(bucket, access.GET, "GET")
    identity, target_name = parse_uname(params[param.OBJECT_TO])
    if not target_name:
        raise ApiError(400, f'parse-uname "{params[param.OBJECT_TO]}": missing object name in "{identity.cname}"')
    target = node.find(identity)
    node.check_access(target, access.PUT, "PUT")
    target_name = check_object_name(target_name)
    primary = etls.find(params[param.ETL_NAME])
    if primary is None:
        raise ApiError(400, f"ETL {params[param.ETL_NAME]} doesn't exist")
    running = primary.running
    if running is None:
        raise ApiError(404, f"{node.name}: {params[param.ETL_NAME]} does not exist")
    stages = _stages(node, request, etls)
    if running.kind == "ws://":
        raise ApiError(404, f"{node.name}: invalid xact parameter does not exist [ETL {running.name} over ws://]")
    source = await _source(node, request, bucket, name, running)
    try:
        order = Order(bucket.id, name, params.get(param.ETL_ARGS, ""), stages, _fresh(request))
        answer = await running.transform(node.store, order, source)
        await store_answer(node, running, answer, target, target_name)
    except TransformFailed as error:
        running.note_error(ObjectError(bucket.id.object_cname(name), error.message, error.status))
        raise
    finally:
        source.close()
    running.transformed += 1
    return OK


def _stages(node: Node, request: Request, etls: Etls) -> tuple[Running, ...]:
    """The ETLs behind the first one. Raises ApiError 400 for one that does not run."""
    stages = []
    for name in filter(None, request.params.get(param.ETL_PIPELINE, "").split(",")):
        found = etls.find(name)
        if found is None or found.running is None:
            raise ApiError(400, f'[{node.name},etl="{name}"] entry not found in the target')
        stages.append(found.running)
    return tuple(stages)


def _fresh(request: Request) -> bool:
    params = request.params
    return parse_bool(params.get(param.LATEST_VER, "")) or parse_bool(params.get(param.SYNCHRONIZE, ""))


async def _source(node: Node, request: Request, bucket: Bucket, name: str, running: Running | None) -> Source:
    """The object's content. Raises ApiError 404, noted where errors are kept."""
    try:
        row = await cached(node, bucket, name, latest=_fresh(request))
        source = await Source.open(node.store, bucket, row)
        if source is None:
            raise object_not_found(node.name, bucket.id.object_cname(name))
    except ApiError as error:
        if error.status == 404 and running is not None:
            running.note_error(ObjectError(bucket.id.object_cname(name), _NOT_FOUND, 404))
        raise
    return source
