"""The external key map: which records go into which shards (protocol/40 B5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from aistore.server.archive.regexp import Regexp
from aistore.wire.dsort import ABORT, IGNORE
from aistore.wire.errors import ApiError
from aistore.wire.template import Template, parse_counter, parse_template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["MAP_MAX", "KeyMap", "parse_map"]

MAP_MAX: Final = 64 << 20
"""Bytes of a map."""

_KEYS_MAX: Final = 1_000_000
_EXPRESSIONS_MAX: Final = 10_000
_EXPRESSION_MAX: Final = 4096
# What means something in an expression but the dot, which any character matches, the one that is meant first of all.
_SPECIAL: Final = frozenset("\\[](){}*+?^$|")

_decode = msgspec.json.Decoder(dict[str, list[str]]).decode


class _Key:
    """One expression. Those that are names are not run where the longest part without a dot does not occur."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._part = ""
        self._regexp: Regexp | None = None
        if _SPECIAL.intersection(text):
            self._regexp = Regexp(text)
        else:
            self._part = max(text.split("."), key=len)

    def matches(self, name: str) -> bool:
        if self._part not in name:
            return False
        if self._text in name and self._part:
            return True
        if self._regexp is None:
            self._regexp = Regexp(self._text)
        return self._regexp.search(name)


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
        self._keys = [(_Key(key), number) for key, number in keys]

    def find(self, name: str) -> int:
        """The number of the template for a record, -1 if no key matches, or more than one does."""
        found = [number for key, number in self._keys if key.matches(name)]
        return found[0] if len(found) == 1 else -1


def parse_map(data: bytes, url_path: str, separator: str, reaction: str, warn: Callable[[str], None]) -> KeyMap:
    """The map that a file is: JSON, or lines of text. `reaction` is that to a line that has not two fields. Raises `ApiError` 400."""
    try:
        return _of_pairs((template, key) for template, keys in _decode(data).items() for key in keys)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if url_path.endswith(".json"):
            raise ApiError(400, f"the key map is no JSON object of lists: {error}") from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the key map is neither JSON nor text: {error}") from error
    return _of_pairs(_lines(text, separator, reaction, warn))


def _lines(text: str, separator: str, reaction: str, warn: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    for line in text.split("\n"):
        line = line.rstrip("\r")  # noqa: PLW2901 (the same line)
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
    return KeyMap([_template(text) for text in numbers], keys)


def _template(text: str) -> Template:
    found = parse_counter(text) or parse_template(text)
    if not found.ranges:
        raise ApiError(400, f"template {text[:300]!r} of the key map has no range")
    return found
