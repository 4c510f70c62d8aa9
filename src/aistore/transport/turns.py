"""How many requests of an asyncio transport are under way at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import TypeAlias

__all__ = ["Holder", "Turns"]

PATIENCE: Final = 1.0
"""Seconds without a turn that came back, after which one more request is let in."""

if TYPE_CHECKING:
    Holder: TypeAlias = asyncio.Task[object] | None
    """The task that took a turn."""


class Turns:
    """At most `limit` requests at a time; the others wait in a line.

    Two rules keep requests that wait for each other from waiting for ever. A task that has a request under way never waits: it may be
    needed to end that one, as where a body is sent that is read from another answer. And when no turn comes back for a second, whoever came
    last is let in: what the earlier ones wait for may depend on it.
    """

    __slots__ = ("_entering", "_given", "_held", "_limit", "_line", "_taken", "_timer")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._given = 0
        self._entering = 0
        self._held: dict[Holder, int] = {}
        self._line: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Number of requests in the line, and of those that were let in a moment ago."""
        return len(self._line) + self._entering

    async def take(self) -> Holder:
        """Wait for a turn; returns what `give` wants."""
        task: Holder = asyncio.current_task()
        if self._taken >= self._limit and task not in self._held:
            await self._wait()
        else:
            self._taken += 1
        self._held[task] = self._held.get(task, 0) + 1
        return task

    def give(self, task: Holder) -> None:
        """Give a turn back."""
        if self._held[task] == 1:
            del self._held[task]
        else:
            self._held[task] -= 1
        self._free()

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._line.append(turn)
        if self._timer is None:
            self._timer = loop.call_later(PATIENCE, self._look, loop, self._given)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                # Let in and cancelled in the same moment.
                self._entering -= 1
                self._free()
            raise
        self._entering -= 1

    def _free(self) -> None:
        self._given += 1
        self._taken -= 1
        while self._line and self._taken < self._limit:
            self._let_in(self._line.popleft())

    def _let_in(self, turn: asyncio.Future[None]) -> None:
        if not turn.done():  # those that were cancelled stay in the line until they are met
            self._taken += 1
            self._entering += 1
            turn.set_result(None)

    def _look(self, loop: asyncio.AbstractEventLoop, given: int) -> None:
        self._timer = None
        while self._line and self._line[-1].done():
            self._line.pop()
        if not self._line:
            return
        if self._given == given:
            self._let_in(self._line.pop())
        self._timer = loop.call_later(PATIENCE, self._look, loop, self._given)
