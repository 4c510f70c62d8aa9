"""What an AuthN server tells the registered clusters: which tokens to refuse (protocol/60 7, 8.3)."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.server.relay import ask
from aistore.wire import authn
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aistore.http1.message import Reply
    from aistore.server.authn.service import AuthnService
    from aistore.wire.authn import ClusterAcl

__all__ = ["Pushing"]

logger = logging.getLogger("aistore.server.authn")

_LIFETIME: Final = 300
# Revoking answers when the clusters know it, or after this long, and goes on telling them.
_ANSWER_SECONDS: Final = 2.0
_PAUSE: Final = 3.0
_ATTEMPTS: Final = 20


class Pushing:
    """Tells clusters, some of which may be away for a while."""

    def __init__(self, service: AuthnService) -> None:
        self._service = service
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Give up what could not be told."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def shake_hands(self, cluster: ClusterAcl) -> None:
        """Have a cluster accept a token of this server, if it has URLs. Raises `ApiError` 400, or 503 if the cluster is not ready."""
        if not cluster.urls:
            return
        answer = await self._ask(cluster, "POST", b"{}")
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
            answer = await self._ask(cluster, "DELETE", _message(service.revoked.values()))
            if answer.status != 200:
                raise ApiError(
                    400, f"failed to tell {cluster.alias}[{cluster.id}] the revoked tokens: status {answer.status}"
                )

    async def revoke(self, token: str) -> None:
        """Tell all clusters a token; who cannot be reached now is told later."""
        clusters = await self._service.in_thread(self._service.database.clusters)
        told = [asyncio.create_task(self._tell(cluster, token)) for cluster in clusters if cluster.urls]
        for task in told:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if told:
            await asyncio.wait(told, timeout=_ANSWER_SECONDS)

    async def _tell(self, cluster: ClusterAcl, token: str) -> None:
        for _ in range(_ATTEMPTS):
            answer = await self._ask(cluster, "DELETE", _message([token]))
            if answer.status == 200:
                return
            if answer.status not in (502, 503):
                break
            await asyncio.sleep(_PAUSE)
        logger.warning("cluster %s was not told of a revoked token: status %d", cluster.id, answer.status)

    async def _ask(self, cluster: ClusterAcl, method: str, body: bytes) -> Reply:
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
            answer = await ask(url, method, f"/v1/{authn.TOKENS}", body, headers)
            if answer.status not in (502, 503):
                break
        assert answer is not None  # there are URLs
        return answer


def _message(tokens: Iterable[str]) -> bytes:
    return msgspec.json.encode({"tokens": list(tokens), "version": "0"})


def _text(body: bytes) -> str:
    """What a cluster says, for people."""
    try:
        return str(msgspec.json.decode(body)["message"])[:300]
    except (msgspec.MsgspecError, KeyError, TypeError):
        return "no answer" if not body else body[:300].decode("utf-8", "replace")
