"""Moving many objects or files at once: what is done next, what was done, and which failures end it.

A transfer plans batch by batch and acts on one item at a time; both are calls without I/O of their own, which a face drives with as many
threads or tasks as it likes. So what is held in memory is a page of a listing, a batch of items, and what the workers have in hand.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from aistore.sdk.transfer import Moved, Reason, TransferSummary

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.calls.steps import Steps

__all__ = ["BATCH", "Ahead", "Cursor", "Entry", "Failed", "Halt", "Stopped", "Tally", "Transfer", "noted", "reason_of"]

BATCH = 256
"""Items that are planned at a time."""

_REASONS_KEPT = 1000
_ENDS_ALL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE})
_ENDING_STATUS = (401, 507)

Item = TypeVar("Item")


class Stopped(Exception):
    """The transfer was stopped while this item was worked on; nobody needs to be told."""


class Failed(Exception):
    """An item cannot be moved, for a reason that is told in the summary."""


class Halt:
    """Tells everybody who works on a transfer that it is to end."""

    __slots__ = ("stopped",)

    def __init__(self) -> None:
        self.stopped = False

    def check(self) -> None:
        """Raise `Stopped` if it is to end."""
        if self.stopped:
            raise Stopped


class Entry(NamedTuple):
    """A file or an object at one end of a transfer; its name is the one below the folder or prefix."""

    name: str
    size: int = 0
    checksum: str = ""
    problem: str = ""
    """Why it is left out."""
    unknown: bool = False
    """A folder, with its slash, that cannot be looked into: nothing is known of what begins with its name."""


class Cursor(Protocol):
    """Entries of one end of a transfer in the order of their names."""

    def more(self) -> Steps[list[Entry]]:
        """The next ones; empty at the end."""
        ...


class Ahead:
    """Entries of a cursor, one at a time, the next of which can be looked at. Raises ValueError if they are out of order."""

    __slots__ = ("_cursor", "_ended", "_last", "_ready")

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._ready: deque[Entry] = deque()
        self._ended = False
        self._last = ""

    def peek(self) -> Steps[Entry | None]:
        """The next entry, which stays the next; None at the end."""
        while not self._ready:
            if self._ended:
                return None
            found = yield from self._cursor.more()
            self._ended = not found
            self._ready.extend(found)
        return self._ready[0]

    def take(self) -> None:
        """Go on behind the next entry."""
        name = self._ready.popleft().name
        if name < self._last:
            raise ValueError(f"the listing is not sorted: {name!r} comes behind {self._last!r}")
        self._last = name


class Tally:
    """Counts what was done; safe in threads."""

    def __init__(self, dry_run: bool, on_each: Callable[[Moved], object] | None) -> None:
        self._dry_run = dry_run
        self._on_each = on_each
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._began = time.monotonic()
        self.done = 0
        """Items that are through, however they ended."""
        self.bytes = 0
        self.callers: BaseException | None = None
        """What the caller's own function raised: no failure of an item."""
        self._moved = self._skipped = self._deleted = self._failed = 0
        self._how: dict[str, int] = {}
        self._failures: list[Reason] = []
        self._left_out: list[Reason] = []

    def moved(self, name: str, size: int, how: str) -> None:
        """Content of `size` bytes is where it belongs."""
        with self._lock:
            self.done += 1
            self._moved += 1
            self.bytes += size
            self._how[how] = self._how.get(how, 0) + 1
        self._tell("moved", name, size, how)

    def unchanged(self, name: str, size: int) -> None:
        """The same content is there already."""
        with self._lock:
            self.done += 1
            self._skipped += 1
        self._tell("unchanged", name, size, "")

    def left_out(self, name: str, reason: str) -> None:
        """It is nothing that is moved."""
        with self._lock:
            self.done += 1
            self._skipped += 1
            if len(self._left_out) < _REASONS_KEPT:
                self._left_out.append(Reason(name, reason))
        self._tell("skipped", name, 0, reason)

    def deleted(self, name: str) -> None:
        """It is gone from the destination."""
        with self._lock:
            self.done += 1
            self._deleted += 1
        self._tell("deleted", name, 0, "")

    def failed(self, name: str, reason: str) -> None:
        """It is not as it should be."""
        with self._lock:
            self.done += 1
            self._failed += 1
            if len(self._failures) < _REASONS_KEPT:
                self._failures.append(Reason(name, reason))
        self._tell("failed", name, 0, reason)

    def _tell(self, action: str, name: str, size: int, reason: str) -> None:
        if self._on_each is not None:
            with self._telling:  # a lock of its own: what a caller's function does must not hold up the counting
                try:
                    self._on_each(Moved(action, name, size, reason))
                except BaseException as error:
                    self.callers = error
                    raise

    def summary(self) -> TransferSummary:
        """What was done so far."""
        with self._lock:
            return TransferSummary(
                self._moved,
                self._skipped,
                self._deleted,
                self._failed,
                self.bytes,
                time.monotonic() - self._began,
                self._dry_run,
                dict(self._how),
                tuple(self._failures),
                tuple(self._left_out),
            )


class Transfer(Generic[Item]):
    """Many items that are moved."""

    title = "moving"
    """What a progress bar calls it."""

    def __init__(self, dry_run: bool, on_each: Callable[[Moved], object] | None) -> None:
        self.dry_run = dry_run
        self.tally = Tally(dry_run, on_each)
        self.halt = Halt()

    def plan(self) -> Steps[list[Item]]:
        """The next items, at most `BATCH`; empty at the end. Never called twice at a time."""
        raise NotImplementedError

    def act(self, item: Item) -> Steps[None]:
        """Move one item, and count it; many at a time."""
        raise NotImplementedError

    def failed(self, item: Item, error: Exception) -> None:
        """Count a failure; raises the error if going on makes no sense."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Remove what is half done and make sure that it never becomes whole; whoever works on it may have been left behind."""

    def close(self) -> None:
        """Let go of what was opened."""


def noted(error: BaseException, summary: TransferSummary) -> BaseException:
    """The error, which says how far the transfer came (shown with its traceback from Python 3.11 on; `summary` has it, too)."""
    notes = [*getattr(error, "__notes__", ()), f"done before: {summary!r}"]
    error.__dict__.update(summary=summary, __notes__=notes)
    return error


def reason_of(error: Exception) -> str | None:
    """What a failure of one item was, in a line; None for one that ends the whole transfer."""
    if isinstance(error, Failed):
        return str(error)
    from aistore.sdk.errors import APIRequestError, ErrBckNotFound, ErrRemoteBckNotFound
    from aistore.transport.errors import ConnectionRefused, ConnectTimeout, NameNotResolved, TransportError

    if isinstance(error, APIRequestError):
        if isinstance(error, (ErrBckNotFound, ErrRemoteBckNotFound)) or error.status_code in _ENDING_STATUS:
            return None
        return error.advice or error.detail
    if isinstance(error, TransportError):
        unreachable = isinstance(error, (ConnectionRefused, ConnectTimeout, NameNotResolved))
        return None if unreachable else str(error)
    if isinstance(error, OSError):
        return None if error.errno in _ENDS_ALL else error.strerror or str(error)
    return str(error) if isinstance(error, ValueError) else None
