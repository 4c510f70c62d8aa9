"""What an AuthN server tells the registered clusters: which tokens to refuse, and which access keys to accept (protocol/60 7, 8.3)."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.server.relay import ask, ask_privately
from aistore.wire import authn, environment
from aistore.wire.errors import ApiError
from aistore.wire.values import parse_bool

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterable

    from aistore.http1.message import Reply
    from aistore.server.authn.service import AuthnService
    from aistore.wire.authn import ClusterAcl

__all__ = ["Pushing"]

logger = logging.getLogger("aistore.server.authn")

_LIFETIME: Final = 300
# A change is answered when the clusters know it, or after this long; who does not know it by then is told until it does.
_ANSWER_SECONDS: Final = 2.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 60.0
_WARNED_AT: Final = 4  # attempts: a cluster that starts needs some
# What a cluster that has no access keys answers (the reference, and without AuthN).
_NOT_THERE: Final = frozenset({400, 404, 405, 501})


class Pushing:
    """Tells clusters, some of which may be away for a while."""

    def __init__(self, service: AuthnService) -> None:
        self._service = service
        self._context: ssl.SSLContext | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._behind: set[str] = set()
        """Clusters that have missed something since they were told all."""
        self._catching_up: set[str] = set()
        self._turns: dict[str, asyncio.Lock] = {}

    async def start(self) -> None:
        """Tell all clusters all that there is to tell: what they missed before is not known any more."""
        for cluster in await self._service.in_thread(self._service.database.clusters):
            self._missed(cluster)

    async def close(self) -> None:
        """Give up what could not be told."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def shake_hands(self, cluster: ClusterAcl) -> None:
        """Have a cluster accept a token of this server, if it has URLs. Raises `ApiError` 400, or 503 if the cluster is not ready."""
        if not cluster.urls:
            return
        answer = await self._ask(cluster, "POST", authn.TOKENS, b"{}")
        if answer.status != 200:
            said = answer.body if isinstance(answer.body, bytes) else b""
            text = (
                f"failed to validate-signer with {cluster.alias}[{cluster.id}]: status {answer.status}: {_text(said)}"
            )
            raise ApiError(503 if answer.status == 503 else 400, text)

    async def tell_revoked(self, cluster: ClusterAcl) -> None:
        """Tell a cluster all revoked tokens. Raises `ApiError` 400."""
        service = self._service
        service.revoked = await service.in_thread(service.database.revoked)
        if cluster.urls and service.revoked:
            answer = await self._ask(cluster, "DELETE", authn.TOKENS, _message(service.revoked.values()))
            if answer.status != 200:
                raise ApiError(
                    400, f"failed to tell {cluster.alias}[{cluster.id}] the revoked tokens: status {answer.status}"
                )

    async def revoke(self, token: str) -> None:
        """Tell all clusters a token; who cannot be reached now is told later."""
        body = _message([token])

        async def tell(cluster: ClusterAcl) -> int:
            return (await self._ask(cluster, "DELETE", authn.TOKENS, body)).status

        await self._tell_all(tell)

    async def tell_access_keys(self, *, always: bool = False) -> None:
        """Tell all clusters the access keys and what they allow now, if there are any, or `always`: the last one may have gone."""
        database = self._service.database
        if always or await self._service.in_thread(lambda: bool(database.access_keys())):
            await self._tell_all(self._tell_access_keys)

    async def _tell_access_keys(self, cluster: ClusterAcl) -> int:
        from aistore.server.authn.access_keys import known_to

        async with self._turns.setdefault(cluster.id, asyncio.Lock()):  # what was listed last is told last
            keys = await self._service.in_thread(lambda: known_to(self._service, cluster.id))
            body = msgspec.json.encode(authn.AccessKeys(keys))
            status = (await self._ask(cluster, "PUT", authn.ACCESS_KEYS, body)).status
        return 200 if status in _NOT_THERE else status

    # -- who is told --

    async def _tell_all(self, tell: Callable[[ClusterAcl], Awaitable[int]]) -> None:
        clusters = await self._service.in_thread(self._service.database.clusters)
        told = [self._spawn(self._tell(cluster, tell)) for cluster in clusters if cluster.urls]
        if told:
            await asyncio.wait(told, timeout=_ANSWER_SECONDS)

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _tell(self, cluster: ClusterAcl, tell: Callable[[ClusterAcl], Awaitable[int]]) -> None:
        if await tell(cluster) != 200:
            self._missed(cluster)

    def _missed(self, cluster: ClusterAcl) -> None:
        if cluster.urls:
            self._behind.add(cluster.id)
            if cluster.id not in self._catching_up:
                self._catching_up.add(cluster.id)
                self._spawn(self._catch_up(cluster.id))

    async def _catch_up(self, uuid: str) -> None:
        """Tell a cluster all, until it knows or is not registered any more."""
        pause, attempts = _FIRST_PAUSE, 0
        try:
            while uuid in self._behind:
                await asyncio.sleep(pause)
                cluster = await self._service.in_thread(lambda: self._service.database.cluster(uuid))
                self._behind.discard(uuid)
                if cluster is None:
                    return
                if why := await self._fails(cluster):
                    self._behind.add(uuid)
                    pause, attempts = min(2 * pause, _LONGEST_PAUSE), attempts + 1
                    if attempts == _WARNED_AT:
                        logger.warning("%s; told again until it works", why)
        finally:
            self._catching_up.discard(uuid)

    async def _fails(self, cluster: ClusterAcl) -> str:
        try:
            await self.tell_revoked(cluster)
        except ApiError as error:
            return error.message
        status = await self._tell_access_keys(cluster)
        return "" if status == 200 else f"failed to tell {cluster.id} the access keys: status {status}"

    async def _ask(self, cluster: ClusterAcl, method: str, resource: str, body: bytes) -> Reply:
        """The answer of the first URL that gives one; 502 if none does."""
        now = int(time.time())
        claims: dict[str, object] = {
            "admin": True,
            "iss": self._service.external_url,
            "sub": authn.SERVICE,
            "aud": [cluster.id],
            "exp": now + _LIFETIME,
            "iat": now,
        }
        headers = (("Authorization", f"Bearer {self._service.keys.sign(claims)}"),)
        answer: Reply | None = None
        for url in cluster.urls or ():
            answer = await self._send(url, method, f"/v1/{resource}", body, headers)
            if answer.status not in (502, 503):
                break
        assert answer is not None  # there are URLs
        return answer

    async def _send(
        self, url: str, method: str, target: str, body: bytes, headers: tuple[tuple[str, str], ...]
    ) -> Reply:
        own = self._service.own_cluster
        if own is not None and url == own.url:
            return await ask_privately(own.data_dir, own.node, url, method, target, body, headers)
        if self._context is None and url.startswith("https:"):
            self._context = _trusted_clusters()
        return await ask(url, method, target, body, headers, self._context)


def _trusted_clusters() -> ssl.SSLContext:
    """How certificates of clusters are verified (protocol/60 20.3)."""
    import ssl

    from aistore.server.tls import trusting

    if not parse_bool(os.environ.get(environment.SKIP_VERIFY_CLUSTERS, "").strip().lower()):
        return trusting()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _message(tokens: Iterable[str]) -> bytes:
    return msgspec.json.encode({"tokens": list(tokens), "version": "0"})


def _text(body: bytes) -> str:
    """What a cluster says, for people."""
    try:
        return str(msgspec.json.decode(body)["message"])[:300]
    except (msgspec.MsgspecError, KeyError, TypeError):
        return "no answer" if not body else body[:300].decode("utf-8", "replace")
