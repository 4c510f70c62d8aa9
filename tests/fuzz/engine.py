"""A mutational fuzzer: inputs are changed at random, and those that lead somewhere new are kept and changed further.

Where an input led is what its target says of the result, or the lines through which the refusal came. That takes no tracing, so that a
million executions take a minute. A run depends on nothing but its seed and its target.
"""

from __future__ import annotations

import random
import re
import resource
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Hashable
    from pathlib import Path

_CORPUS_MAX: Final = 4096
_NUMBERS: Final = (b"0", b"-1", b"1", b"255", b"65536", b"2147483648", b"9223372036854775807", b"18446744073709551616")
_NUMBERS_MORE: Final = (b"1e999", b"0" * 70, b"9" * 5000, b"\xd9\xa3")
_BYTES: Final = b"\x00\x01\x09\x0a\x0d\x20\x22\x25\x2c\x2e\x2f\x3a\x3d\x5c\x7b\x7d\x7f\x80\x81\xc3\xdc\xdd\xdf\xff"
_digits: Final = re.compile(rb"[0-9]+")
_tokens: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[0-9.]+|[A-Za-z_]+|[\x80-\xff]+|\s+|\0+|.', re.DOTALL).findall


class Target(NamedTuple):
    """What is fuzzed."""

    name: str
    run: Callable[[bytes], Hashable]
    """Reads an input and checks what has to hold of the result; returns which kind of result it is."""
    refusals: tuple[type[BaseException], ...]
    """How it may refuse an input."""
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    """What the inputs are made of."""
    longest: int = 2048
    """Bytes of an input."""


class Figures(NamedTuple):
    """What a run took."""

    executions: int
    accepted: int
    paths: int
    """Different results and refusals."""
    seconds: float
    mebibytes: float
    """By how much the process grew."""


class Failure(AssertionError):
    """An input that led to something that is not allowed; `data` is the input."""

    def __init__(self, target: str, seed: int, execution: int, data: bytes, error: BaseException) -> None:
        shown = data if len(data) <= 400 else data[:400] + b"..."
        super().__init__(f"{target}, seed {seed}, execution {execution}: {type(error).__name__}: {error}\n{shown!r}")
        self.data = data


class Mutator:
    """Makes new inputs of old ones."""

    def __init__(self, target: Target, seed: int) -> None:
        self._random = random.Random(seed)
        self._bits = self._random.getrandbits
        self._words = target.words
        self._longest = target.longest
        self.corpus = list(target.seeds)

    def keep(self, data: bytes) -> None:
        """Go on from this input, too."""
        if len(self.corpus) < _CORPUS_MAX:
            self.corpus.append(data)
        else:
            self.corpus[self._below(_CORPUS_MAX)] = data

    def next(self) -> bytes:
        """An input."""
        corpus = self.corpus
        # What came last is newest: every other input is made of that.
        start = max(0, len(corpus) - 32) if self._bits(1) else 0
        parent = corpus[start + self._below(len(corpus) - start)]
        if self._bits(1) and parent:
            return self._exchange(parent)[: self._longest]
        data = bytearray(parent)
        for _ in range(1 + self._bits(2)):
            self._change(data)
        return bytes(data[: self._longest])

    def _exchange(self, parent: bytes) -> bytes:
        """Change tokens and not bytes: what has a grammar keeps it more often."""
        tokens: list[bytes] = _tokens(parent)
        for _ in range(1 + self._bits(1)):
            at = self._below(len(tokens))
            kind = self._bits(3)
            if kind == 0:
                del tokens[at : at + 1 + self._bits(2)]
                if not tokens:
                    break
            elif kind == 1:
                tokens[at:at] = tokens[at : at + 1 + self._bits(3)]
            elif kind < 4 and self._words:
                tokens[at] = self._words[self._below(len(self._words))]
            else:
                others = tokens
                if self._bits(1):
                    others = _tokens(self.corpus[self._below(len(self.corpus))]) or tokens
                tokens[at] = others[self._below(len(others))]
        return b"".join(tokens)

    def _below(self, bound: int) -> int:
        return self._bits(24) * bound >> 24

    def _change(self, data: bytearray) -> None:
        kind = self._bits(4)
        at = self._below(len(data) + 1)
        if kind < 2:
            if at < len(data):
                data[at] ^= 1 << self._bits(3)
        elif kind < 4:
            data[at : at + 1] = bytes((_BYTES[self._below(len(_BYTES))],))
        elif kind == 4:
            data[at : at + 1] = bytes((self._bits(8),))
        elif kind == 5:
            del data[at : at + 1 + self._bits(self._bits(3) + 1)]
        elif kind == 6:
            piece = bytes(data[at : at + 1 + self._bits(5)])
            to = self._below(len(data) + 1)
            data[to:to] = piece
        elif kind == 7:
            piece = bytes(data[at : at + 1 + self._bits(3)])
            data[at:at] = piece * (1 + self._bits(self._bits(3) + 1))
        elif kind == 8:
            other = self.corpus[self._below(len(self.corpus))]
            from_ = self._below(len(other) + 1)
            data[at:] = other[from_:]
        elif kind == 9:
            self._change_number(data, at)
        elif self._words:
            word = self._words[self._below(len(self._words))]
            data[at : at + (self._bits(3) if kind < 13 else 0)] = word

    def _change_number(self, data: bytearray, at: int) -> None:
        found = _digits.search(data, at)
        if found is None:
            return
        dice = self._bits(4)
        if dice < 8:
            number = b"%d" % (int(found[0][:9]) + self._bits(2) - 1)
        elif dice < 15:
            number = _NUMBERS[self._below(len(_NUMBERS))]
        else:
            number = _NUMBERS_MORE[self._below(len(_NUMBERS_MORE))]
        data[found.start() : found.end()] = number


def _way(error: BaseException) -> tuple[object, ...]:
    """The last lines through which a refusal came: what recurses would have no end of ways."""
    lines: deque[int] = deque(maxlen=3)
    trace = error.__traceback__
    while trace is not None:
        lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return (type(error), *lines)


def grown() -> float:
    """The largest size that this process had, MiB."""
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def fuzz(target: Target, executions: int, seed: int, shared: mmap.mmap | None = None) -> Figures:
    """Run a target so often. Raises `Failure`.

    `shared`: memory that is told the number of the execution and its input before it begins, for whoever sees this process hang or crash.
    """
    mutator = Mutator(target, seed)
    paths: set[Hashable] = set()
    accepted = 0
    size, start = grown(), time.perf_counter()
    for execution in range(executions):
        data = target.seeds[execution] if execution < len(target.seeds) else mutator.next()
        if shared is not None:
            shared[:16] = execution.to_bytes(8, "little") + len(data).to_bytes(8, "little")
            shared[16 : 16 + len(data)] = data
        way: Hashable
        try:
            way = target.run(data)
            accepted += 1
        except target.refusals as error:
            way = _way(error)
        except BaseException as error:
            raise Failure(target.name, seed, execution, data, error) from error
        if way not in paths:
            paths.add(way)
            if execution >= len(target.seeds):
                mutator.keep(data)
    return Figures(executions, accepted, len(paths), time.perf_counter() - start, grown() - size)


def write_out(folder: Path, name: str, data: bytes) -> Path:
    """Keep an input that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.input"
    path.write_bytes(data)
    return path
