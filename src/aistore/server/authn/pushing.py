"""What an AuthN server tells the registered clusters: which tokens to refuse, and which access keys to accept (protocol/60 7, 8.3)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from aistore.http1.message import Reply
from aistore.server.relay import ask, ask_privately
from aistore.server.settings import SettingsError
from aistore.wire import authn, environment
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from aistore.server.authn.service import AuthnService
    from aistore.server.tls import CaFile
    from aistore.wire.authn import ClusterAcl

    Tell = Callable[[ClusterAcl], Awaitable[str]]

__all__ = ["Pushing"]

logger = logging.getLogger("aistore.server.authn")

T = TypeVar("T")

_LIFETIME: Final = 300
# A change is answered when the clusters know it, or after this long; who does not know it by then is told until it does.
_ANSWER_SECONDS: Final = 2.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 60.0
_WARNED_AT: Final = 4  # attempts: a cluster that starts needs some
_TOLD_AT_ONCE: Final = 1000  # tokens of a message
# What a cluster that has no access keys answers (the reference, and without AuthN).
_NOT_THERE: Final = frozenset({400, 404, 405, 501})


class Pushing:
    """Tells clusters, some of which may be away for a while."""

    def __init__(self, service: AuthnService) -> None:
        self._service = service
        self._trusted: CaFile | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._behind: set[str] = set()
        """Clusters that have missed something since they were told all."""
        self._catching_up: set[str] = set()
        self._turns: dict[str, asyncio.Lock] = {}
        self._waiting: dict[tuple[str, ...], asyncio.Task[str]] = {}
        """Who waits for a turn to tell a cluster, at some URLs, the access keys."""

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
            status = (
                "it does not answer" if answer.status == 502 and not said else f"status {answer.status}: {_text(said)}"
            )
            text = f"failed to validate-signer with {_label(cluster)}: {status}"
            raise ApiError(503 if answer.status == 503 else 400, text)

    async def tell_revoked(self, cluster: ClusterAcl) -> None:
        """Tell a cluster all revoked tokens. Raises `ApiError` 400."""
        if cluster.urls and (why := await self._tell_revoked(cluster)):
            raise ApiError(400, why)

    # What follows is told of changes that are made: whoever cannot be told now is told later.

    async def tell_everything(self, cluster: ClusterAcl) -> None:
        """Tell a cluster that is registered all that there is to tell."""
        await self._tell_these([cluster], self._tell_everything)

    async def revoke(self, token: str) -> None:
        """Tell all clusters a token."""

        async def tell(cluster: ClusterAcl) -> str:
            return await self._tell_tokens(cluster, [token])

        await self._tell_all(self._service.database.clusters, tell)

    async def tell_access_keys(self, *, always: bool = False) -> None:
        """Tell all clusters the access keys and what they allow now, if there are any, or `always`: the last one may have gone."""
        database = self._service.database
        await self._tell_all(
            lambda: database.clusters() if always or database.access_keys() else [], self._tell_access_keys
        )

    # -- what is told: these say why it failed, or nothing --

    async def _tell_everything(self, cluster: ClusterAcl) -> str:
        return await self._tell_revoked(cluster) or await self._tell_access_keys(cluster)

    async def _tell_revoked(self, cluster: ClusterAcl) -> str:
        service = self._service
        service.revoked = await service.in_thread(service.database.revoked)
        return await self._tell_tokens(cluster, service.revoked.values()) if service.revoked else ""

    async def _tell_tokens(self, cluster: ClusterAcl, tokens: Iterable[str]) -> str:
        every = list(tokens)
        for start in range(0, len(every), _TOLD_AT_ONCE):  # a message has a limit
            body = _message(every[start : start + _TOLD_AT_ONCE])
            status = (await self._ask(cluster, "DELETE", authn.TOKENS, body)).status
            if status != 200:
                return f"failed to tell {_label(cluster)} the revoked tokens: status {status}"
        return ""

    async def _tell_access_keys(self, cluster: ClusterAcl) -> str:
        """One after the other, so that what was listed last is told last; who waits for its turn tells it for all who come meanwhile."""
        where = (cluster.id, *(cluster.urls or ()))
        waiting = self._waiting.get(where)
        if waiting is None:
            waiting = self._waiting[where] = self._spawn(self._tell_access_keys_in_turn(cluster, where))
        return await asyncio.shield(waiting)

    async def _tell_access_keys_in_turn(self, cluster: ClusterAcl, where: tuple[str, ...]) -> str:
        from aistore.server.authn.access_keys import known_to

        async with self._turns.setdefault(cluster.id, asyncio.Lock()):
            del self._waiting[where]  # of what changes from here on somebody else tells
            keys = await self._service.in_thread(lambda: known_to(self._service, cluster.id))
            body = msgspec.json.encode(authn.AccessKeys(keys))
            status = (await self._ask(cluster, "PUT", authn.ACCESS_KEYS, body)).status
        known = status == 200 or status in _NOT_THERE
        return "" if known else f"failed to tell {_label(cluster)} the access keys: status {status}"

    async def take_keys_back(self, cluster: ClusterAcl) -> None:
        """Have a cluster that is not registered any more accept no access key: nobody would tell it of one that is deleted."""
        if cluster.urls:
            await asyncio.wait([self._spawn(self._take_back(cluster))], timeout=_ANSWER_SECONDS)

    async def _take_back(self, cluster: ClusterAcl) -> None:
        if why := await self._why(self._tell_access_keys, cluster):
            logger.warning("%s; it keeps those that it knows, until they expire", why)

    # -- who is told --

    async def _tell_all(self, whom: Callable[[], list[ClusterAcl]], tell: Tell) -> None:
        try:
            clusters = await self._service.in_thread(whom)
        except sqlite3.Error as error:
            logger.warning("whom to tell of a change cannot be read: %s; all are told when it can be", error)
            self._spawn(self._start_later())
        else:
            await self._tell_these(clusters, tell)

    async def _start_later(self) -> None:
        """Tell all clusters all, once it can be read which they are."""
        pause = _FIRST_PAUSE
        while True:
            await asyncio.sleep(pause)
            with contextlib.suppress(sqlite3.Error):  # said before
                return await self.start()
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _tell_these(self, clusters: Iterable[ClusterAcl], tell: Tell) -> None:
        told = [self._spawn(self._tell(cluster, tell)) for cluster in clusters if cluster.urls]
        if told:
            await asyncio.wait(told, timeout=_ANSWER_SECONDS)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _tell(self, cluster: ClusterAcl, tell: Tell) -> None:
        if await self._why(tell, cluster):
            self._missed(cluster)

    async def _why(self, tell: Tell, cluster: ClusterAcl) -> str:
        """Why a cluster could not be told something; empty if it was."""
        try:
            return await tell(cluster)
        except sqlite3.Error as error:
            return f"what {_label(cluster)} is to be told cannot be read: {error}"

    def _missed(self, cluster: ClusterAcl) -> None:
        if cluster.urls:
            self._behind.add(cluster.id)
            if cluster.id not in self._catching_up:
                self._catching_up.add(cluster.id)
                self._spawn(self._catch_up(cluster))

    async def _catch_up(self, cluster: ClusterAcl) -> None:
        """Tell a cluster all, until it knows or is not registered any more."""
        pause, attempts = _FIRST_PAUSE, 0
        try:
            while cluster.id in self._behind:
                await asyncio.sleep(pause)
                self._behind.discard(cluster.id)
                if why := await self._why(self._tell_registered, cluster):
                    self._behind.add(cluster.id)
                    pause, attempts = min(2 * pause, _LONGEST_PAUSE), attempts + 1
                    if attempts == _WARNED_AT:
                        logger.warning("%s; told again until it works", why)
        finally:
            self._catching_up.discard(cluster.id)

    async def _tell_registered(self, known: ClusterAcl) -> str:
        """Tell a cluster all at the URLs that it has now, if it is registered still and has any."""
        cluster = await self._service.in_thread(lambda: self._service.database.cluster(known.id))
        return await self._tell_everything(cluster) if cluster is not None and cluster.urls else ""

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
        context = None
        if url.startswith("https:"):
            try:
                context = self._trusted_clusters()
            except SettingsError as error:  # whoever waits to be told is told when this is mended
                logger.error("clusters cannot be told anything: %s", error)  # noqa: TRY400  it says all
                return Reply(502, [], str(error).encode())
        return await ask(url, method, target, body, headers, context)

    def _trusted_clusters(self) -> ssl.SSLContext:
        """How certificates of clusters are verified (protocol/60 20.3)."""
        import ssl

        from aistore.server.tls import CaFile

        if environment.is_set(environment.SKIP_VERIFY_CLUSTERS):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            return context
        if self._trusted is None:
            self._trusted = CaFile()
        return self._trusted.context()


def _label(cluster: ClusterAcl) -> str:
    return f"{cluster.alias}[{cluster.id}]"


def _message(tokens: Iterable[str]) -> bytes:
    return msgspec.json.encode({"tokens": list(tokens), "version": "0"})


def _text(body: bytes) -> str:
    """What a cluster says, for people."""
    try:
        return str(msgspec.json.decode(body)["message"])[:300]
    except (msgspec.MsgspecError, KeyError, TypeError):
        return "no answer" if not body else body[:300].decode("utf-8", "replace")
