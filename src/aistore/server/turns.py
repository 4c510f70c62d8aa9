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

    async def next(self) -> None:
        """Wait for the turn; what is done then takes some milliseconds at most."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            loop.call_soon(self._grant)
        await turn

    def _grant(self) -> None:
        while self._waiting[0].done():  # given up
            self._waiting.popleft()
            if not self._waiting:
                return
        self._waiting.popleft().set_result(None)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._grant)
