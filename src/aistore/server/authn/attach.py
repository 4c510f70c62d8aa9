"""Putting a gate before a node, as its settings say."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from aistore.server.authn.gate import Gate
from aistore.server.authn.service import AuthnService, OwnCluster
from aistore.server.authn.settings import AuthnSettings, FirstAdministrator
from aistore.server.authn.signing import Signer, new_key
from aistore.server.authn.trust import Published, WithKey, WithService
from aistore.server.settings import LOCAL_AUTHN
from aistore.wire.authn import ClusterAcl
from aistore.wire.environment import AUTHN_PORT

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.http1.server import Request, Result
    from aistore.server.authn.trust import Trust
    from aistore.server.node import Node
    from aistore.server.settings import ServerSettings

__all__ = ["FOLDER", "Guarded"]

logger = logging.getLogger("aistore.server.authn")

FOLDER = "authn"
"""Where a data folder has the AuthN server of its own."""


class Guarded:
    """The gate of a node, and the AuthN server of its own, if it has one."""

    def __init__(self, node: Node, handle: Callable[[Node, Request], Result]) -> None:
        self._node = node
        self._handle = handle
        self._settings = settings = node.settings
        self.signer = Signer(settings.redirect_key or new_key())
        self.service: AuthnService | None = None
        self.gate: Gate

    async def start(self) -> None:
        """Start the server of its own, and take over keys and what was revoked."""
        try:
            self.gate = Gate(self._node, await self._trust(), self.signer, self._handle)
            await self.gate.open()
            if self.service is not None:
                self.service.on_new_secret = self._renew
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the server of its own."""
        if self.service is not None:
            service, self.service = self.service, None
            await service.stop()

    async def _trust(self) -> Trust:
        settings = self._settings
        if settings.authn == LOCAL_AUTHN:
            service = AuthnService(_of_its_own(settings), self._node.tls)
            if self._node.tls is not None:
                service.own_cluster = OwnCluster(
                    self._node.url, settings.data_dir, self._node.target_id or self._node.gateway_id
                )
            await service.start()
            self.service = service
            cluster = ClusterAcl(self._node.smap.uuid, urls=[self._node.url])
            await service.register(cluster)
            logger.info("AuthN of this cluster serves at %s", service.url)
            return WithService(service)
        if not settings.authn_secret:
            is_target = settings.role == "target"
            folder = settings.data_dir / FOLDER if is_target and settings.authn_is_own and settings.tls else None
            return Published(settings.authn, settings.authn_ca, same_machine=is_target, folder=folder)
        if "BEGIN" in settings.authn_secret or settings.authn_secret.startswith("MII"):
            return WithKey(public_key=settings.authn_secret)
        return WithKey(settings.authn_secret)

    def _renew(self) -> None:
        """What was signed with the secret of before is good nowhere in the cluster."""
        self.gate.forget()
        if self._node.targets is not None:
            self._node.targets.restart(self.for_targets(self._settings))

    def for_targets(self, settings: ServerSettings) -> ServerSettings:
        """What target processes are started with: they check tokens, too, and redirects of this gateway."""
        service = self.service
        if service is None:
            return replace(settings, redirect_key=self.signer.key)
        return replace(
            settings,
            authn=service.url,
            authn_is_own=True,
            authn_secret=service.keys.secret,
            redirect_key=self.signer.key,
        )


def _of_its_own(settings: ServerSettings) -> AuthnSettings:
    name, password = settings.authn_first
    return AuthnSettings(
        settings.data_dir / FOLDER,
        host=settings.host,
        port=AUTHN_PORT if settings.authn_port is None else settings.authn_port,
        allow_remote=True,  # where the node is reached, it is
        log_format=settings.log_format,
        access_log=settings.access_log,
        secret=settings.authn_secret,
        first=FirstAdministrator(name or FirstAdministrator.name, password),
    )
