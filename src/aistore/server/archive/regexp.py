"""Regular expressions in time that is bounded by expression times text (RE2's syntax, as Go has it).

Expressions come from clients, and the standard library's engine can be made to take exponential time. This one answers only whether an
expression occurs in a text, which needs no backtracking: it follows all ways through the expression at once, and remembers where they lead.
"""

from __future__ import annotations

from typing import Final

from aistore.server.archive.regexp_syntax import (
    ANY,
    BEGIN_LINE,
    BEGIN_TEXT,
    CHARS,
    END_LINE,
    END_TEXT,
    MATCH,
    NO_WORD_BOUNDARY,
    SPLIT,
    WORD_BOUNDARY,
    compile_expression,
    is_word,
)
from aistore.wire.errors import ApiError

__all__ = ["Regexp"]

_REMEMBERED: Final = 1 << 15  # ways, with the states that they lead to
_States = frozenset[int]


class Regexp:
    """A compiled expression. Raises `ApiError` 400 if it is none."""

    def __init__(self, expression: str, remembered: int = _REMEMBERED, *, work: float = float("inf")) -> None:
        """`remembered` bounds what it keeps in mind of ways that it went, which is quicker than going them again.

        `work` bounds the instructions that it follows in all, and the ranges of characters that it compares: then `search` raises `ApiError` 400.
        """
        self._program, self._looks = compile_expression(expression)
        self._room = self._remembered = remembered
        self._work = work
        self._closed: dict[tuple[_States, int], _States | None] = {}
        self._steps: dict[tuple[_States, str], _States] = {}

    @property
    def size(self) -> int:
        """Number of its instructions."""
        return len(self._program)

    def search(self, text: str) -> bool:
        """Whether it matches anywhere in the text."""
        states: _States = frozenset((0,))
        here = 0
        for i in range(len(text) + 1):
            if self._looks:
                here = _surroundings(text, i)
            key = (states, here)
            try:
                closed = self._closed[key]
            except KeyError:
                closed = self._close(states, here)
                self._make_room(len(closed or ()))
                self._closed[key] = closed
            if closed is None:
                return True
            if i == len(text):
                break
            step = (closed, text[i])
            found = self._steps.get(step)
            if found is None:
                self._spend(sum([self._program[at].cost for at in closed]))
                found = self._step(closed, text[i])
                self._make_room(len(found))
                self._steps[step] = found
            states = found
        return False

    def _spend(self, work: int) -> None:
        self._work -= work
        if self._work < 0:
            raise ApiError(
                400, "the expression takes too much work: make it simpler (fewer repetitions and alternatives)"
            )

    def _make_room(self, states: int) -> None:
        """Forget all when it is too much: sets of thousands of states for thousands of characters would fill the memory."""
        self._room -= states + 1
        if self._room < 0:
            self._closed.clear()
            self._steps.clear()
            self._room = self._remembered

    def _close(self, states: _States, here: int) -> _States | None:
        """The states that are reached without reading; None if one of them is a match."""
        program = self._program
        seen: set[int] = set()
        todo = list(states)
        while todo:
            at = todo.pop()
            if at in seen:
                continue
            seen.add(at)
            instruction = program[at]
            if instruction.kind == MATCH:
                return None
            if instruction.kind == SPLIT:
                todo += instruction.targets
            elif instruction.kind not in (CHARS, ANY) and instruction.kind & here:
                todo.append(at + 1)
        self._spend(len(seen))
        return frozenset(at for at in seen if program[at].kind in (CHARS, ANY))

    def _step(self, states: _States, char: str) -> _States:
        program = self._program
        # A match may begin anywhere: every character is also the first of a new attempt.
        return frozenset((0, *(at + 1 for at in states if program[at].matches(char))))


def _surroundings(text: str, at: int) -> int:
    """Which assertions hold at a place."""
    before, after = text[at - 1 : at] if at else "", text[at : at + 1]
    here = WORD_BOUNDARY if is_word(before) != is_word(after) else NO_WORD_BOUNDARY
    if not before:
        here |= BEGIN_TEXT | BEGIN_LINE
    elif before == "\n":
        here |= BEGIN_LINE
    if not after:
        here |= END_TEXT | END_LINE
    elif after == "\n":
        here |= END_LINE
    return here
