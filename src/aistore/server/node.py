"""One node of the cluster in the box: its state, its start and stop, and the way of a request to its handler.

A node of role `node` with one target is gateway and target at once and answers in place. With more targets it is the gateway: it owns
buckets, listing and jobs, and redirects object calls to its target processes (role `target`), which work on the same data folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import string
import time
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import quote, quote_from_bytes, urlsplit

from aistore.http1.failures import BodyTooLong, MemoryFull
from aistore.http1.message import Reply, split_target
from aistore.http1.server import BrokenRequest, HttpServer, Request, Result
from aistore.server import routes
from aistore.server.api.messages import bucket_identity, reads_message
from aistore.server.api.s3.errors import is_s3, refusal
from aistore.server.backends.registry import Backends, UnknownBucket
from aistore.server.control import Control
from aistore.server.descriptors import connections_allowed, shortage
from aistore.server.etl.registry import Etls
from aistore.server.guard import Guard
from aistore.server.limits import NodeLimits
from aistore.server.listening import bind, bind_private, url_of
from aistore.server.relay import ask, ask_privately
from aistore.server.requests_log import RequestsLog, redirected_id, request_id, without_secret
from aistore.server.smap import ClusterMap
from aistore.server.stats import Stats
from aistore.server.store.errors import (
    BucketGone,
    ContentDamaged,
    CustomTooLong,
    StoreBroken,
    StoreFull,
    TooManyUploads,
)
from aistore.server.store.schema import CATALOG, telling_of_damage
from aistore.server.store.store import Store
from aistore.server.traffic import Traffic
from aistore.wire import access
from aistore.wire import headers as header
from aistore.wire import params as param
from aistore.wire.errors import (
    ERROR_HEADER,
    ApiError,
    access_denied,
    bucket_not_found,
    damaged,
    error_body,
    out_of_space,
)
from aistore.wire.ids import new_job_id, new_node_id
from aistore.wire.props import BucketProps, backend_of, unpack
from aistore.wire.values import base36

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.server.authn.attach import Guarded
    from aistore.server.settings import ServerSettings
    from aistore.server.store.rows import Bucket
    from aistore.server.targets import TargetProcesses
    from aistore.server.tls import ServerTls
    from aistore.wire.names import BucketId

__all__ = ["Node"]

logger = logging.getLogger(__name__)

_CALLER_NAME: Final = header.CALLER_NAME.lower()
_REQUEST_ID: Final = header.REQUEST_ID.lower()
_KNOWN_MAX: Final = 4096
_HANDLE_KEY: Final = "handle key"
_PUT_PATHS: Final = ("/v1/objects/", "//v1/objects/", "/ais/", "/gs/", "/az/")  # of objects, easy URLs too
_WILDCARDS: Final = ("", "0.0.0.0", "::")  # noqa: S104 (a comparison)
# Addresses for documentation (RFC 5737, RFC 3849): outside of every network, which is all that counts.
_ELSEWHERE: Final = (("192.0.2.1", 9), ("2001:db8::1", 9))


class Node:
    """A gateway, a target, or both."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.url = ""
        """Where this node answers, set by `start`."""
        self.started = time.time_ns()
        self.is_target = settings.role == "target"
        self.is_gateway = not self.is_target
        self.redirects = self.is_gateway and settings.targets > 1
        """Whether object calls are answered by other processes."""
        self.shared = self.is_target or self.redirects
        self.store: Store
        self.control: Control
        """Configuration, jobs and scans, for the control calls."""
        self.etls: Etls | None = None
        """The ETLs, on a gateway that has them."""
        self.backends = Backends(self)
        """Where remote buckets live."""
        self.stats = Stats()
        self.traffic = Traffic(each=settings.access_log)
        self._log = RequestsLog(logger, all_of_them=settings.access_log, user_of=self._user_of)
        self._untold = 0  # requests answered at once that need not be told
        self.gateway_id = ""
        self.target_id = ""
        self.handle_key = b""
        """What handles of append sessions are sealed with, by all processes of the data folder."""
        self._guard = Guard(settings)
        self._answer: Callable[[Request], Result] = partial(routes.handle, self)
        self.guarded: Guarded | None = None
        """What asks for tokens, if anything does."""
        # On every address of this machine: then each client is sent where it can go.
        self._everywhere = not settings.public_host and settings.host in _WILDCARDS
        self.tls: ServerTls | None = None
        """The certificate, where it speaks HTTPS."""
        self._watching: asyncio.Task[None] | None = None
        self.limits = replace(settings.limits, connections=connections_allowed(settings.limits.connections))
        self.server = HttpServer(self, self.limits)
        self.reading: dict[tuple[int, str], int] = {}
        """Long reads under way, by bucket number and object name."""
        self.batches = 0
        """Batches being answered."""
        self.batch_entries = 0
        """Entries that they ask for."""
        self.spooled = 0
        """Bytes of their answers on the disk, of those that are made whole before they are sent."""
        self.turns = self.server.turns
        """For what takes long on the loop."""
        self.targets: TargetProcesses | None = None
        self._map: ClusterMap
        self._target_ids: list[str] = []
        self._known: dict[tuple[str, str], Bucket] = {}

    # -- life --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store and serve; `url` is set afterwards."""
        settings = self.settings
        sock = bind(settings.host, settings.port)
        host, port = sock.getsockname()[:2]
        host = settings.public_host or (_own_address(sock.family) if self._everywhere else host)
        self.url = url_of(host, port, tls=settings.tls is not None)
        async with contextlib.AsyncExitStack() as undo:
            undo.enter_context(telling_of_damage(settings.data_dir / CATALOG))
            undo.callback(sock.close)
            self._open_tls(host)
            self.store = Store(
                settings.data_dir,
                settings.durability,
                capacity=settings.capacity,
                shared=self.shared,
                primary=self.is_gateway,
            )
            undo.push_async_callback(self.store.close)
            await self.store.open()
            await self._join()
            self.control = Control(self.store, self.limits)
            undo.push_async_callback(self.control.close)
            await self.control.jobs.recovered()
            undo.push_async_callback(self.backends.close)
            await self.backends.start()
            if settings.etl and self.is_gateway:
                self.etls = Etls(self)
                undo.push_async_callback(self.etls.close)
            if settings.authn:
                from aistore.server.authn.attach import Guarded

                self.guarded = Guarded(self, routes.handle)
                undo.push_async_callback(self.guarded.stop)
                await self.guarded.start()
                self._answer = self.guarded.gate.answer
                self.control.config.asks_for_tokens = True
            if self.redirects:
                undo.push_async_callback((await self._start_targets()).stop, 0.0)
            await self._listen(sock)
            undo.pop_all()

    async def stop(self, grace: float = NodeLimits.grace) -> None:
        """Finish the requests that are under way, within `grace` seconds, then end jobs and processes, and close everything."""
        if self._watching is not None:
            self._watching.cancel()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        cut = await self.server.stop(grace)
        if cut:
            logger.warning("%d requests were cut off: they were not done %g s after the order to stop", cut, grace)
        if self.targets is not None:  # requests there have gone on meanwhile
            await self.targets.stop(max(0.0, deadline - loop.time()))
        if self.etls is not None:
            await self.etls.close()
        if self.guarded is not None:
            await self.guarded.stop()
        await self.control.close()
        await self.backends.close()
        await self.store.close()

    def kill(self) -> None:
        """End the processes that belong to it at once: this one is about to end."""
        if self.targets is not None:
            self.targets.kill()

    def _open_tls(self, host: str) -> None:
        """Read the certificate, after making one for this host where that is asked for."""
        settings = self.settings
        if settings.tls is not None:
            from aistore.server.tls import open_tls

            names = [name for name in (host, settings.host, *settings.allow_hosts) if name not in _WILDCARDS]
            self.tls = open_tls(settings.tls, settings.data_dir, names, primary=self.is_gateway)

    async def _listen(self, sock: socket.socket) -> None:
        if self.tls is None:
            await self.server.listen(sock)
            return
        self.server.is_first_leg = self._is_first_leg
        # What processes of the cluster ask each other needs no certificate: only their user reaches this.
        if self.is_target or self.guarded is not None:
            await self.server.listen(bind_private(self.settings.data_dir, self.target_id or self.gateway_id))
        await self.server.listen(sock, self.tls.context)
        self._watching = asyncio.create_task(self.tls.watch())

    async def _join(self) -> None:
        """Learn or make ids and cluster map; ids and cluster uuid are made once and kept in the catalog."""
        catalog = self.store.catalog
        if self.is_target:
            gateway = catalog.meta("gateway")
            key = catalog.meta(_HANDLE_KEY)
            assert gateway is not None  # the gateway joins before it starts targets
            assert key is not None
            self.gateway_id, self.target_id, self.handle_key = gateway, self.settings.node_id, key.encode()
            return
        fresh = {"uuid": new_job_id(), "gateway": new_node_id("p"), _HANDLE_KEY: secrets.token_hex(32)}
        fresh.update({f"target{i}": new_node_id("t") for i in range(self.settings.targets)})
        missing = {key: value for key, value in fresh.items() if catalog.meta(key) is None}
        if missing:
            await catalog.set_meta(missing)
        meta = {key: catalog.meta(key) or missing[key] for key in fresh}
        self.gateway_id, self.handle_key = meta["gateway"], meta[_HANDLE_KEY].encode()
        ids = [meta[f"target{i}"] for i in range(self.settings.targets)]
        self.target_id = ids[0] if len(ids) == 1 else ""
        self._map = ClusterMap.of_gateway(meta["uuid"], self.gateway_id, self.url, ids)
        await self._map.publish(self.store)
        self._target_ids = ids

    async def _start_targets(self) -> TargetProcesses:
        """Start the target processes; the map names those that serve."""
        from aistore.server.targets import TargetProcesses

        def changed(urls: dict[str, str]) -> None:
            if len(urls) < len(self._target_ids):
                self.store.other_process_died()
            self._map.change_targets(urls)
            self._map.publish(self.store)

        settings = self.settings if self.guarded is None else self.guarded.for_targets(self.settings)
        self.targets = TargetProcesses(settings, self._target_ids, self.url, changed)
        self._map.change_targets(await self.targets.start())
        await self._map.publish(self.store)
        return self.targets

    @property
    def smap(self) -> ClusterMap:
        """The cluster map; a target process reads it where the gateway publishes it."""
        return ClusterMap.of_target(self.store, self.target_id) if self.is_target else self._map

    # -- requests ----------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """How this node is printed in messages: `t[id]` for one that holds objects, else `p[id]`."""
        return f"t[{self.target_id}]" if self.target_id else f"p[{self.gateway_id}]"

    @property
    def gateway_name(self) -> str:
        """`p[id]`, or `t[id]` on a target process."""
        return f"t[{self.target_id}]" if self.is_target else f"p[{self.gateway_id}]"

    def handle(self, request: Request) -> Result:
        """Answer one request (called by the HTTP driver)."""
        request.began = perf_counter()
        self._guard.check(request)
        if not request.path.startswith("/v1/"):
            routes.rewrite(self, request)
        answer = self._answer(request)
        if type(answer) is bytes:
            if request.method == "HEAD":  # of reads and writes one stands for some others
                self.answered(request, 200, len(answer))
            elif self._untold:
                self._untold -= 1
            else:
                self._untold = self.traffic.at_once(request, answer)
                if self._log.wants_all:
                    self._log.answered(request, 200, len(answer))
        return answer

    def answered(self, request: Request, status: int, sent: int, *, whole: bool = True) -> None:
        """Count and log what `handle` did not answer at once (called by the HTTP driver)."""
        self.traffic.answered(request, status, sent)
        if status >= 400 or self._log.wants_all:
            self._log.answered(request, status, sent, whole=whole)

    def broke_off(self, request: Request, error: Exception) -> None:
        """Log why an answer was cut (called by the HTTP driver)."""
        meaning = self._meaning(error)
        if meaning is None:
            self._log.failed(request, "broke off", error)
        else:
            self._log.failed(request, f"broke off: {meaning.message}")

    def _user_of(self, request: Request) -> str:
        return self.guarded.gate.user_of(request) if self.guarded is not None else ""

    def refuse(self, request: Request, error: BaseException) -> Reply:
        """The reference's error body for an exception of a handler."""
        api_error = self._meaning(error)
        if api_error is None:
            self._log.failed(request, "failed", error)
            told = f"internal error: {type(error).__name__}: {error} (see the server's log)"
            api_error = ApiError(500, f"{self.name}: {told}")
        if is_s3(request.path):
            self.stats.refused(request.method, request.path)
            return refusal(request, api_error, close=isinstance(error, BrokenRequest), request_id=request_id(request))
        caller = request.headers.get(_CALLER_NAME, "")
        body = error_body(api_error, request.method, without_secret(request.path), request.peer, caller, self.name)
        headers = [
            ("Content-Type", header.JSON),
            ("X-Content-Type-Options", "nosniff"),
            (header.REQUEST_ID, request_id(request)),
            *api_error.headers.items(),
        ]
        self.stats.refused(request.method, request.path)
        if request.method == "HEAD":
            headers.append((ERROR_HEADER, body.decode().rstrip("\n")))
            return Reply(api_error.status, headers)
        return Reply(api_error.status, headers, body, close=isinstance(error, BrokenRequest))

    def _meaning(self, error: BaseException) -> ApiError | None:
        """What an exception means to a client; None for a defect."""
        if isinstance(error, ApiError):
            return error
        if isinstance(error, StoreFull):
            return out_of_space(str(error))
        if isinstance(error, StoreBroken):
            return ApiError(500, f"{self.name}: {error}")
        if isinstance(error, ContentDamaged):
            bucket = next((one for one in self.store.buckets() if one.bid == error.bid), None)
            return damaged(str(error), bucket.id.object_cname(error.name) if bucket is not None else error.name)
        if isinstance(error, BucketGone):
            return ApiError(404, f'bucket "{error}" does not exist', "ErrBckNotFound")
        if isinstance(error, (BrokenRequest, CustomTooLong)):
            return ApiError(400, str(error))
        if isinstance(error, BodyTooLong):
            return ApiError(413, str(error))
        if isinstance(error, TooManyUploads):
            return ApiError(429, str(error), headers={"Retry-After": "1"})
        if isinstance(error, MemoryFull):
            return ApiError(503, str(error), headers={"Retry-After": "1"})
        return shortage(error)

    def bucket(self, name: str, request: Request) -> Bucket:
        """The bucket that a call is about, from path and query. Raises `ApiError` 400 or 404."""
        key = (name, request.query)
        bucket = self._known.get(key)
        if bucket is not None and not bucket.stale and not self.shared:
            return bucket
        bucket = self.find(bucket_identity(name, request))
        if len(request.query) < 256:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[key] = bucket
        return bucket

    def find(self, identity: BucketId) -> Bucket:
        """The bucket of this identity. Raises `ApiError` 404, and `UnknownBucket` for a remote one that is not registered yet."""
        if identity.uuid:
            identity = self.backends.resolve(identity)
        bucket = self.store.bucket(identity)
        if bucket is None:
            if not identity.is_remote:
                raise bucket_not_found(identity.cname)
            raise self.backends.missing(identity) or UnknownBucket(identity)
        if bucket.parsed is None:
            self.props(bucket)
        return bucket

    def props(self, bucket: Bucket) -> BucketProps:
        """The bucket's properties, decoded once."""
        props = bucket.parsed
        if props is None:
            props = bucket.parsed = unpack(bucket.props, BucketProps)
            bucket.remote = bucket.id if bucket.id.is_remote else backend_of(props)
        return cast("BucketProps", props)

    def remote_of(self, bucket: Bucket) -> BucketId | None:
        """The bucket elsewhere that a bucket caches, or None; `bucket.remote`, where the properties were looked at before."""
        if bucket.parsed is None:
            self.props(bucket)
        return bucket.remote

    def forget_buckets(self) -> None:
        """What names mean has changed: look buckets up again."""
        self._known.clear()

    def check_access(self, bucket: Bucket, bit: int, operation: str) -> None:
        """Raise `ApiError` 403 if the bucket's `access` property forbids an operation."""
        mask = self.props(bucket).access
        if not mask & bit:
            raise access_denied(bucket.id.cname, self.props(bucket).bid, operation, access.describe(mask))

    # -- objects -----------------------------------------------------------------------------------------------

    @property
    def mountpath(self) -> str:
        """Where content lies; the protocol calls it a mountpath."""
        return str(self.settings.data_dir)

    @property
    def location(self) -> str:
        """Value of `Ais-Location` (protocol/20 3.5)."""
        return f"t[{self.target_id}]:mp[{self.mountpath}, ]"

    def read_over(self, key: tuple[int, str]) -> None:
        """A long read has ended."""
        left = self.reading[key] - 1
        if left:
            self.reading[key] = left
        else:
            del self.reading[key]

    def redirect(self, request: Request, bucket: Bucket, name: str) -> Reply:
        """Send an object call to the target that owns the object (protocol/00 9)."""
        url = self.smap.owner_url(bucket.id.uname + name)
        if url is None:
            raise ApiError(400, "no storage targets in the cluster", "ErrNoNodes")
        return self.redirect_to(request, url)

    async def ask(
        self, url: str, method: str, target: str, body: bytes = b"", *, on_behalf: Request | None = None
    ) -> Reply:
        """What another node of the cluster answers to a request, which has the id of the one `on_behalf` of which it is made; 502 when that cannot be had."""
        headers = [(header.REQUEST_ID, request_id(on_behalf))] if on_behalf is not None else []
        if self.guarded is not None:
            path, _, query = split_target(target.encode("latin-1"))
            covered = body if reads_message(method, path) else b""
            query = self.guarded.signer.marked(method, path, query, self.gateway_id, covered)
            target = f"{target.partition('?')[0]}?{query}"
        if self.tls is None:
            return await ask(url, method, target, body, headers)
        node = next((node for node, at in self.smap.targets.items() if at == url), "")
        return await ask_privately(self.settings.data_dir, node, url, method, target, body, headers)

    async def tell_targets(self, request: Request, target: str, body: bytes) -> None:
        """Send a request to all target processes, with the method of the one that it is about."""
        method = request.method
        if self.redirects:
            urls = self.smap.targets.values()
            answers = await asyncio.gather(*(self.ask(url, method, target, body, on_behalf=request) for url in urls))
            for answer in answers:
                if answer.status != 200:
                    logger.warning("a target answered %s %s with status %d", method, target, answer.status)

    def _is_first_leg(self, request: Request) -> bool:
        """Whether a PUT over HTTPS has to be redirected before its body comes (protocol/00 9.5). Copies have no body."""
        params = request.params
        marked = params.get(param.PROXY_ID) and params.get(param.REDIRECT_TIME)
        return request.path.startswith(_PUT_PATHS) and not marked and not params.get(param.OBJECT_TO)

    def redirect_to(self, request: Request, url: str) -> Reply:
        """A redirect of this request to another node; GET is answered 301 as the reference does, the rest 307."""
        query = request.query
        if not query.isascii():  # a query may hold any byte, a header of ours only text
            query = quote_from_bytes(query.encode("latin-1"), safe=string.punctuation)
        if self._everywhere:
            url = url_of(request.reached, urlsplit(url).port or 80, tls=self.tls is not None)
        when = base36(time.time_ns())
        if self.guarded is None:
            query = f"{query}&" if query else ""
            query += f"{param.PROXY_ID}={self.gateway_id}&{param.REDIRECT_TIME}={when}"
        else:
            signer, body = self.guarded.signer, b""
            if reads_message(request.method, request.path):
                body = request.content or b""
            when = signer.since(request) or when
            query = signer.marked(request.method, request.path, query, self.gateway_id, body, when)
        if self._log.wants_all and _REQUEST_ID not in request.headers:
            request.id = redirected_id(self.gateway_id, when)
        location = f"{url}{quote(request.path)}?{query}"
        headers = (("Location", location), ("Cache-Control", "no-store"))
        return Reply(301 if request.method == "GET" else 307, headers)


def _own_address(family: int) -> str:
    """An address by which this machine is known to others; a loopback one where there is no network."""
    ipv6 = family == socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE[ipv6])  # chooses the way, and sends nothing
            return str(probe.getsockname()[0])
        except OSError:
            return "::1" if ipv6 else "127.0.0.1"
