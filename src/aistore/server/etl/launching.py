"""One start of an ETL: from its definition to processes that answer (protocol/50 3, 6.9)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aistore.server.etl.exchange import BadAnswer, NoConnection, TookTooLong
from aistore.server.etl.images import LOOPBACK, NoImage
from aistore.server.etl.message import launch_of, seconds
from aistore.server.etl.processes import Processes, ProcessFailed
from aistore.server.etl.running import Running
from aistore.server.listening import url_of
from aistore.server.settings import CA
from aistore.wire import environment, etl
from aistore.wire.errors import ApiError
from aistore.wire.ids import new_letters

if TYPE_CHECKING:
    from pathlib import Path

    from aistore.server.etl.message import InitMessage
    from aistore.server.node import Node

__all__ = ["Launching"]

_HEALTH: Final = "/health"
_PROBE_SECONDS: Final = 5.0
_PROBE_PAUSE: Final = 0.02
_PROBE_PAUSE_MAX: Final = 0.25
_ANSWER_SECONDS: Final = 1.0
_READY: Final = range(200, 400)


class Launching:
    """Starts the processes of an ETL, in a folder of their own below `etls`."""

    def __init__(self, node: Node, message: InitMessage, etls: Path, key: str) -> None:
        """`key` shows transformers that a request is this server's, or that of a stage before them."""
        self._node = node
        self._key = key
        self._message = message
        self._launch = launch_of(message)
        self._folder = etls / f"{message.name}-{new_letters()}"
        limit = seconds(message.init_timeout)
        # Clients of the reference wait no longer than that themselves, and take no answer for a lost one: they ask again (protocol/50 3.6).
        self._deadline = asyncio.get_running_loop().time() + limit - min(_ANSWER_SECONDS, limit / 10)

    async def run(self) -> Running:
        """The ETL, when it answers. Raises ApiError 400, and leaves nothing then."""
        message = self._message
        secret = new_letters()
        env = {
            "AIS_TARGET_URL": f"{_own_url(self._node)}/v1/etl/_object/{message.name}/{secret}",
            etl.KEY_VARIABLE: self._key,
            "direct_put": "true" if message.support_direct_put else "false",
            "DIRECT_PUT": "true" if message.support_direct_put else "false",
            **{name: ca for name, ca in _trust(self._node).items() if name not in self._launch.env},
        }
        ws = message.communication == "ws://"
        try:
            hidden = (secret, self._key)
            processes = await Processes.start(message.name, self._launch, env, self._folder, ws=ws, hidden=hidden)
        except (NoImage, ProcessFailed, OSError) as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            reason = "ErrImagePull" if isinstance(error, NoImage) else "StartError"
            raise self._failed(
                str(error), f"state: Waiting, reason: {reason}, message: {error}, exitCode: 0"
            ) from error
        except BaseException:  # stopped meanwhile
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        running = Running(message, processes, secret, self._key)
        try:
            await self._until_ready(running)
            processes.release_port()
            await self._check_loopback(processes)
            if ws:
                await self._open_sockets(running)
        except BaseException:
            await running.stop()
            raise
        return running

    async def _until_ready(self, running: Running) -> None:
        processes = running.processes
        probe = _HEALTH if processes.is_ours else self._launch.probe
        pause = _PROBE_PAUSE
        while processes.running and (left := self._left()) > 0:
            with contextlib.suppress(TookTooLong, NoConnection, BadAnswer):
                if await _is_ready(running, probe, min(left, _PROBE_SECONDS)):
                    return
            await asyncio.wait([processes.ended], timeout=pause)
            pause = min(pause * 1.5, _PROBE_PAUSE_MAX)
        if processes.running:
            timeout = self._message.init_timeout
            raise await self._unusable(
                processes, f"context deadline exceeded: not ready within {timeout} (asked at {running.url}{probe})"
            )
        status = processes.ended.result()
        told = f"state: Terminated, reason: Error, message: {processes.log_tail()}, exitCode: {status}"
        raise self._failed(f"exited with status {status}", told)

    async def _check_loopback(self, processes: Processes) -> None:
        address = processes.open_to_others()
        if address is not None:
            why = f"it listens on {address}, where others reach it; it has to listen on 127.0.0.1 (port $AIS_ETL_PORT)"
            raise await self._unusable(processes, why)

    async def _open_sockets(self, running: Running) -> None:
        from aistore.server.etl.sockets import NoWebSockets, Sockets

        try:
            running.sockets = Sockets(running.url, self._key)
            await running.sockets.check(max(0.1, self._left()))
        except (NoWebSockets, NoConnection, asyncio.TimeoutError) as error:
            raise await self._unusable(running.processes, str(error) or "context deadline exceeded") from error

    def _left(self) -> float:
        return self._deadline - asyncio.get_running_loop().time()

    async def _unusable(self, processes: Processes, why: str) -> ApiError:
        """The error for processes that run, and are of no use."""
        await processes.heard()
        return self._failed(why, f"state: Running, reason: , message: {processes.log_tail()}, exitCode: 0")

    def _failed(self, why: str, state: str) -> ApiError:
        """The error for an ETL that could not be started; nothing of it runs, its definition stays."""
        name, node = self._message.name, self._node.name
        status = f"container: {self._launch.image}, {state}"
        return ApiError(400, f'[{node},etl="{name}",pod="{name}",service="{name}",pod_status="{status}"] {why}')


async def _is_ready(running: Running, probe: str, limit: float) -> bool:
    """Whether a probe is answered well, and before the transformer ends. Raises what `Port.ask` does."""
    asked = asyncio.ensure_future(running.port.ask("GET", probe, (), lambda: None, limit))
    try:
        await asyncio.wait([asked, running.processes.ended], return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
    if not asked.done():
        await asyncio.wait([asked])
        return False
    answer = asked.result()
    answer.close()
    return answer.status in _READY


def _own_url(node: Node) -> str:
    """Where transformers reach this server: on loopback, if it listens there."""
    host = node.settings.host
    if host in ("", "0.0.0.0"):  # noqa: S104 (a comparison)
        host = LOOPBACK
    elif host == "::":
        host = "::1"
    if node.tls is not None and not node.tls.certificate.fits(host):
        return node.url  # the name that others know it by
    return url_of(host, urlsplit(node.url).port or 0, tls=node.tls is not None)


def _trust(node: Node) -> dict[str, str]:
    """What has a transformer trust this server."""
    if node.tls is None:
        return {}
    files, certificate = node.tls.files, node.tls.certificate
    if files.self_signed:
        ca = str(node.settings.data_dir / CA)
    else:
        signs_itself = certificate.issuer == certificate.subject
        ca = os.environ.get(environment.CLIENT_CA, "") or (files.cert if signs_itself else "")
    return {environment.CLIENT_CA: ca} if ca else {}
