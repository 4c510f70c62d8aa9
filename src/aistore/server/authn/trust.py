"""Whose tokens a node accepts: the keys that it checks signatures with, and where they come from (protocol/60 13.1)."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aistore.server.authn.keys import AuthnMissing, KeyRefused, check_secret, read_jwks, read_public_key
from aistore.server.authn.tokens import Verifier, key_id_of
from aistore.server.relay import ask, ask_privately
from aistore.server.settings import SettingsError, is_loopback
from aistore.wire import environment
from aistore.wire.authn import SERVICE

if TYPE_CHECKING:
    from pathlib import Path

    from aistore.http1.message import Reply
    from aistore.server.authn.service import AuthnService
    from aistore.server.tls import CaFile

__all__ = ["Published", "Trust", "WithKey", "WithService"]

logger = logging.getLogger("aistore.server.authn")

_JWKS: Final = "/.well-known/jwks.json"
_REFRESH_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 2.0  # after a failure


class Trust(ABC):
    """Where keys come from: by default there is nobody to ask for others."""

    @property
    @abstractmethod
    def verifier(self) -> Verifier:
        """Checks tokens with the keys that are known now."""

    is_away = False
    """Whether the server that has the keys did not answer when it was asked last."""

    def may_learn(self, token: str) -> bool:  # noqa: ARG002  of those who can
        """Whether asking for keys again could make a token acceptable."""
        return False

    async def learn(self) -> None:  # noqa: B027  by default there is nobody to ask
        """Ask for keys again."""


class WithKey(Trust):
    """One key that the node was started with: the secret that it shares with the AuthN server, or that server's public key."""

    def __init__(self, secret: str = "", public_key: str = "") -> None:
        _require_libraries()
        if public_key:
            self._verifier = Verifier(public_keys=[read_public_key(public_key)], any_key=True)
        else:
            self._verifier = Verifier(check_secret(secret))

    @property
    def verifier(self) -> Verifier:
        """With that key."""
        return self._verifier


class WithService(Trust):
    """The AuthN service of the same process."""

    def __init__(self, service: AuthnService) -> None:
        self._service = service

    @property
    def verifier(self) -> Verifier:
        """As of now: keys may be rotated."""
        return self._service.keys.verifier


class Published(Trust):
    """The public keys that an AuthN server publishes; asked for again, now and then, when a token names one that is not known."""

    def __init__(self, url: str, ca: str = "", *, same_machine: bool = False, folder: Path | None = None) -> None:
        """`ca` vouches for a server behind https. That of the gateway's own is asked through its socket in `folder`."""
        _require_libraries()
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"authn {url!r} is neither 'local' nor the URL of an AuthN server")
        if parts.scheme == "http" and not (same_machine or is_loopback(parts.hostname)):
            raise SettingsError(
                f"the keys of {url} would come over a network that anybody may change: use https, or set "
                f"{environment.SECRET_KEY} or {environment.PUBLIC_KEY}"
            )
        self._url = url.rstrip("/")
        self._folder = folder
        self._trusted: CaFile | None = None
        if parts.scheme == "https" and folder is None:
            from aistore.server.tls import CaFile

            self._trusted = CaFile(ca)
            self._trusted.context()  # which says at the start what cannot be used
        self._not_before = 0.0
        self._learning: asyncio.Future[None] | None = None
        self._verifier = Verifier()

    @property
    def verifier(self) -> Verifier:
        """With the keys that were published last."""
        return self._verifier

    def may_learn(self, token: str) -> bool:
        """Whether the token names a key that is not known, and the server was not asked just before."""
        if self._learning is None and time.monotonic() < self._not_before:
            return False
        kid = key_id_of(token)
        return bool(kid) and not self._verifier.knows(kid)

    async def learn(self) -> None:
        """Ask for the keys; who comes meanwhile waits for the same answer.

        Raises `SettingsError` if the server signs with a secret. One that does not answer is asked again by a later token.
        """
        if self._learning is None:
            self._learning = asyncio.ensure_future(self._ask())
        learning = self._learning
        try:
            await asyncio.shield(learning)
        finally:
            if learning.done():
                self._learning = None

    async def _ask(self) -> None:
        self._not_before = time.monotonic() + _RETRY_SECONDS
        try:
            answer = await self._published()
        except SettingsError as error:
            logger.warning("the keys of %s cannot be had: %s", self._url, error)
            return
        self.is_away = answer.status == 502
        if answer.status == 400:
            raise SettingsError(f"{self._url} signs with a secret: set {environment.SECRET_KEY} to the same here")
        if answer.status != 200 or not isinstance(answer.body, bytes):
            why = "it does not answer (start it: ais authn serve)" if self.is_away else f"status {answer.status}"
            logger.warning("the keys of the AuthN server %s cannot be had: %s", self._url, why)
            return
        try:
            self._verifier = Verifier(public_keys=read_jwks(answer.body))
        except KeyRefused as error:
            logger.warning("%s", error)
            return
        self._not_before = time.monotonic() + _REFRESH_SECONDS

    async def _published(self) -> Reply:
        if self._folder is not None:
            return await ask_privately(self._folder, SERVICE, self._url, "GET", _JWKS)
        context = self._trusted.context() if self._trusted is not None else None
        return await ask(self._url, "GET", _JWKS, context=context)


def _require_libraries() -> None:
    try:
        import cryptography  # noqa: F401  looked for at the start
        import jwt  # noqa: F401
    except ImportError as error:
        raise AuthnMissing(error) from None
