"""Calls on `/v1/etl` (protocol/50 3, 4, 6.3)."""

from __future__ import annotations

import asyncio
import base64
import hmac
import time
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.server.api import reading
from aistore.server.api.messages import OK, json_reply, method_refused, read_message, text_reply
from aistore.server.api.registering import answered, registering
from aistore.server.api.remote import reading as remote_reading
from aistore.server.api.remote import writing as remote_writing
from aistore.server.api.writing import receive_checked
from aistore.server.etl.message import check_name
from aistore.server.settings import is_loopback
from aistore.wire import access
from aistore.wire import params as param
from aistore.wire.errors import ApiError, invalid_request_uri, unsupported
from aistore.wire.names import check_object_name, parse_uname

if TYPE_CHECKING:
    from aistore.http1.message import Reply
    from aistore.http1.server import Request, Result
    from aistore.server.etl.registry import Etls
    from aistore.server.etl.running import Running
    from aistore.server.node import Node

__all__ = ["etl"]

_ALLOW: Final = "DELETE, GET, POST, PUT"
_ALLOW_OBJECT: Final = "GET, HEAD, PUT"
_OBJECT: Final = "_object"


def etl(node: Node, request: Request, tail: str) -> Result:
    """Answer a call."""
    etls = node.etls
    if etls is None:
        if node.settings.etl:
            raise ApiError(400, f"{node.name}: ETLs are managed by the gateway {node.settings.gateway_url}")
        raise unsupported("use", "ETL in a build without ETL support")
    items = tail.rstrip("/").split("/") if tail.rstrip("/") else []
    if items and items[0] == _OBJECT:
        return registering(node, lambda: _object(node, request, etls, tail[len(_OBJECT) + 1 :]))
    etls.check_allowed()
    method = request.method
    if method == "GET":
        return _get(node, request, etls, items)
    if method == "PUT" and not items:
        return _init(request, etls)
    if method == "POST" and len(items) == 2:
        return _change(etls, *items)
    if method == "DELETE" and len(items) == 1:
        return _delete(etls, items[0])
    if method in ("PUT", "POST", "DELETE"):
        raise invalid_request_uri(method, request.path, request.peer)
    return method_refused(request, _ALLOW)


async def _init(request: Request, etls: Etls) -> Reply:
    return text_reply(await etls.init(await read_message(request)))


async def _change(etls: Etls, name: str, operation: str) -> Reply:
    check_name(name)
    if operation == "start":
        return text_reply(await etls.start(name))
    if operation == "stop":
        await etls.stop(name)
        return OK
    raise ApiError(400, f'invalid operation "{operation}" on ETL {name}: expecting start or stop')


async def _delete(etls: Etls, name: str) -> Reply:
    await etls.delete(check_name(name))
    return OK


# -- looking -------------------------------------------------------------------------------------------------------


def _get(node: Node, request: Request, etls: Etls, items: list[str]) -> Result:
    if not items:
        return json_reply(request, _listed(etls))
    name = check_name(items[0])
    if len(items) == 1:
        return json_reply(request, _details(etls.running(name), request.params.get(param.UUID, "")))
    what = items[1]
    if what == "logs" and len(items) <= 3:
        return _logs(node, request, etls, name, items[2] if len(items) == 3 else "")
    if what == "health" and len(items) == 2:
        running = _running(node, etls, name)
        status = "Running" if running.processes.running else "Failed"
        return json_reply(request, [{"target_id": _target(node), "health_status": status}])
    if what == "metrics" and len(items) == 2:
        return _metrics(node, request, _running(node, etls, name))
    raise invalid_request_uri(request.method, request.path, request.peer)


def _listed(etls: Etls) -> list[dict[str, object]]:
    return [
        {
            "id": one.message.name,
            "stage": one.stage,
            "xaction_id": one.running.job_id if one.running else "",
            "obj_count": one.running.transformed if one.running else 0,
            "in_bytes": 0,
            "out_bytes": 0,
        }
        for one in etls.all()
    ]


def _details(running: Running, job_id: str) -> dict[str, object]:
    message: dict[str, object] = msgspec.to_builtins(running.message)
    if running.message.runtime is not None:
        # Empty values would be left out as defaults are, and clients need them.
        env = [{"name": one.name, "value": one.value} for one in running.message.runtime.env]
        message["runtime"] = {**msgspec.to_builtins(running.message.runtime), **({"env": env} if env else {})}
    document: dict[str, object] = {"init_msg": message}
    errors = running.errors(job_id)
    if errors:
        document["obj_errors"] = [error._asdict() for error in errors]
    return document


def _running(node: Node, etls: Etls, name: str) -> Running:
    """As `Etls.running`, with the text of a target for a name that nobody knows either."""
    definition = etls.find(name)
    if definition is None or definition.running is None:
        raise ApiError(404, f"{node.name}: {name} does not exist")
    return definition.running


def _target(node: Node) -> str:
    """The target that an ETL's one group of processes is shown on."""
    return min(node.smap.targets)


async def _logs(node: Node, request: Request, etls: Etls, name: str, target: str) -> Reply:
    if target and not node.smap.has_target(target):
        raise ApiError(400, f'unknown target "{target}"')
    running = _running(node, etls, name)
    here = not target or target == _target(node)
    text = await asyncio.get_running_loop().run_in_executor(None, running.processes.log) if here else b""
    shown = {"target_id": target or _target(node), "logs": base64.b64encode(text).decode()}
    return json_reply(request, [shown])


def _metrics(node: Node, request: Request, running: Running) -> Reply:
    usage = running.processes.usage()
    if usage is None:
        raise ApiError(404, f"{node.name}: no metrics of {running.name} on this system")
    cores = usage.cpu / max(time.monotonic() - running.started, 0.001)
    return json_reply(request, [{"target_id": _target(node), "cpu": round(cores, 3), "mem": usage.memory}])


# -- objects for transformers --------------------------------------------------------------------------------------


async def _object(node: Node, request: Request, etls: Etls, tail: str) -> bytes | Reply:
    """Read or store an object on behalf of a transformer, which knows the secret of its ETL (protocol/50 6.3)."""
    name, _, rest = tail.partition("/")
    secret, _, uname = rest.partition("/")
    definition = etls.find(name)
    caller = _host(request.peer)  # transformers run on this machine
    here = is_loopback(caller) or caller == request.reached
    if definition is None or definition.running is None or not here:
        raise ApiError(404, f"etl not found: {name[:64]}")
    if not hmac.compare_digest(secret.encode(), definition.running.secret.encode()):
        raise ApiError(400, "unrecognized request source")
    request.path = request.raw_path = f"/v1/etl/{_OBJECT}/{name}"  # the secret stays out of errors and logs
    identity, object_name = parse_uname(uname)
    bucket = node.find(identity)
    object_name = check_object_name(object_name)
    if request.method in ("GET", "HEAD"):
        node.check_access(bucket, access.GET, "GET")
        where = reading if bucket.remote is None else remote_reading
        read = where.get if request.method == "GET" else where.head
        return await answered(read(node, request, bucket, object_name))
    if request.method != "PUT":
        return method_refused(request, _ALLOW_OBJECT)
    node.check_access(bucket, access.PUT, "PUT")
    content, kind, checksum = await receive_checked(node, request, bucket, object_name)
    if bucket.remote is not None:
        await remote_writing.write_through(node, bucket, object_name, content, (kind, checksum), {}, fresh=True)
        return OK
    versioned = node.props(bucket).versioning.enabled
    await node.store.put(bucket, object_name, content, kind, checksum, versioned=versioned, fresh=True)
    return OK


def _host(peer: str) -> str:
    return peer.rpartition(":")[0].strip("[]").removeprefix("::ffff:")
