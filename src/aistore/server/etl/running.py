"""One running ETL: its processes, and what the server asks of them (protocol/50 6)."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from aistore.http1.payload import BytesPayload
from aistore.server.etl.exchange import Answer, BadAnswer, NoConnection, Port, TookTooLong
from aistore.server.etl.images import LOOPBACK
from aistore.server.etl.message import seconds
from aistore.wire import params as param
from aistore.wire.errors import ApiError
from aistore.wire.etl import (
    DIRECT_PUT_TRANSIENT,
    FQN,
    KEY,
    KEY_PARAM,
    NODE_URL,
    RETRY_REASON,
    WS_ARGS,
    WS_FQN,
    WS_PATH,
    WS_PIPELINE,
)
from aistore.wire.values import parse_bool

if TYPE_CHECKING:
    from aistore.server.etl.message import InitMessage
    from aistore.server.etl.processes import Processes
    from aistore.server.etl.sockets import Sockets
    from aistore.server.etl.source import Source
    from aistore.server.store.store import Store
    from aistore.wire.names import BucketId

__all__ = ["ObjectError", "Order", "Running", "TransformFailed"]

logger = logging.getLogger(__name__)

_ERRORS_KEPT: Final = 128
_JOBS_KEPT: Final = 64
_RETRIES: Final = 10
_RESETS: Final = 1
_FIRST_PAUSE: Final = 0.2
_PAUSE_MAX: Final = 3.0
_BY_FILE: Final = 1 << 20  # content of more bytes is handed over by its name
_ERROR_MAX: Final = 64 << 10
_ERROR_STATUS: Final = 400


class TransformFailed(ApiError):
    """An object could not be transformed. `answer` is what the transformer said, None if it said nothing."""

    def __init__(self, status: int, message: str, answer: Answer | None = None) -> None:
        super().__init__(status, message)
        self.answer = answer


class ObjectError(NamedTuple):
    """An entry of `obj_errors`."""

    obj_name: str
    msg: str
    ecode: int


class Order(NamedTuple):
    """What is to be done with one object."""

    bucket: BucketId
    name: str
    args: str = ""
    stages: tuple[Running, ...] = ()
    """Further ETLs, in their order."""
    fresh: bool = False
    """`latest-ver` or `synchronize`: the content goes by value."""


class Running:
    """A running ETL."""

    def __init__(self, message: InitMessage, processes: Processes, secret: str, key: str) -> None:
        self.name = message.name
        self.message = message
        self.processes = processes
        self.secret = secret
        self.job_id = ""
        self.started = time.monotonic()
        self.transformed = 0
        """Objects that were transformed inline (`obj_count`)."""
        self.port = Port(LOOPBACK, processes.port, [(KEY, key)])
        self._key = key
        self.sockets: Sockets | None = None
        self.timeout = seconds(message.obj_timeout)
        self.over = asyncio.Event()
        """Set when nothing of it is left."""
        self._errors: OrderedDict[str, dict[ObjectError, None]] = OrderedDict()
        env = [*(message.runtime.env if message.runtime else []), *message.env]
        self._by_name = any(one.name == "ETL_DIRECT_FQN" and parse_bool(one.value) for one in env)
        # A program that was not written for our framework may know only of bodies.
        self._large_by_name = processes.is_ours

    @property
    def kind(self) -> str:
        """`hpush://`, `hpull://` or `ws://`."""
        return self.message.communication

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://{self.port.host}:{self.port.port}"

    @property
    def hop(self) -> str:
        """The same for the stage before it, which knows no more than this."""
        return f"{self.url}?{KEY_PARAM}={self._key}"

    async def stop(self) -> int:
        """End its processes; the exit status."""
        self.port.close()
        if self.sockets is not None:
            self.sockets.close()
        return await self.processes.stop()

    # -- errors ----------------------------------------------------------------------------------------------------

    def note_error(self, error: ObjectError, job_id: str = "") -> None:
        """Keep an object's error for details: of inline calls, or of a job."""
        known = self._errors.setdefault(job_id, {})
        if len(known) < _ERRORS_KEPT:
            known[error] = None
        while len(self._errors) > _JOBS_KEPT:
            self._errors.popitem(last=False)

    def errors(self, job_id: str = "") -> list[ObjectError]:
        """Errors of inline calls, or of a job."""
        return list(self._errors.get(job_id, ()))

    # -- transforming ----------------------------------------------------------------------------------------------

    async def transform(self, store: Store, order: Order, source: Source) -> Answer:
        """What the transformer, and the stages behind it, make of an object. The caller closes the source when it has read the answer.

        Raises `TransformFailed`.
        """
        by_name = not order.fresh and (
            self._by_name or (self._large_by_name and source.size > _BY_FILE and source.in_file)
        )
        exposed = None
        if by_name:
            if not self.processes.running:  # its folder is being removed
                raise await self._failed(f"ETL {self.name} was stopped")
            # Without `ETL_DIRECT_FQN` the file is read by our framework, and by nobody else.
            link = self.processes.may_link or not self._by_name
            exposed = await source.expose(store, self.processes.objects, order.name, link=link)
        path = None if exposed is None else str(exposed)
        ask = self._over_http if self.sockets is None else self._over_socket
        try:
            answer = await ask(order, source, path)
        except TransformFailed:
            await self._check_content(order, source)
            raise
        if answer.whole:
            await self._check_content(order, source)
        else:
            answer.at_end = lambda: self._check_content(order, source)
        return answer

    async def _check_content(self, order: Order, source: Source) -> None:
        """Raise `TransformFailed` if the transformer has written into content; it ends, before it damages more."""
        if not source.is_damaged:
            return
        text = (
            f"ETL {self.name} has written into the file that it was to read: {order.bucket.object_cname(order.name)} "
            "is damaged, and so are copies of it (put them again); the ETL is ended"
        )
        logger.error("%s", text)
        failure = await self._failed(text)
        self.processes.end()
        raise failure

    async def _over_http(self, order: Order, source: Source, path: str | None) -> Answer:
        method, target, headers = self._request(order, path)
        by_value = path is None and method == "PUT"
        payload = source.payload if by_value else (lambda: BytesPayload(b"") if method == "PUT" else None)
        deadline = time.monotonic() + self.timeout
        pause, resets = _FIRST_PAUSE, 0
        for attempt in range(_RETRIES + 1):
            try:
                answer = await self.port.ask(method, target, headers, payload, max(0.001, deadline - time.monotonic()))
            except TookTooLong as error:
                raise await self._too_slow(method, target, error) from error
            except NoConnection as error:
                resets += error.sent
                if resets > _RESETS or not await self._may_try_again(attempt, pause, deadline):
                    raise await self._failed(str(error)) from error
            except BadAnswer as error:
                raise await self.broken(error) from error
            else:
                if not (answer.status == 503 and by_value and _is_transient(answer)) or attempt == _RETRIES:
                    return await self._judged(answer)
                answer.close()
                if not await self._may_try_again(attempt, pause, deadline):
                    return await self._judged(answer)
            pause = min(pause * 1.5, _PAUSE_MAX)
        raise await self._failed("no connection")

    async def _may_try_again(self, attempt: int, pause: float, deadline: float) -> bool:
        """Wait a while; False if there is no point in another attempt."""
        if attempt >= _RETRIES or not self.processes.running or time.monotonic() + pause >= deadline:
            return False
        await asyncio.wait([self.processes.ended], timeout=pause)
        return self.processes.running

    def _request(self, order: Order, path: str | None) -> tuple[str, str, list[tuple[str, str]]]:
        query = []
        if order.args:
            query.append(f"{param.ETL_ARGS}={quote(order.args, safe='')}")
        if path is not None:
            query.append(f"{FQN}={quote(quote(path, safe=''), safe='')}")
        if self.kind == "hpull://":
            method, target = "GET", f"/{quote(order.bucket.uname + order.name, safe='@')}"
            if order.fresh:
                query.append(f"{param.LATEST_VER}=true")
        else:
            method, target = "PUT", f"/{quote(order.bucket.name)}/{quote(order.name)}"
        headers = []
        if order.stages:
            headers.append((NODE_URL, ",".join(stage.hop for stage in order.stages)))
        return method, f"{target}?{'&'.join(query)}" if query else target, headers

    async def _over_socket(self, order: Order, source: Source, path: str | None) -> Answer:
        assert self.sockets is not None
        said: dict[str, str] = {}
        if order.stages:
            said[WS_PIPELINE] = ",".join(stage.hop for stage in order.stages)
        if order.args:
            said[WS_ARGS] = order.args
        if path is not None:
            said[WS_FQN] = quote(path, safe="")
        said[WS_PATH] = order.name
        content = None if path is not None else source.payload()
        try:
            return await self.sockets.ask(json.dumps(said).encode(), content, self.timeout, empty=not source.size)
        except TookTooLong as error:
            raise await self._too_slow("GET", "/ws", error) from error
        except NoConnection as error:
            raise await self._failed(str(error)) from error
        except BadAnswer as error:
            raise TransformFailed(500, f"ETL error: {error}") from error

    async def _judged(self, answer: Answer) -> Answer:
        if answer.status < _ERROR_STATUS:
            return answer
        answer.data = self.processes.without_secrets(
            answer.data
        )  # errors of HTTP libraries name the URL that they asked
        text = answer.data[:_ERROR_MAX].decode("utf-8", "replace")
        answer.close()
        raise TransformFailed(answer.status, f"ETL error: {text}", answer)

    # -- failures --------------------------------------------------------------------------------------------------

    async def _too_slow(self, method: str, target: str, error: Exception) -> TransformFailed:
        path = target.partition("?")[0]
        return await self._failed(
            f'{method.title()} "{self.url}{path}": context deadline exceeded (Client.Timeout exceeded while awaiting headers): '
            f"{error} within {self.message.obj_timeout}"
        )

    async def broken(self, error: BadAnswer | TookTooLong) -> TransformFailed:
        """The failure of an answer that was cut off after its head."""
        return await self._failed(f"the transformer's answer is broken: {error}")

    async def _failed(self, text: str) -> TransformFailed:
        """A failure of the transformer itself, with the end of what it printed."""
        await self.processes.heard()
        if not self.processes.running:
            text += f" (the transformer has ended with status {self.processes.ended.result()})"
        tail = self.processes.log_tail()
        return TransformFailed(400, f"{text}\nlog of ETL {self.name}:\n{tail}" if tail else text)


def _is_transient(answer: Answer) -> bool:
    return str(answer.headers.get(RETRY_REASON.lower(), "")) == DIRECT_PUT_TRANSIENT
