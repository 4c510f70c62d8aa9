"""Turns on the loop for work that takes long and comes from many requests."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Turns"]


class Turns:
    """One step of one request in each pass of the loop, in the order in which they were asked for.

    However many requests for long work there are, short ones wait for one step of it, and not for one of each.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = False  # somebody has the turn of this pass

    async def next(self) -> None:
        """Wait for the turn; what is done then takes some milliseconds at most."""
        loop = asyncio.get_running_loop()
        if not self._taken:
            self._taken = True
            loop.call_soon(self._go_on)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _go_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # not given up
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._go_on)
                return
        self._taken = False
