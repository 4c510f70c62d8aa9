"""The external key map: which records go into which shards (protocol/40 B5)."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.server.archive.regexp import Regexp
from aistore.wire.dsort import ABORT, IGNORE
from aistore.wire.errors import ApiError
from aistore.wire.template import Template, parse_counter, parse_template

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

__all__ = ["MAP_MAX", "KeyMap", "parse_map"]

MAP_MAX: Final = 64 << 20
"""Bytes of a map."""

_KEYS_MAX: Final = 1_000_000
_TEMPLATES_MAX: Final = 100_000
_EXPRESSIONS_MAX: Final = 10_000
_PROGRAMS_MAX: Final = 250_000  # instructions of all expressions
_REMEMBERED: Final = 1 << 20  # what all expressions remember
_AT_ONCE: Final = 16  # keys that are looked at before others have their turn
_EXPRESSION_MAX: Final = 4096
_QUOTES_MAX: Final = 4 * _KEYS_MAX
# What means something in an expression but the dot, which any character matches, the one that is meant first of all.
_SPECIAL: Final = frozenset("\\[](){}*+?^$|")

_decode = msgspec.json.Decoder(dict[str, list[str]]).decode


class _Name:
    """A key that is a name, whose dots are any character: it can only lie where its longest part without a dot does."""

    __slots__ = ("_at", "_part", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._part = max(text.split("."), key=len)
        self._at = text.find(self._part)

    def search(self, name: str) -> bool:
        """Whether it matches anywhere in the name."""
        at = name.find(self._part)
        if at < 0:
            return False
        if self._text in name:
            return True
        parts = self._text.split(".")
        last = len(name) - len(self._text) + self._at
        while 0 <= at <= last:
            if at >= self._at and _lie_at(parts, name, at - self._at):
                return True
            at = name.find(self._part, at + 1)
        return False


def _lie_at(parts: list[str], name: str, at: int) -> bool:
    """Whether the parts lie there one behind the other, with one character between two of them, which is no end of a line."""
    for number, part in enumerate(parts):
        if (number and name[at - 1] == "\n") or not name.startswith(part, at):
            return False
        at += len(part) + 1
    return True


class KeyMap:
    """Keys, and the templates of the shards that they lead to."""

    def __init__(self, templates: list[Template], keys: list[tuple[str, int]]) -> None:
        """`keys` are expressions with the numbers of their templates. Raises `ApiError` 400."""
        if len({key for key, _ in keys}) < len(keys):
            raise ApiError(400, "a key of the key map is listed twice")
        if len(keys) > _KEYS_MAX or max((len(key) for key, _ in keys), default=0) > _EXPRESSION_MAX:
            raise ApiError(400, f"a key map has at most {_KEYS_MAX} keys, of {_EXPRESSION_MAX} characters each")
        expressions = sum(bool(_SPECIAL.intersection(key)) for key, _ in keys)
        if expressions > _EXPRESSIONS_MAX:
            raise ApiError(400, f"a key map has at most {_EXPRESSIONS_MAX} keys that are more than names")
        self.templates = templates
        self._keys: list[tuple[_Name | Regexp, int]] = []
        instructions = 0
        for key, number in keys:
            if not _SPECIAL.intersection(key):
                self._keys.append((_Name(key), number))
                continue
            regexp = Regexp(key, _REMEMBERED // expressions)
            self._keys.append((regexp, number))
            instructions += regexp.size
            if instructions > _PROGRAMS_MAX:
                raise ApiError(
                    400, f"the expressions of the key map are too large (at most {_PROGRAMS_MAX} instructions)"
                )

    def find(self, name: str) -> Generator[None, None, int]:
        """The number of the template for a record, -1 if no key matches, or more than one does; yields while it searches."""
        found = -1
        for count, (key, number) in enumerate(self._keys, 1):
            if key.search(name):
                if found >= 0:
                    return -1
                found = number
            if count % _AT_ONCE == 0 or isinstance(key, Regexp):
                yield None
        return found


def parse_map(data: bytes, url_path: str, separator: str, reaction: str, warn: Callable[[str], None]) -> KeyMap:
    """The map that a file is: JSON, or lines of text. `reaction` is that to a line that has not two fields. Raises `ApiError` 400."""
    if data.count(b'"') > _QUOTES_MAX:  # as objects they would take twenty times the memory
        raise ApiError(400, f"a key map has at most {_KEYS_MAX} keys")
    try:
        return _of_pairs((template, key) for template, keys in _decode(data).items() for key in keys)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if url_path.endswith(".json"):
            raise ApiError(400, f"the key map is no JSON object of lists: {error}") from error
    try:
        return _of_pairs(_lines(data, separator, reaction, warn))
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the key map is neither JSON nor text: {error}") from error


def _lines(data: bytes, separator: str, reaction: str, warn: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    for encoded in BytesIO(data):  # one at a time: many millions may be empty
        line = encoded.decode().removesuffix("\n").rstrip("\r")
        if not line.strip():
            continue
        fields = line.split(separator)
        if len(fields) == 2:
            yield fields[1], fields[0]
            continue
        message = f"malformed line in the key map: {line[:100]!r} has {len(fields)} fields"
        if reaction == ABORT:
            raise ApiError(400, message)
        if reaction != IGNORE:
            warn(message)


def _of_pairs(pairs: Iterable[tuple[str, str]]) -> KeyMap:
    numbers: dict[str, int] = {}
    keys: list[tuple[str, int]] = []
    for template, key in pairs:
        keys.append((key, numbers.setdefault(template, len(numbers))))
        if len(keys) > _KEYS_MAX:
            break
        if len(numbers) > _TEMPLATES_MAX:
            raise ApiError(400, f"a key map has at most {_TEMPLATES_MAX} templates")
    return KeyMap([_template(text) for text in numbers], keys)


def _template(text: str) -> Template:
    found = parse_counter(text) or parse_template(text)
    if not found.ranges:
        raise ApiError(400, f"template {text[:300]!r} of the key map has no range")
    return found
