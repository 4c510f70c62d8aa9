"""What a scrub tells: problems, what would mend each of them, and how far it is."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.server.store.catalog import Transaction

__all__ = ["Findings", "FindingsDocument", "Pace", "Problem", "ScrubStopped"]

_SHOWN_MAX: Final = 1000
_TURN: Final = 0.02  # seconds of work between two looks at the clock's bill
_REST_MAX: Final = 0.5


class ScrubStopped(Exception):
    """Somebody wants the scrub to end; what it has mended by then is mended."""


class Problem(NamedTuple):
    """Something that is not as it should be."""

    kind: str
    """One of a few words, for programs: `content-damaged`, `content-missing`, `orphan`, `count`, ..."""
    where: str
    """The object, bucket or file."""
    text: str
    """What is wrong."""
    remedy: str = ""
    """What repair does about it; empty where nothing can be done here."""
    fix: Callable[[Transaction], object] | None = None
    """The change that does it; it looks once more whether the problem is still there."""
    before: Callable[[], object] | None = None
    """What is done first: bytes that the change drops are put aside."""
    after: Callable[[], object] | None = None
    """What is done once the change is committed, or without one: files moved or removed."""
    contained: bool = False
    """Whether repair only keeps the damage from doing harm: what was lost stays lost."""


State = Literal["found", "repaired", "contained"]
"""What was done about a problem."""


class ProblemDocument(TypedDict):
    """A problem, for JSON."""

    kind: str
    where: str
    text: str
    remedy: str
    state: State


class FindingsDocument(TypedDict):
    """The findings, for JSON."""

    mode: str
    repair: bool
    finished: bool
    seconds: float
    objects: int
    bytes: int
    unverifiable: dict[str, int]
    found: dict[str, int]
    unrepaired: int
    problems: list[ProblemDocument]
    notes: list[str]


@dataclass
class Findings:
    """What came out so far."""

    full: bool
    repair: bool
    objects: int = 0
    """Objects looked at."""
    bytes: int = 0
    """Bytes of content read."""
    unverifiable: int = 0
    """Objects without a checksum: only their size could be compared."""
    unverifiable_bytes: int = 0
    found: Counter[str] = field(default_factory=Counter)
    """Problems by kind."""
    unrepaired: int = 0
    """Problems that are still there: content that is lost stays one, also when it answers an error."""
    problems: list[tuple[Problem, State]] = field(default_factory=list)
    """The first ones, and what was done about each."""
    notes: list[str] = field(default_factory=list)
    """What is no problem, but worth knowing."""
    finished: bool = False
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def add(self, problem: Problem, state: State) -> None:
        """Count a problem."""
        self.found[problem.kind] += 1
        if state != "repaired":
            self.unrepaired += 1
        if len(self.problems) < _SHOWN_MAX:
            self.problems.append((problem, state))

    def end(self) -> None:
        """All was looked at."""
        self.finished = True
        self.seconds = time.monotonic() - self.started

    def document(self) -> FindingsDocument:
        """All of it, for JSON."""
        return {
            "mode": "full" if self.full else "quick",
            "repair": self.repair,
            "finished": self.finished,
            "seconds": round(self.seconds or time.monotonic() - self.started, 3),
            "objects": self.objects,
            "bytes": self.bytes,
            "unverifiable": {"objects": self.unverifiable, "bytes": self.unverifiable_bytes},
            "found": dict(self.found),
            "unrepaired": self.unrepaired,
            "problems": [
                {"kind": one.kind, "where": one.where, "text": one.text, "remedy": one.remedy, "state": state}
                for one, state in self.problems
            ],
            "notes": self.notes,
        }


class Pace:
    """How hard a scrub may work, and whether it is to stop.

    `share` of one core's time at most, and `rate` bytes of content a second (0: as fast as it goes).
    """

    def __init__(self, share: float = 1.0, rate: int = 0, wait: Callable[[float], bool] | None = None) -> None:
        self._share = share
        self._rate = rate
        self._wait = wait or _sleep
        self._turn = time.monotonic()
        self._read = 0

    def step(self, size: int = 0) -> None:
        """So many bytes were read. Rests, if that is due. Raises `ScrubStopped`."""
        self._read += size
        now = time.monotonic()
        worked = now - self._turn
        if worked < _TURN and not (self._rate and self._read > self._rate * _TURN):
            return
        rest = worked * (1 / self._share - 1)
        if self._rate:
            rest = max(rest, self._read / self._rate - worked)
        self._read = 0
        while True:
            if self._wait(min(rest, _REST_MAX)):
                raise ScrubStopped
            rest -= _REST_MAX
            if rest <= 0:
                break
        self._turn = time.monotonic()


def _sleep(seconds: float) -> bool:
    if seconds > 0:
        time.sleep(seconds)
    return False
