"""Transfers by asyncio tasks."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from aistore.calls.progress import INTERVAL, bar_of
from aistore.calls.transfers import Stopped, noted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aistore.aio.requests import AsyncRequestClient
    from aistore.calls.progress import Bar
    from aistore.calls.steps import Steps
    from aistore.calls.transfers import Transfer
    from aistore.sdk.transfer import TransferSummary

__all__ = ["Side", "carry_out"]

Item = TypeVar("Item")


async def carry_out(
    client: AsyncRequestClient, transfer: Transfer[Item], workers: int, progress: bool | None
) -> TransferSummary:
    """Do a transfer with so many tasks. What raises, a cancellation too, says how far it came, and leaves nothing half done."""
    if type(workers) is not int or workers < 1:
        raise ValueError(f"workers must be a positive number, not {workers!r}")
    bar = bar_of(transfer.tally, transfer.title, progress)
    showing = asyncio.ensure_future(_show(bar)) if bar is not None else None
    try:
        await _work(client, transfer, workers)
    except BaseException as error:
        raise noted(error, transfer.tally.summary())  # noqa: B904  it is the same error
    finally:
        transfer.close()
        if bar is not None and showing is not None:
            showing.cancel()
            bar.close()
    return transfer.tally.summary()


async def _show(bar: Bar) -> None:
    while True:
        await asyncio.sleep(INTERVAL)
        bar.update()


async def _work(client: AsyncRequestClient, transfer: Transfer[Item], workers: int) -> None:
    line: deque[Item] = deque(await client.run(transfer.plan()))
    ended = not line
    planning = asyncio.Lock()

    async def take() -> Item | None:
        nonlocal ended
        while not line:
            async with planning:
                if not line:
                    if ended:
                        return None
                    items = await client.run(transfer.plan())
                    ended = not items
                    line.extend(items)
        return line.popleft()

    async def loop() -> None:
        while (item := await take()) is not None:
            try:
                await client.run(transfer.act(item))
            except Stopped:
                return
            except Exception as error:
                transfer.failed(item, error)

    await _together([asyncio.ensure_future(loop()) for _ in range(min(workers, len(line)))], transfer)


async def _together(tasks: list[asyncio.Future[None]], transfer: Transfer[Item] | None) -> None:
    """Wait for all; when one fails, or this is cancelled, end the others first."""
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        if transfer is not None:
            transfer.halt.stopped = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


class Side:
    """Does some calls side by side."""

    def __init__(self, client: AsyncRequestClient) -> None:
        self._run = client.run

    async def __call__(self, calls: Sequence[Steps[None]], width: int) -> None:
        """All of them, at most `width` at a time; raises the first failure, once the others have ended."""
        waiting = iter(calls)

        async def loop() -> None:
            for call in waiting:
                await self._run(call)

        await _together([asyncio.ensure_future(loop()) for _ in range(width)], None)
