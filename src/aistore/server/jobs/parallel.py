"""Acting on many things, several at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["in_parallel"]

T = TypeVar("T")


async def in_parallel(things: AsyncIterator[T], workers: int, act: Callable[[T], Awaitable[None]]) -> None:
    """Have `act` done on each, by so many tasks; what it raises ends all."""
    turn = asyncio.Lock()

    async def work() -> None:
        while True:
            async with turn:
                try:
                    thing = await things.__anext__()
                except StopAsyncIteration:
                    return
            await act(thing)

    tasks = [asyncio.ensure_future(work()) for _ in range(workers)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
