"""The asyncio face seen as the blocking one, so that both keep the same promises in the same tests."""

from __future__ import annotations

import gc
import inspect
from typing import TYPE_CHECKING, Any

from aistore import AsyncClient
from answering import attempts_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from peer import Peer


class Face:
    """An asyncio object whose coroutines are run to their end, and whose asynchronous iterators are plain ones."""

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.inner = inner
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        if name == "props":
            return self.head()
        value = getattr(self.inner, name)
        if not callable(value):
            return self._result(value)
        if name == "get_reader":
            return self._get_reader
        return lambda *arguments, **named: self._result(
            value(*map(_inner, arguments), **{name: _inner(argument) for name, argument in named.items()})
        )

    def _get_reader(self, *arguments: Any, writer: Any = None, **named: Any) -> Any:
        reader = self._result(self.inner.get_reader(*arguments, **named))
        if writer is not None:
            reader.copy_to(writer)
        return reader

    def _result(self, value: Any) -> Any:
        if inspect.isawaitable(value):
            value = self._loop.run_until_complete(value)
        if hasattr(value, "__anext__"):
            return self._items(value)
        if type(value).__module__.startswith(("aistore.aio", "aistore.transport.aio")):
            return Face(value, self._loop)
        return value

    def _items(self, iterator: Any) -> Iterator[Any]:
        while True:
            try:
                item = self._loop.run_until_complete(anext(iterator))
            except StopAsyncIteration:
                return
            yield self._result(item)

    def __iter__(self) -> Iterator[Any]:
        return self._items(aiter(self.inner))

    def __enter__(self) -> Face:
        self._loop.run_until_complete(self.inner.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.run_until_complete(self.inner.__aexit__(*error))

    def __repr__(self) -> str:
        return repr(self.inner)


def _inner(argument: Any) -> Any:
    """What an asyncio call is given for a face."""
    return argument.inner if isinstance(argument, Face) else argument


class Faces:
    """Makes faces of asyncio clients on one loop, and closes them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._made: list[AsyncClient] = []
        gc.freeze()  # so that collecting what a test leaves takes no time

    def client(self, url: str, **options: Any) -> Any:
        self._made.append(AsyncClient(url, **options))
        return Face(self._made[-1], self._loop)

    def client_of(self, peer: Peer, attempts: int = 1) -> Any:
        """As `answering.client_of`."""
        return self.client(peer.url, retry_config=attempts_of(attempts), timeout=5)

    def close(self) -> None:
        # Caught errors hold on to half-read answers in circles, whose connections must end before the loop does.
        gc.collect()
        gc.unfreeze()
        for client in self._made:
            self._loop.run_until_complete(client.close())
