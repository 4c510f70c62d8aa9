"""The ETLs of a cluster: their definitions, stages, and life cycle (protocol/50 1, 4)."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.server.etl.launching import Launching
from aistore.server.etl.message import InitMessage, parse_init
from aistore.server.settings import is_loopback
from aistore.server.store.records import Records
from aistore.wire.errors import ApiError
from aistore.wire.ids import new_job_id

if TYPE_CHECKING:
    from pathlib import Path

    from aistore.server.etl.running import Running
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node

__all__ = ["ABORTED", "INITIALIZING", "RUNNING", "Definition", "Etls"]

logger = logging.getLogger(__name__)

INITIALIZING: Final = "Initializing"
RUNNING: Final = "Running"
ABORTED: Final = "Aborted"

_KIND: Final = "etl-inline"
_ENVIRONMENTS: Final = ".environments"


class Definition:
    """An ETL by its name, running or not."""

    def __init__(self, message: InitMessage) -> None:
        self.message = message
        self.running: Running | None = None
        self.last: Running | None = None
        """What runs, or is being stopped, or was."""
        self.starting: asyncio.Future[str] | None = None
        self.job: Job | None = None
        self.users: set[Job] = set()
        """Jobs that transform with it."""

    @property
    def stage(self) -> str:
        """One of `Initializing`, `Running`, `Aborted`."""
        if self.starting is not None:
            return INITIALIZING
        return RUNNING if self.running is not None else ABORTED


class Etls:
    """All ETLs; they belong to the gateway."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._records = Records(node.store.catalog, "etl")
        self._all: dict[str, Definition] = {}
        for text in self._records.load():
            message = msgspec.json.decode(text, type=InitMessage)
            self._all[message.name] = Definition(message)
        self._folder: Path = node.settings.data_dir / "etl"
        self._key = secrets.token_hex(16)
        if self._folder.is_dir():
            for left in self._folder.iterdir():  # by a server that was killed
                if left.name != _ENVIRONMENTS:
                    shutil.rmtree(left, ignore_errors=True)

    async def close(self) -> None:
        """End all processes."""
        await asyncio.gather(*(self._halt(one) for one in self._all.values()))

    # -- finding ---------------------------------------------------------------------------------------------------

    def all(self) -> list[Definition]:
        """All definitions."""
        return list(self._all.values())

    def find(self, name: str) -> Definition | None:
        """The definition of this name."""
        return self._all.get(name)

    def defined(self, name: str) -> Definition:
        """The definition of this name. Raises ApiError 404."""
        found = self._all.get(name)
        if found is None:
            raise ApiError(404, f"{self._node.gateway_name}: etl job {name} does not exist")
        return found

    def running(self, name: str) -> Running:
        """The running ETL of this name. Raises ApiError 404, another one if it is not even defined."""
        found = self.defined(name).running
        if found is None:
            raise ApiError(404, f"{self._node.name}: {name} does not exist")
        return found

    # -- life ------------------------------------------------------------------------------------------------------

    def check_allowed(self) -> None:
        """Raise ApiError 403 where anybody on the network could run code."""
        settings = self._node.settings
        if not (is_loopback(settings.host) or settings.allow_etl or settings.authn):  # those of administrators
            raise ApiError(
                403,
                f"ETLs run code on the server's machine, and {settings.host} can be reached from others: "
                "start the server with --allow-etl if everybody there may do that",
            )

    async def init(self, body: bytes) -> str:
        """Define an ETL and start it; the id of its job. Raises ApiError 400, 409."""
        message = parse_init(body)
        name = message.name
        if name in self._all:
            raise ApiError(409, f"{self._node.gateway_name}: etl job {name} already exists")
        definition = self._all[name] = Definition(message)
        return await self._start(definition, new=True)

    async def start(self, name: str) -> str:
        """Start an ETL that was stopped; the id of its new job. Raises ApiError 400, 404."""
        definition = self.defined(name)
        if definition.stage != ABORTED:
            raise ApiError(400, f'invalid action "can\'t start ETL[{name}] during {definition.stage} stage"')
        return await self._start(definition)

    async def stop(self, name: str) -> None:
        """Stop an ETL, if it runs. Raises ApiError 404."""
        await self._halt(self.defined(name))

    async def delete(self, name: str) -> None:
        """Stop an ETL and forget it. Raises ApiError 404."""
        definition = self.defined(name)
        await self._halt(definition)
        if self._all.get(name) is definition:
            del self._all[name]
            await self._records.drop((name,))

    async def _start(self, definition: Definition, *, new: bool = False) -> str:
        starting = definition.starting = asyncio.ensure_future(self._bring_up(definition, new=new))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if not starting.cancelled():
                raise
            raise ApiError(400, f'[etl="{definition.message.name}"] it was stopped while it was initializing') from None

    async def _bring_up(self, definition: Definition, *, new: bool) -> str:
        """Start an ETL and its job; the id of that. A new one is kept first: from the beginning it can be stopped and deleted."""
        try:
            if new:
                await self._keep(definition)
            running = await Launching(self._node, definition.message, self._folder, self._key).run()
            running.job_id = f"etl-{new_job_id()}"
            try:
                definition.job = self._node.control.jobs.start(
                    _KIND, lambda _: self._watch(definition, running), job_id=running.job_id, control=running.name
                )
            except ApiError:  # too many run
                await running.stop()
                raise
            await asyncio.sleep(0)  # its first step: from then on it answers for the processes
            if definition.running is not running:
                await running.stop()
                raise ApiError(400, f'[etl="{running.name}"] its job was aborted while it was initializing')
            await definition.job.noted()
            return running.job_id
        finally:
            definition.starting = None

    async def _keep(self, definition: Definition) -> None:
        name = definition.message.name
        try:
            await self._records.keep(name, msgspec.json.encode(definition.message).decode())
        except Exception:
            if self._all.get(name) is definition:
                del self._all[name]
            raise

    async def _watch(self, definition: Definition, running: Running) -> None:
        """The ETL's own job: it lives as long as the processes do, and takes them along when it is aborted."""
        name = running.name
        definition.running = definition.last = running
        try:
            status = await asyncio.shield(running.processes.ended)
            tail = running.processes.log_tail()
            logger.warning("ETL %s: its main process ended with status %d", name, status)
            raise ApiError(400, f'[etl="{name}"] its main process ended with status {status}\n{tail}'.rstrip())
        finally:
            definition.running = None
            definition.job = None
            for job in list(definition.users):
                self._node.control.jobs.abort(job)
            # Who aborts it twice does not leave anything half stopped.
            stopping = asyncio.ensure_future(running.stop())
            stopping.add_done_callback(lambda _: running.over.set())
            await asyncio.shield(stopping)

    async def _halt(self, definition: Definition) -> None:
        """End what runs, also what others start or stop meanwhile, and wait until it is gone."""
        while True:
            running, job = definition.last, definition.job
            if (starting := definition.starting) is not None:
                starting.cancel()
                await asyncio.wait([starting])
                if definition.starting is starting:  # it had not begun
                    definition.starting = None
            elif running is not None and not running.over.is_set():
                if job is not None:
                    self._node.control.jobs.abort(job)
                await running.over.wait()
            else:
                return
