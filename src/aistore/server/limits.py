"""The limits of a node, and how an operator changes them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

from aistore.http1.limits import Limits
from aistore.wire.values import parse_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["RANGES", "NodeLimits", "instead_of", "make_limits"]


@dataclass(frozen=True)
class NodeLimits(Limits):
    """What clients may take of a node."""

    jobs: int = 1024
    """Jobs that run at once; further ones are answered 429."""
    batches: int = 256
    """Batches (GetBatch) that are answered at once; further ones are answered 429."""
    grace: float = 10.0
    """How long requests that are under way may take when the server is told to stop."""


RANGES: Final[dict[str, tuple[int, int]]] = {
    "connections": (16, 1_000_000),
    "per_address": (1, 1_000_000),
    "head": (1, 3600),
    "idle": (1, 86_400),
    "body": (1, 3600),
    "write": (1, 3600),
    "rate": (1, 1 << 30),
    "linger": (0, 60),
    "max_body": (1 << 20, 1 << 60),
    "memory": (16 << 20, 1 << 50),
    "unread": (32 << 20, 1 << 50),
    "jobs": (1, 10_000),
    "batches": (1, 10_000),
    "grace": (0, 3600),
}
"""Least and greatest value of each."""
_SIZES: Final = ("rate", "max_body", "memory", "unread")


def make_limits(values: Mapping[str, object], base: NodeLimits | None = None) -> NodeLimits:
    """Limits with some values changed; sizes may be written as `512MiB`. Raises `ValueError`, whose text begins with the name."""
    kinds = {field.name: type(field.default) for field in fields(NodeLimits)}
    changed: dict[str, int | float] = {
        field.name: getattr(base, field.name) for field in fields(NodeLimits) if base is not None
    }
    for name, value in values.items():
        if name not in kinds:
            raise ValueError(f"{name}: there is no such limit{instead_of(name, kinds)}")
        changed[name] = _number(name, value, kinds[name])
    return NodeLimits(**changed)  # type: ignore[arg-type]  # each is of its field's kind


def instead_of(name: str, known: Iterable[str]) -> str:
    """How a message ends that refuses `name`: with the one that was probably meant, else with all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {near[0]!r}?" if near else f" (there are {', '.join(names)})"


def _number(name: str, value: object, kind: type[object]) -> int | float:
    number = value
    if name in _SIZES and isinstance(value, str):
        try:
            number = parse_size(value, decimal=True)
        except ValueError:
            raise ValueError(f"{name} = {value!r} is not a size; write for example 512MiB") from None
    wanted = (int, float) if kind is float else (int,)
    if isinstance(number, bool) or not isinstance(number, wanted):
        what = "a number of seconds" if kind is float else "a size" if name in _SIZES else "a whole number"
        raise ValueError(f"{name} = {value!r} is not {what}")  # noqa: TRY004 (of a value in a file, not of a program)
    low, high = RANGES[name]
    assert isinstance(number, (int, float))
    if not low <= number <= high:  # also what is not a number
        raise ValueError(f"{name} = {value!r} is not between {low} and {high}")
    return number
