"""Objects by number."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aistore.sdk.multiobj.object_collection import ObjectCollection

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ObjectRange"]

_TEXT = re.compile(r"(?P<prefix>.*)\{(?P<first>\d+)\.\.(?P<last>\d+)(?:\.\.(?P<step>\d+))?\}(?P<suffix>.*)", re.DOTALL)


class ObjectRange(ObjectCollection):
    """The objects `prefix`, number, `suffix`, for the numbers from `min_index` to `max_index` (included) in steps of `step`.

    Numbers are padded with zeros to `pad_width`. Without indices the range stands for all names with the prefix.
    Raises `InvalidObjectRangeIndex` for indices that make no range, ValueError for a suffix without indices.
    """

    def __init__(
        self,
        prefix: str,
        min_index: int | None = None,
        max_index: int | None = None,
        pad_width: int = 0,
        step: int = 1,
        suffix: str = "",
    ) -> None:
        if min_index is None or max_index is None:
            if min_index is not max_index:
                _refuse("Provide both min_index and max_index or neither")
            if suffix:
                raise ValueError("Suffix cannot be used without indices")
        else:
            if min_index >= max_index:
                _refuse(f"{min_index} must be less than {max_index}")
            if pad_width and len(str(min_index)) > pad_width:
                _refuse(f"Number of digits in min index {min_index} must not be greater than pad width {pad_width}")
        if step < 1:
            raise ValueError(f"step must be positive, not {step}")
        self._prefix = prefix
        self._min = min_index
        self._max = max_index
        self._pad = pad_width
        self._step = step
        self._suffix = suffix

    @classmethod
    def from_string(cls, range_string: str) -> ObjectRange:
        """The range that a text like `input-{00..99..1}.txt` describes; raises ValueError if it describes none."""
        found = _TEXT.fullmatch(range_string)
        if found is None:
            raise ValueError(f"Invalid range string format: {range_string}")
        first = found["first"]
        return cls(
            found["prefix"], int(first), int(found["last"]), len(first), int(found["step"] or 1), found["suffix"]
        )

    def get_value(self) -> dict[str, object]:
        """How requests describe the selection."""
        return {"template": str(self)}

    def __iter__(self) -> Iterator[str]:
        if self._min is None or self._max is None:
            raise RuntimeError("Cannot iterate over object range with no indices")
        for index in range(self._min, self._max + 1, self._step):
            yield f"{self._prefix}{index:0{self._pad}d}{self._suffix}"

    def __str__(self) -> str:
        if self._min is None:
            return self._prefix
        return f"{self._prefix}{{{self._min:0{self._pad}d}..{self._max:0{self._pad}d}..{self._step}}}{self._suffix}"

    def __repr__(self) -> str:
        return f"ObjectRange.from_string({str(self)!r})"


def _refuse(why: str) -> None:
    from aistore.sdk.errors import InvalidObjectRangeIndex

    raise InvalidObjectRangeIndex(why)
