"""A progress bar for calls that take a while."""

from __future__ import annotations

import sys
from typing import Protocol

__all__ = ["INTERVAL", "Bar", "bar_of"]

INTERVAL = 0.1
"""Seconds between two looks at what is done."""

_DELAY = 1.0


class Counted(Protocol):
    """Work that counts."""

    done: int
    """Items that are through."""
    bytes: int
    """Bytes that were moved."""


class Bar:
    """Shows how many items are through, and how many bytes were moved."""

    def __init__(self, tally: Counted, title: str, delay: float, unit: str) -> None:
        from tqdm import tqdm

        self._tally = tally
        self._bar = tqdm(desc=title, unit=unit, delay=delay, mininterval=INTERVAL, dynamic_ncols=True)

    def update(self) -> None:
        """Show what is done now."""
        done = self._tally.done
        if done != self._bar.n:
            self._bar.set_postfix_str(f"{self._tally.bytes / 1e6:,.1f} MB", refresh=False)
            self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Show the end."""
        self.update()
        self._bar.close()


def bar_of(tally: Counted, title: str, progress: bool | None, unit: str = " names") -> Bar | None:
    """The bar that a call wants: with None one on a terminal, for work over a second."""
    if progress is False or (progress is None and not sys.stderr.isatty()):
        return None
    return Bar(tally, title, 0.0 if progress else _DELAY, unit)
