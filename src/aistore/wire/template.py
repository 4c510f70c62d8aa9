"""Range templates that select objects: brace, at and printf ranges, and prefixes (protocol/10 22.1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from aistore.wire.errors import ApiError
from aistore.wire.names import check_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator

# The protocol has no limit; a request that names more than this is taken for a mistake.
MAX_NAMES = 10_000_000

_MAX = (1 << 63) - 1
# Names have at most 1 KiB between slashes; a template that is longer than this has so many ranges that its names would fill the memory.
_TEXT_MAX = 16 << 10
_GROUP = re.compile(r"([^{}]*)\{([^{}]*)\}")
_FMT = re.compile(r"%(?:0([1-9][0-9]?))?d", re.ASCII)
_DIGITS = re.compile(r"[0-9]*", re.ASCII)


class IndexRange(NamedTuple):
    """Numbers from `start` to `end`, inclusive, padded with zeros to `width`."""

    start: int
    end: int
    step: int
    width: int

    @property
    def total(self) -> int:
        """How many numbers; more than `len` can tell, perhaps."""
        return (self.end - self.start) // self.step + 1

    def texts(self) -> Iterator[str]:
        width = self.width
        return (f"{number:0{width}d}" for number in range(self.start, self.end + 1, self.step))


class Template(NamedTuple):
    """A parsed template. Without ranges it selects by prefix, which is `literals[0]`; empty means everything."""

    literals: tuple[str, ...]
    ranges: tuple[IndexRange, ...] = ()

    @property
    def prefix(self) -> str | None:
        """The prefix it selects by, None when it names its objects."""
        return None if self.ranges else self.literals[0]

    def names(self) -> Iterator[str]:
        """Every name of a template with ranges, one at a time, the last range varying fastest."""
        begun, open_ranges = [self.literals[0]], [self.ranges[0].texts()]
        while open_ranges:
            text = next(open_ranges[-1], None)
            if text is None:
                begun.pop()
                open_ranges.pop()
                continue
            at = len(open_ranges)
            name = begun[-1] + text + self.literals[at]
            if at == len(self.ranges):
                yield name
            else:
                begun.append(name)
                open_ranges.append(self.ranges[at].texts())


def parse_template(text: str) -> Template:
    """Parse a template; raises ApiError 400 with the reference's texts."""
    if text in ("", "*"):
        return Template(("",))
    _check_length(text)
    if "{" in text and "}" in text:
        found = _parse_braces(text)
    elif "@" in text:
        found = _parse_at(text)
    elif text.count("%") == 1:
        _check_fmt(text)
        raise ApiError(
            400, f'template "{text}" counts without end: too large to expand; give a last number with {{0..N}}'
        )
    else:
        return Template((check_prefix(text, "bad list-range request"),))
    count = 1
    for one in found.ranges:
        count *= one.total
        if count > MAX_NAMES:
            raise ApiError(400, f"combined ranges are too large to expand ({count} > {MAX_NAMES} names)")
    return found


def _check_length(text: str) -> None:
    if len(text) > _TEXT_MAX:
        raise ApiError(400, f"a template of {len(text)} characters is too large (at most {_TEXT_MAX})")


def _parse_braces(text: str) -> Template:
    literals: list[str] = []
    ranges: list[IndexRange] = []
    at = 0
    while group := _GROUP.match(text, at):
        literals.append(group[1])
        ranges.append(_parse_group(text, group[2]))
        at = group.end()
    if not ranges or "{" in text[at:] or "}" in text[at:]:
        raise _invalid("bash", text, " (expecting e.g. 'prefix-{0001..0010..1}-suffix')")
    literals.append(text[at:])
    return Template(tuple(literals), tuple(ranges))


def _parse_group(text: str, group: str) -> IndexRange:
    parts = group.split("..")
    if len(parts) not in (2, 3):
        raise _invalid("bash", text, " (expecting e.g. 'prefix-{0001..0010..1}-suffix')")
    start, end = _number(parts[0]), _number(parts[1])
    step = _number(parts[2]) if len(parts) == 3 else 1
    if start < 0:
        raise _invalid("bash", text, ": 'start' is negative")
    if start > end:
        raise _invalid("bash", text, ": 'start' cannot be greater than 'end'")
    if step <= 0:
        raise _invalid("bash", text, ": 'step' is non-positive")
    return IndexRange(start, end, step, min(len(parts[0]), len(parts[1])))


def _parse_at(text: str) -> Template:
    first, *rest = text.split("@")
    literals, ranges = [first], []
    for part in rest:
        match = _DIGITS.match(part)
        digits = match[0] if match else ""
        ranges.append(IndexRange(0, _number(digits), 1, len(digits)))
        literals.append(part[len(digits) :])
    return Template(tuple(literals), tuple(ranges))


def parse_counter(text: str) -> Template | None:
    """The template of a printf range, which counts from 0 without end; None for any other. Raises ApiError 400."""
    if ("{" in text and "}" in text) or "@" in text or text.count("%") != 1:
        return None
    _check_length(text)
    found = _check_fmt(text)
    counter = IndexRange(0, _MAX - 1, 1, int(found[1] or 0))
    return Template((text[: found.start()], text[found.end() :]), (counter,))


def _check_fmt(text: str) -> re.Match[str]:
    found = _FMT.search(text)
    if found is None:
        raise _invalid("fmt", text, " (expecting e.g. 'prefix-%06d-suffix)")
    return found


def _number(text: str) -> int:
    body = text[1:] if text[:1] in ("+", "-") else text
    if not (body.isascii() and body.isdigit()):
        raise ApiError(400, f'strconv.ParseInt: parsing "{text[:64]}": invalid syntax', "NumError")
    if len(body) > 19 or int(body) > _MAX:
        raise ApiError(400, f'strconv.ParseInt: parsing "{text[:64]}": value out of range', "NumError")
    return int(text)


def _invalid(style: str, text: str, why: str) -> ApiError:
    return ApiError(400, f"invalid '{style}' template \"{text}\"{why}", "errTemplateInvalid")
