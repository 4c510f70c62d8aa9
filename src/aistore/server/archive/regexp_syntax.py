"""RE2's syntax: from an expression to a program of instructions (https://github.com/google/re2/wiki/Syntax)."""

from __future__ import annotations

import unicodedata
from typing import Final

from aistore.wire.errors import ApiError

__all__ = ["ANY", "CHARS", "MATCH", "SPLIT", "Instruction", "compile_expression", "is_word"]

# Kinds of instructions; those of assertions are bits.
CHARS: Final = -1
ANY: Final = -2
SPLIT: Final = -3
MATCH: Final = -4
BEGIN_TEXT: Final = 1
END_TEXT: Final = 2
BEGIN_LINE: Final = 4
END_LINE: Final = 8
WORD_BOUNDARY: Final = 16
NO_WORD_BOUNDARY: Final = 32

_REPEAT_MAX: Final = 1000
_PROGRAM_MAX: Final = 5000
_DEPTH_MAX: Final = 100
_END_OF_TEXT: Final = 0x10FFFF

_Ranges = list[tuple[int, int]]
_PERL: Final[dict[str, _Ranges]] = {
    "d": [(48, 57)],
    "w": [(48, 57), (65, 90), (95, 95), (97, 122)],
    "s": [(9, 10), (12, 13), (32, 32)],
}
_POSIX: Final[dict[str, _Ranges]] = {
    "alnum": [(48, 57), (65, 90), (97, 122)], "alpha": [(65, 90), (97, 122)], "ascii": [(0, 127)], "blank": [(9, 9), (32, 32)],
    "cntrl": [(0, 31), (127, 127)], "digit": [(48, 57)], "graph": [(33, 126)], "lower": [(97, 122)], "print": [(32, 126)],
    "punct": [(33, 47), (58, 64), (91, 96), (123, 126)], "space": [(9, 13), (32, 32)], "upper": [(65, 90)],
    "word": [(48, 57), (65, 90), (95, 95), (97, 122)], "xdigit": [(48, 57), (65, 70), (97, 102)],
}  # fmt: skip
_ESCAPES: Final = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ASSERTIONS: Final = {"A": BEGIN_TEXT, "z": END_TEXT, "b": WORD_BOUNDARY, "B": NO_WORD_BOUNDARY}


def is_word(char: str) -> bool:
    """Whether it is an ASCII word character."""
    return char.isascii() and (char.isalnum() or char == "_")


class _Class:
    """A set of characters."""

    def __init__(self, ranges: _Ranges, *, negated: bool = False, category: str = "", fold: bool = False) -> None:
        self.ranges = ranges
        self.negated = negated
        self.category = category
        self.fold = fold
        self.parts: list[_Class] = []

    @property
    def cost(self) -> int:
        """Comparisons that a character takes at most."""
        return (1 + len(self.ranges) + sum(part.cost for part in self.parts)) * (3 if self.fold else 1)

    def has(self, char: str) -> bool:
        found = self._has(char)
        if not found and self.fold:
            found = any(len(other) == 1 and self._has(other) for other in (char.lower(), char.upper()))
        return found is not self.negated

    def _has(self, char: str) -> bool:
        code = ord(char)
        return (
            any(low <= code <= high for low, high in self.ranges)
            or (self.category != "" and unicodedata.category(char).startswith(self.category))
            or any(part.has(char) for part in self.parts)
        )


class Instruction:
    """One step: read a character, go several ways, look around, or be done."""

    __slots__ = ("chars", "cost", "kind", "targets")

    def __init__(self, kind: int, chars: _Class | None = None) -> None:
        self.kind = kind
        self.chars = chars
        self.targets: list[int] = []
        self.cost = chars.cost if chars is not None else 1
        """Of reading a character."""

    def matches(self, char: str) -> bool:
        """Whether it reads this character."""
        return self.chars is None or self.chars.has(char)


# A tree of the expression: ("chars", _Class), ("any",), ("look", kind), ("cat", [..]), ("alt", [..]), ("repeat", tree, least, most)
_Tree = tuple[object, ...]


def compile_expression(text: str) -> tuple[list[Instruction], bool]:
    """The program, and whether it looks at what surrounds a place. Raises `ApiError` 400 with Go's text."""
    parser = _Parser(text)
    tree = parser.alternatives(0)
    if parser.at < len(text):
        raise _refusal("unexpected )", text)
    program: list[Instruction] = []
    _emit(program, tree, text)
    program.append(Instruction(MATCH))
    return program, any(one.kind > 0 for one in program)


def _refusal(why: str, what: str) -> ApiError:
    return ApiError(400, f"error parsing regexp: {why}: `{what[:100]}`")


def _append(program: list[Instruction], instruction: Instruction, text: str) -> Instruction:
    if len(program) >= _PROGRAM_MAX:
        raise _refusal("expression is too large", text)
    program.append(instruction)
    return instruction


def _emit(program: list[Instruction], tree: _Tree, text: str) -> None:
    kind = tree[0]
    if kind == "chars":
        chars = tree[1]
        assert isinstance(chars, _Class)
        _append(program, Instruction(CHARS, chars), text)
    elif kind == "any":
        _append(program, Instruction(ANY), text)
    elif kind == "look":
        look = tree[1]
        assert isinstance(look, int)
        _append(program, Instruction(look), text)
    elif kind == "cat":
        for part in _trees(tree):
            _emit(program, part, text)
    elif kind == "alt":
        _emit_alternatives(program, _trees(tree), text)
    else:
        _, inner, least, most = tree
        assert isinstance(inner, tuple)
        assert isinstance(least, int)
        for _ in range(least):
            before = len(program)
            _emit(program, inner, text)
            if len(program) == before:  # nothing, however often: what repeats this would never get to the limit
                break
        _emit_optional(program, inner, most, least, text)


def _trees(tree: _Tree) -> list[_Tree]:
    parts = tree[1]
    assert isinstance(parts, list)
    return parts


def _emit_alternatives(program: list[Instruction], parts: list[_Tree], text: str) -> None:
    split = _append(program, Instruction(SPLIT), text)
    ends: list[Instruction] = []
    for part in parts:
        split.targets.append(len(program))
        _emit(program, part, text)
        ends.append(_append(program, Instruction(SPLIT), text))
    for end in ends:
        end.targets.append(len(program))


def _emit_optional(program: list[Instruction], inner: _Tree, most: object, least: int, text: str) -> None:
    if most is None:
        split = _append(program, Instruction(SPLIT), text)
        begin = len(program) - 1
        _emit(program, inner, text)
        _append(program, Instruction(SPLIT), text).targets.append(begin)
        split.targets += (begin + 1, len(program))
        return
    assert isinstance(most, int)
    splits = []
    for _ in range(most - least):
        split = _append(program, Instruction(SPLIT), text)
        split.targets.append(len(program))
        splits.append(split)
        _emit(program, inner, text)
    for split in splits:
        split.targets.append(len(program))


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._flags: frozenset[str] = frozenset()

    def _peek(self, text: str) -> bool:
        return self.text.startswith(text, self.at)

    def _take(self, text: str) -> bool:
        if self._peek(text):
            self.at += len(text)
            return True
        return False

    def alternatives(self, depth: int) -> _Tree:
        """All up to the end, or to the closing parenthesis."""
        if depth > _DEPTH_MAX:
            raise _refusal("expression nests too deeply", self.text)
        flags = self._flags
        found = [self._sequence(depth)]
        while self._take("|"):
            found.append(self._sequence(depth))
        self._flags = flags
        return found[0] if len(found) == 1 else ("alt", found)

    def _sequence(self, depth: int) -> _Tree:
        parts: list[_Tree] = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            if self._take("\\Q"):
                quoted, _, _ = self.text[self.at :].partition("\\E")
                self.at += len(quoted)
                self._take("\\E")
                parts += [self._literal(char) for char in quoted]
                continue
            atom = self._atom(depth)
            if atom is not None:
                parts.append(self._repeated(atom))
        return ("cat", parts)

    def _repeated(self, atom: _Tree) -> _Tree:
        repeats = 0
        last = self.at
        while (bounds := self._bounds()) is not None:
            self._take("?")  # lazy or not: it matches or it does not
            repeats += 1
            if repeats > 1:
                raise _refusal("invalid nested repetition operator", self.text[last : self.at])
            least, most = bounds
            if max(least, most or 0) > _REPEAT_MAX or (most is not None and most < least):
                raise _refusal("invalid repeat count", self.text[last : self.at])
            atom = ("repeat", atom, least, most)
        return atom

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return bounds
        if not self._peek("{"):
            return None
        inside, closed, _ = self.text[self.at + 1 : self.at + 24].partition("}")
        least, comma, most = inside.partition(",")
        if not closed or not least.isdecimal() or not (most == "" or most.isdecimal()) or not inside.isascii():
            return None  # a brace that stands for itself
        self.at += len(inside) + 2
        return int(least), int(most) if most else None if comma else int(least)

    def _literal(self, char: str) -> _Tree:
        return ("chars", _Class([(ord(char), ord(char))], fold="i" in self._flags))

    def _atom(self, depth: int) -> _Tree | None:
        char = self.text[self.at]
        if char in "*+?" or (char == "{" and self._bounds() is not None):
            raise _refusal("missing argument to repetition operator", char)
        self.at += 1
        if char == "(":
            return self._group(depth)
        if char == "[":
            return ("chars", self._class())
        if char == ".":
            return ("any",) if "s" in self._flags else ("chars", _Class([(10, 10)], negated=True))
        if char == "^":
            return ("look", BEGIN_LINE if "m" in self._flags else BEGIN_TEXT)
        if char == "$":
            return ("look", END_LINE if "m" in self._flags else END_TEXT)
        if char == "\\":
            if self.text[self.at : self.at + 1] in _ASSERTIONS and self.at < len(self.text):
                self.at += 1
                return ("look", _ASSERTIONS[self.text[self.at - 1]])
            return ("chars", self._escape())
        return self._literal(char)

    def _group(self, depth: int) -> _Tree | None:
        begin = self.at - 1
        flags = self._flags
        if self._take("?"):
            if self._take("P<") or (
                self._peek("<") and not self._peek("<=") and not self._peek("<!") and self._take("<")
            ):
                name, closed, _ = self.text[self.at :].partition(">")
                if not closed or not name.isidentifier() or not name.isascii():
                    raise _refusal("invalid named capture", self.text[begin : self.at + len(name) + 1])
                self.at += len(name) + 1
            elif not self._set_flags(begin):
                return None
        tree = self.alternatives(depth + 1)
        self._flags = flags
        if not self._take(")"):
            raise _refusal("missing closing )", self.text)
        return tree

    def _set_flags(self, begin: int) -> bool:
        """Read flags behind `(?`; whether a group follows, for which alone they count."""
        chosen, on = set(self._flags), True
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            if char in "imsU":
                (chosen.add if on else chosen.discard)(char)
            elif char == "-" and on:
                on = False
            elif char in ":)":
                self._flags = frozenset(chosen)
                return char == ":"
            else:
                break
        raise _refusal("invalid or unsupported Perl syntax", self.text[begin : self.at])

    def _escape(self) -> _Class:
        """What a backslash begins, outside of classes and within."""
        begin = self.at - 1
        fold = "i" in self._flags
        char = self.text[self.at : self.at + 1]
        self.at += 1
        if not char:
            raise _refusal("trailing backslash at end of expression", "")
        if char.lower() in _PERL and char.isascii():
            return _Class(_PERL[char.lower()], negated=char.isupper())
        if char in "pP":
            return self._category(begin, negated=char == "P")
        if char in _ESCAPES:
            code = ord(_ESCAPES[char])
        elif char == "x":
            code = self._hex(begin)
        elif char in "01234567":
            code = self._octal(begin, char)
        elif char.isascii() and not char.isalnum():
            code = ord(char)
        else:
            raise _refusal("invalid escape sequence", self.text[begin : self.at])
        return _Class([(code, code)], fold=fold)

    def _hex(self, begin: int) -> int:
        if self._take("{"):
            digits, closed, _ = self.text[self.at : self.at + 9].partition("}")
            self.at += len(digits) + len(closed)
        else:
            digits, closed = self.text[self.at : self.at + 2], "}"
            self.at += len(digits)
            if len(digits) < 2:
                closed = ""
        if closed and digits and all(digit in "0123456789abcdefABCDEF" for digit in digits):
            code = int(digits, 16)
            if code <= _END_OF_TEXT:
                return code
        raise _refusal("invalid escape sequence", self.text[begin : self.at])

    def _octal(self, begin: int, first: str) -> int:
        # As in RE2, a backslash with one digit other than 0 would be a reference to a group.
        digits = first
        while len(digits) < 3 and self.text[self.at : self.at + 1] in tuple("01234567"):
            digits += self.text[self.at]
            self.at += 1
        if first != "0" and len(digits) == 1:
            raise _refusal("invalid escape sequence", self.text[begin : self.at])
        return int(digits, 8)

    def _category(self, begin: int, *, negated: bool) -> _Class:
        if self._take("{"):
            name, closed, _ = self.text[self.at :].partition("}")
            self.at += len(name) + len(closed)
        else:
            name, closed = self.text[self.at : self.at + 1], "}"
            self.at += len(name)
        if name.startswith("^"):
            name, negated = name[1:], not negated
        if not closed or name[:1] not in tuple("LMNPSZC") or len(name) > 2 or not name.isascii():
            # Scripts would need tables that the standard library does not have.
            raise _refusal("invalid character class range", self.text[begin : self.at])
        return _Class([], negated=negated, category=name)

    def _class(self) -> _Class:
        begin = self.at - 1
        found = _Class([], negated=self._take("^"), fold="i" in self._flags)
        first = True
        while first or not self._peek("]"):
            if self.at >= len(self.text):
                raise _refusal("missing closing ]", self.text[begin:])
            first = False
            if self._peek("[:") and (posix := self._posix()) is not None:
                found.parts.append(posix)
                continue
            low = self._class_char()
            if not isinstance(low, int):
                found.parts.append(low)
                continue
            high = low
            if self._peek("-") and not self._peek("-]"):
                self.at += 1
                if self.at >= len(self.text):
                    raise _refusal("missing closing ]", self.text[begin:])
                upper = self._class_char()
                if not isinstance(upper, int) or upper < low:
                    raise _refusal("invalid character class range", self.text[begin : self.at])
                high = upper
            found.ranges.append((low, high))
        self.at += 1
        return found

    def _class_char(self) -> int | _Class:
        char = self.text[self.at]
        self.at += 1
        if char != "\\":
            return ord(char)
        escaped = self._escape()
        if len(escaped.ranges) == 1 and not escaped.negated and escaped.ranges[0][0] == escaped.ranges[0][1]:
            return escaped.ranges[0][0]
        return escaped

    def _posix(self) -> _Class | None:
        name, closed, _ = self.text[self.at + 2 :].partition(":]")
        if not closed:
            return None
        negated = name.startswith("^")
        ranges = _POSIX.get(name.removeprefix("^"))
        if ranges is None:
            raise _refusal("invalid character class range", self.text[self.at : self.at + len(name) + 4])
        self.at += len(name) + 4
        return _Class(ranges, negated=negated)
