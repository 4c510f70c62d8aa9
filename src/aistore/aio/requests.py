"""The one place where the asyncio face meets the network."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar, cast

from aistore.aio.threads import in_thread
from aistore.calls.steps import Do, Local, Sleep
from aistore.sdk._settings import as_timeout
from aistore.transport.aio import AsyncTransport
from aistore.transport.request import Request
from aistore.transport.url import base_url

if TYPE_CHECKING:
    from aistore.calls.steps import Answer, Steps
    from aistore.sdk._settings import Settings
    from aistore.sdk.types import Smap
    from aistore.transport.aio import AsyncResponse
    from aistore.transport.retry import RetryRules
    from aistore.transport.tls import TlsConfig

__all__ = ["AsyncRequestClient"]

T = TypeVar("T")


class AsyncRequestClient:
    """Sends requests to one cluster and raises what its refusals mean, on one event loop of one process.

    Pickles, without its connections.
    """

    __slots__ = ("_base_url", "_finding", "_settings", "_smap", "_transport")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._smap: Smap | None = None
        self._finding = asyncio.Lock()
        self._transport: AsyncTransport | None = None
        self._base_url = ""
        if not self.is_local:
            self._connect(settings.endpoint, settings.session_manager.tls)

    def _connect(self, endpoint: str, tls: TlsConfig) -> AsyncTransport:
        settings = self._settings
        self._base_url = base_url(endpoint)
        self._transport = AsyncTransport(
            endpoint,
            timeout=as_timeout(settings.timeout),
            retry=cast("RetryRules | None", settings.retry_config),
            token=settings.token or None,
            tls=tls,
            pool_size=settings.session_manager.max_pool_size,
        )
        return self._transport

    @property
    def endpoint(self) -> str:
        """As it was given."""
        return self._settings.endpoint

    @property
    def is_local(self) -> bool:
        """Whether the endpoint names a data folder, whose server is found or started by the first request."""
        return self._settings.endpoint.startswith("local:")

    @property
    def base_url(self) -> str:
        """What the paths of calls are below: `http://host:port/v1`. RuntimeError while the server of a data folder is not known."""
        if not self._base_url:
            raise RuntimeError(
                f"the server of {self.endpoint} is not known yet: use `async with` for the client, or await a call first"
            )
        return self._base_url

    async def transport(self) -> AsyncTransport:
        """The transport; the server of a data folder is found or started first."""
        if self._transport is not None:
            return self._transport
        async with self._finding:
            if self._transport is None:
                from aistore.local import resolve, trust

                loop = asyncio.get_running_loop()
                url = await loop.run_in_executor(None, resolve, self.endpoint)
                return self._connect(url, trust(self.endpoint, url, self._settings.session_manager.tls))
            return self._transport

    @property
    def token(self) -> str | None:
        """What authorizes the requests; empty or None for nothing."""
        known = self._transport.token if self._transport is not None else ""
        return known or (None if self._settings.token is None else "")

    @token.setter
    def token(self, token: str | None) -> None:
        self._settings = self._settings._replace(token=token)
        if self._transport is not None:
            self._transport.token = token

    async def fetch(self, request: Request) -> AsyncResponse:
        """The good answer to a request; raises the error that another one means."""
        transport = self._transport or await self.transport()
        answer = await transport.exchange(request)
        if 200 <= answer.status < 400:
            return answer
        if self._settings.response_handler is not None:
            from aistore.sdk._response import Response

            raise self._settings.response_handler.parse_error(Response(answer))
        from aistore.calls.judge import error_of

        raise error_of(answer)

    async def run(self, steps: Steps[T]) -> T:
        """Do what a call wants done, until it returns."""
        try:
            effect = next(steps)
            while True:
                try:
                    answer: object = None
                    if type(effect) is Request:
                        answer = await self.fetch(effect)
                    elif type(effect) is Sleep:
                        await asyncio.sleep(effect.seconds)
                    elif type(effect) is Local:
                        answer = await in_thread(effect.function, *effect.arguments)
                    else:
                        assert isinstance(effect, Do)
                        answer = await effect.function(*effect.arguments)  # type: ignore[misc]  # coroutine functions in this face
                except BaseException as error:  # the call decides what it means, and cleans up
                    effect = steps.throw(error)
                else:
                    effect = steps.send(cast("Answer", answer))
        except StopIteration as done:
            result: T = done.value
            return result

    async def get_smap(self, force_update: bool = False) -> Smap:
        """The cluster map, fetched once unless an update is forced."""
        if self._smap is None or force_update:
            from aistore.calls.cluster import smap

            self._smap = await self.run(smap())
        return self._smap

    async def close(self) -> None:
        """Close the idle connections."""
        if self._transport is not None:
            await self._transport.close()

    def __reduce__(self) -> tuple[object, ...]:
        return AsyncRequestClient, (self._settings,)

    def __repr__(self) -> str:
        return f"<AsyncRequestClient {self._base_url or self.endpoint}>"
