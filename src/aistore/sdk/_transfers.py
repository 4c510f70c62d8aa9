"""Transfers by threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, TypeVar

from aistore.calls.progress import INTERVAL, bar_of
from aistore.calls.transfers import Stopped, noted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aistore.calls.progress import Bar
    from aistore.calls.steps import Steps
    from aistore.calls.transfers import Transfer
    from aistore.sdk.request_client import RequestClient
    from aistore.sdk.transfer import TransferSummary

__all__ = ["Side", "carry_out"]

Item = TypeVar("Item")

_GRACE_SECONDS = 2.0
"""How long workers may take to end what they have in hand when a transfer is stopped; a call that hangs is left behind then."""


def carry_out(client: RequestClient, transfer: Transfer[Item], workers: int, progress: bool | None) -> TransferSummary:
    """Do a transfer with so many threads. What raises, Ctrl-C too, says how far it came, and leaves nothing half done."""
    if type(workers) is not int or workers < 1:
        raise ValueError(f"workers must be a positive number, not {workers!r}")
    crew = _Crew(client, transfer)
    bar = bar_of(transfer.tally, transfer.title, progress)
    try:
        crew.work(workers, bar)
    except BaseException as error:
        transfer.halt.stopped = True
        crew.leave()
        raise noted(error, transfer.tally.summary())  # noqa: B904  it is the same error
    finally:
        if crew.idle:
            transfer.close()
        if bar is not None:
            bar.close()
    return transfer.tally.summary()


class _Crew(Generic[Item]):
    """Threads that take items from one line, which the one who finds it empty fills."""

    def __init__(self, client: RequestClient, transfer: Transfer[Item]) -> None:
        self._client = client
        self._transfer = transfer
        self._line: deque[Item] = deque()
        self._planning = threading.Lock()
        self._ended = False
        self._lock = threading.Lock()
        self._busy = 0
        self._over = threading.Event()
        self._error: BaseException | None = None

    @property
    def idle(self) -> bool:
        """Whether nobody works any more."""
        return not self._busy

    def work(self, workers: int, bar: Bar | None) -> None:
        """Do everything; raises the first error."""
        self._fill()
        count = min(workers, len(self._line))
        if not count:
            return
        self._busy = count
        started = 0
        try:
            for number in range(count):
                # Daemons: a call that hangs must not keep the process from ending.
                threading.Thread(target=self._loop, name=f"aistore-transfer-{number}", daemon=True).start()
                started += 1
        except BaseException:
            self._ended_one(count - started)
            raise
        while not self._over.wait(INTERVAL if bar is not None else None):
            assert bar is not None  # else it waits for the end
            bar.update()
        if self._error is not None:
            raise self._error

    def leave(self) -> None:
        """Wait for the workers for a while, then let them be."""
        deadline = time.monotonic() + _GRACE_SECONDS
        while self._busy and not self._over.wait(0.05) and time.monotonic() < deadline:
            pass
        self._transfer.abandon()

    def _fill(self) -> None:
        if not self._ended:
            items = self._client.run(self._transfer.plan())
            self._ended = not items
            self._line.extend(items)

    def _take(self) -> Item | None:
        while True:
            try:
                return self._line.popleft()
            except IndexError:
                with self._planning:
                    if not self._line:
                        if self._ended:
                            return None
                        self._fill()

    def _loop(self) -> None:
        transfer, run = self._transfer, self._client.run
        try:
            while not transfer.halt.stopped and (item := self._take()) is not None:
                try:
                    run(transfer.act(item))
                except Stopped:
                    break
                except Exception as error:
                    transfer.failed(item, error)
        except BaseException as error:
            with self._lock:
                if self._error is None and not transfer.halt.stopped:
                    self._error = error
            transfer.halt.stopped = True
        finally:
            self._ended_one()

    def _ended_one(self, count: int = 1) -> None:
        with self._lock:
            self._busy -= count
            if not self._busy:
                self._over.set()


class Side:
    """Does some calls side by side."""

    def __init__(self, client: RequestClient) -> None:
        self._run = client.run

    def __call__(self, calls: Sequence[Steps[None]], width: int) -> None:
        """All of them, at most `width` at a time; raises the first failure, once the others have ended."""
        with ThreadPoolExecutor(width, "aistore-part") as pool:
            futures = [pool.submit(self._run, call) for call in calls]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
