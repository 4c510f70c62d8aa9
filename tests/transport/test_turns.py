"""`Turns`: a bound on requests under way that never leaves anybody waiting for ever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from aistore.transport import turns as module
from aistore.transport.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import pytest

T = TypeVar("T")


def run(work: Coroutine[object, object, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 20), debug=True)


def test_so_many_at_a_time() -> None:
    async def work() -> None:
        turns, under_way, most = Turns(3), 0, 0

        async def request() -> None:
            nonlocal under_way, most
            turn = await turns.take()
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1
            turns.give(turn)

        await asyncio.gather(*(request() for _ in range(50)))
        assert (most, turns.waiting) == (3, 0)

    run(work())


def test_who_comes_first_is_let_in_first() -> None:
    async def work() -> None:
        turns, order = Turns(1), []
        first = await turns.take()

        async def request(number: int) -> None:
            turn = await turns.take()
            order.append(number)
            turns.give(turn)

        tasks = [asyncio.create_task(request(number)) for number in range(5)]
        await asyncio.sleep(0)
        turns.give(first)
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3, 4]

    run(work())


def test_a_task_that_has_a_turn_takes_another_at_once() -> None:
    async def work() -> None:
        turns = Turns(5)

        async def nested(depth: int) -> None:
            turn = await turns.take()
            await asyncio.sleep(0)
            if depth:
                await nested(depth - 1)
            turns.give(turn)

        await asyncio.gather(*(nested(3) for _ in range(40)))
        assert turns.waiting == 0

    run(work())


def test_the_last_one_is_let_in_when_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.02)

    async def work() -> None:
        turns = Turns(2)

        async def needs_another() -> None:
            turn = await turns.take()
            await asyncio.create_task(needed())
            turns.give(turn)

        async def needed() -> None:
            turns.give(await turns.take())

        await asyncio.gather(*(needs_another() for _ in range(30)))
        assert turns.waiting == 0

    run(work())


def test_who_gives_up_leaves_the_line() -> None:
    async def work() -> None:
        turns = Turns(1)
        first = await turns.take()

        async def request() -> None:
            turns.give(await turns.take())

        tasks = [asyncio.create_task(request()) for _ in range(4)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[3].cancel()
        await asyncio.sleep(0)
        turns.give(first)
        # Let in, and cancelled before it could notice: the turn goes on to the next.
        tasks[1].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [
            asyncio.CancelledError,
            asyncio.CancelledError,
            type(None),
            asyncio.CancelledError,
        ]
        turns.give(await turns.take())
        assert turns.waiting == 0

    run(work())
