"""Idle connections, kept for the next request to the same origin."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aistore.http1.blocking import BlockingConnection
    from aistore.transport.url import Origin

__all__ = ["Pool"]


class Pool:
    """At most `size` idle connections for each origin, the last used first.

    It never makes anybody wait: who finds none opens one, and what comes back to a full pool is closed. Threads share it without a
    lock (a deque's ends are atomic). It belongs to one process: after a fork the child drops its copies of the parent's sockets, which
    closes descriptors but says nothing on the wire.
    """

    __slots__ = ("_idle", "_pid", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._idle: dict[Origin, deque[BlockingConnection]] = {}
        self._pid = os.getpid()

    def take(self, origin: Origin) -> BlockingConnection | None:
        """The connection to `origin` that was used last, or None."""
        if self._pid != os.getpid():
            self._drop_inherited()
        idle = self._idle.get(origin)
        if idle is None:
            return None
        try:
            return idle.pop()
        except IndexError:
            return None

    def give(self, origin: Origin, connection: BlockingConnection) -> None:
        """Take back a connection; it is closed unless it can be used again, belongs to this process, and there is room."""
        if not connection.reusable or connection.pid != self._pid:
            connection.close()
            return
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle.setdefault(origin, deque())
        idle.append(connection)
        while len(idle) > self.size:
            try:
                idle.popleft().close()
            except IndexError:
                break

    def close(self) -> None:
        """Close every idle connection; the pool stays usable."""
        idle, self._idle = self._idle, {}
        for connections in idle.values():
            while True:
                try:
                    connections.pop().close()
                except IndexError:
                    break

    def _drop_inherited(self) -> None:
        # In this order: another thread of the child must not find the parent's connections in a pool that says it is the child's.
        self.close()
        self._pid = os.getpid()

    def __repr__(self) -> str:
        idle = ", ".join(f"{origin}: {len(connections)}" for origin, connections in self._idle.items() if connections)
        return f"<Pool pid {self._pid}, idle {idle or 'none'}, at most {self.size} each>"
