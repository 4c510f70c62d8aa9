"""Syncs: what is at one end of a transfer only, and what differs.

Both ends are gone through in the order of their names, a page at a time, so that neither of them is held. What has the same size and
checksum at both ends is left as it is: the checksum is that of the listing, and of a local file it is computed. An object without
checksum, or with one of another type, counts as changed. `sync_kinds` says what the ends are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aistore.calls.transfers import BATCH, Ahead, Entry, Failed, Transfer, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.calls.steps import Steps
    from aistore.calls.transfers import Cursor
    from aistore.sdk.transfer import Moved

__all__ = ["Choice", "Pair", "Sync"]


class Choice(NamedTuple):
    """What is synced, and how."""

    prefix: str = ""
    """What stands in front of the names in the bucket."""
    other_prefix: str = ""
    """The same in another bucket."""
    pattern: str = "*"
    """What the last part of a name matches, as in a shell."""
    delete: bool = False
    """Remove at the destination what the source has no more."""
    dry_run: bool = False
    on_each: Callable[[Moved], object] | None = None


class Pair(NamedTuple):
    """What there is of one name at the source, and at the destination."""

    name: str
    source: Entry | None
    there: Entry | None
    blocked: str = ""
    """Why it cannot be moved."""


class Sync(Transfer[Pair]):
    """Makes one end like the other."""

    title = "sync"

    def __init__(self, choice: Choice) -> None:
        super().__init__(choice.dry_run, choice.on_each)
        self._choice = choice
        self._source: Ahead | None = None
        self._there: Ahead | None = None
        self._unknown: tuple[str, ...] = ()

    def _cursors(self) -> Steps[tuple[Cursor, Cursor]]:
        """Source and destination, opened."""
        raise NotImplementedError

    def plan(self) -> Steps[list[Pair]]:
        if self._source is None or self._there is None:
            source, there = yield from self._cursors()
            self._source, self._there = Ahead(source), Ahead(there)
        pairs: list[Pair] = []
        while len(pairs) < BATCH:
            pair = yield from self._next(self._source, self._there)
            if pair is None:
                break
            if not self._settled(pair):
                pairs.append(pair)
        return pairs

    def _next(self, source: Ahead, there: Ahead) -> Steps[Pair | None]:
        a = yield from source.peek()
        b = yield from there.peek()
        if a is None and b is None:
            return None
        if b is None or (a is not None and a.name <= b.name):
            assert a is not None  # one of them is something
            source.take()
            if b is None or a.name != b.name:
                return Pair(a.name, a, None)
            there.take()
            return Pair(a.name, a, b)
        there.take()
        return Pair(b.name, None, b)

    def _settled(self, pair: Pair) -> bool:
        """Whether nothing has to be done, which is counted."""
        source, there = pair.source, pair.there
        if source is not None and source.problem:
            if source.unknown:
                self._unknown = (*self._unknown, source.name)
                self.tally.failed(source.name, source.problem)
            else:
                self.tally.left_out(source.name, source.problem)
            return True
        if source is None and there is not None:
            if there.problem:
                if self._choice.delete:
                    self.tally.left_out(there.name, f"not deleted: {there.problem}")
                return True
            return not self._choice.delete or there.name.startswith(self._unknown)
        return False

    def act(self, item: Pair) -> Steps[None]:
        self.halt.check()
        if item.blocked:
            raise Failed(item.blocked)
        if item.source is None:
            if not self.dry_run:
                yield from self._delete(item.name)
            self.tally.deleted(item.name)
            return
        if item.there is not None:
            if item.there.problem:
                raise Failed(f"at the destination it is {item.there.problem}")
            if (yield from self._same(item.name, item.source, item.there)):
                self.tally.unchanged(item.name, item.source.size)
                return
        how, size = self._how(item.source), item.source.size
        if not self.dry_run:
            how, size = yield from self._move(item.name, item.source, replaces=item.there is not None)
        self.tally.moved(item.name, size, how)

    def _same(self, name: str, source: Entry, there: Entry) -> Steps[bool]:
        """Whether both ends have the same content."""
        raise NotImplementedError

    def _move(self, name: str, source: Entry, *, replaces: bool) -> Steps[tuple[str, int]]:
        """Move content; how, and how many bytes."""
        raise NotImplementedError

    def _how(self, source: Entry) -> str:
        """How it would be moved."""
        raise NotImplementedError

    def _delete(self, name: str) -> Steps[None]:
        """Remove something at the destination."""
        raise NotImplementedError

    def failed(self, item: Pair, error: Exception) -> None:
        reason = None if error is self.tally.callers else reason_of(error)
        if reason is None:
            raise error
        self.tally.failed(item.name, reason)
