"""The target processes of a gateway: started with it, ended with it, and started again when they die."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aistore.server.spawn import START_SECONDS, Ready, ServerStartError, command, open_log, read_answer

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable, Sequence

    from aistore.server.settings import ServerSettings

log = logging.getLogger("aistore.server.targets")

# A target that dies this often without having served for `_STEADY_SECONDS` is left alone.
_ATTEMPTS = 5
_STEADY_SECONDS = 30.0
_FIRST_PAUSE = 0.1
_STOP_SECONDS = 10.0  # beyond what they give to what runs


@dataclass
class TargetProcess:
    """One target: its node id, its process, where it answers, and what it was started with."""

    id: str
    process: Process
    ready: Ready
    settings: ServerSettings

    def finish(self) -> None:
        """Have it end, when it has finished what is under way."""
        if self.process.stdin:
            self.process.stdin.close()


class TargetProcesses:
    """N target processes, kept alive.

    `on_change` is called, on the loop, with `{id: url}` of those that serve, each time that one is gone or is back.
    """

    def __init__(
        self,
        settings: ServerSettings,
        ids: Sequence[str],
        gateway_url: str,
        on_change: Callable[[dict[str, str]], None],
    ) -> None:
        self._gateway_url = gateway_url
        self._settings = self._as_target(settings)
        self._ids = ids
        self._on_change = on_change
        self._serving: dict[str, TargetProcess] = {}
        self._keepers: list[asyncio.Task[None]] = []

    def _as_target(self, settings: ServerSettings) -> ServerSettings:
        # The folder is the gateway's: a target that loses its gateway removes nothing.
        return replace(
            settings, role="target", targets=1, port=0, idle_exit=None, temporary=False, gateway_url=self._gateway_url
        )

    @property
    def urls(self) -> dict[str, str]:
        """Where each target answers, by id; those that serve now."""
        return {one.id: one.ready.url for one in self._serving.values()}

    async def start(self) -> dict[str, str]:
        """Start all of them at once; their URLs. Where one does not start, none is left: `ServerStartError`."""
        results = await asyncio.gather(*(self._spawn(one, port=0) for one in self._ids), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        for result in results:
            if isinstance(result, TargetProcess):
                self._serving[result.id] = result
        if failures:
            await self.stop(0.0)
            raise failures[0]
        self._keepers = [asyncio.create_task(self._keep(one)) for one in self._serving.values()]
        return self.urls

    def restart(self, settings: ServerSettings) -> None:
        """Have all of them finish what is under way, and start again with other settings."""
        self._settings = self._as_target(settings)
        for one in self._serving.values():
            one.finish()

    async def stop(self, grace: float) -> None:
        """End all of them: the end of their standard input tells them to finish, within `grace` seconds what runs."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(_end(one.process, grace) for one in self._serving.values()))
        self._serving.clear()

    def kill(self) -> None:
        """End all of them at once."""
        for one in self._serving.values():
            with contextlib.suppress(ProcessLookupError):
                one.process.kill()

    async def _spawn(self, node_id: str, port: int) -> TargetProcess:
        given = self._settings
        settings = replace(given, node_id=node_id, port=port)
        with open_log(settings) as stderr:
            process = await asyncio.create_subprocess_exec(
                *command(settings),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                cwd="/",
            )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(settings.encode())
            line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
            ready = read_answer(settings, line, None if line else await process.wait())
        except BaseException as error:
            await _end(process, 0.0)
            if isinstance(error, asyncio.TimeoutError):
                raise ServerStartError(settings.data_dir, f"target {node_id} did not answer") from error
            raise
        log.info("target %s serves at %s (process %d)", node_id, ready.url, ready.pid)
        return TargetProcess(node_id, process, ready, given)

    async def _keep(self, target: TargetProcess) -> None:
        """Start this target again whenever it ends."""
        loop = asyncio.get_running_loop()
        failed = 0
        while failed < _ATTEMPTS:
            since = loop.time()
            status = await target.process.wait()
            del self._serving[target.id]
            log.warning("target %s (process %d) ended with status %d", target.id, target.ready.pid, status)
            self._on_change(self.urls)
            was_asked_to = target.settings is not self._settings
            failed = 0 if was_asked_to or loop.time() - since > _STEADY_SECONDS else failed + 1
            while failed < _ATTEMPTS:
                try:
                    # The same port: what clients remember of the cluster map stays true.
                    target = await self._spawn(target.id, port=urlsplit(target.ready.url).port or 0)
                    break
                except (ServerStartError, OSError) as error:
                    failed += 1
                    log.warning("target %s does not start: %s", target.id, error)
                    await asyncio.sleep(_FIRST_PAUSE * 2**failed)
            else:
                break
            self._serving[target.id] = target
            self._on_change(self.urls)
            if target.settings is not self._settings:  # they have changed while it started
                target.finish()
        log.error("target %s keeps failing and is left out of the cluster map", target.id)


async def _end(process: Process, grace: float) -> None:
    """Let a process finish, and kill it if it does not. It reads how long what runs may take, as a line."""
    if process.stdin:
        with contextlib.suppress(OSError):  # it has ended already
            process.stdin.write(b"%g\n" % grace)
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), grace + _STOP_SECONDS)
    except asyncio.TimeoutError:
        process.kill()
        await process.wait()
