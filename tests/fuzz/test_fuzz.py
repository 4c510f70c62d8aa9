"""Nothing that reads input crashes, hangs or takes memory without end, whatever it is given.

`make test` runs each target a little, `make test-long` a million times, in a process of its own whose memory is limited. A failure names target,
seed and execution, shows the input, and keeps it in a file. An input that failed once is a seed of its target.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fuzz.__main__ import SHARED
from fuzz.engine import Failure, Figures, Mutator, Target, fuzz, write_out
from fuzz.targets import TARGETS

SHORT = 1_000
LONG = int(os.environ.get("FUZZ_EXECUTIONS", "1000000"))
SEED = int(os.environ.get("FUZZ_SEED", "7"))
HANGS = 60.0
"""Seconds after which one execution, which takes less than a millisecond, has been given up."""
GROWTH = 256.0
"""MiB by which a process may grow: the corpus, caches and what one input of a few KiB may become."""


@pytest.mark.parametrize("name", TARGETS)
def test_a_little_of_each(tmp_path: Path, name: str) -> None:
    try:
        figures = fuzz(TARGETS[name], len(TARGETS[name].seeds) + SHORT, SEED)
    except Failure as failure:
        print(f"the input is in {write_out(tmp_path, 'failed', failure.data)}")
        raise
    assert figures.accepted > 0, "no input is good: nothing but the first check was seen"
    assert figures.paths > 3


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", TARGETS)
def test_a_million_of_each(tmp_path: Path, name: str) -> None:
    figures = run_apart(tmp_path, name)
    print(f"{name}: {figures}")
    assert figures.executions == LONG
    assert figures.mebibytes < GROWTH


def run_apart(folder: Path, name: str) -> Figures:
    """The figures of a run in a process of its own, which is watched."""
    now = folder / "now"
    now.write_bytes(bytes(SHARED))
    command = [sys.executable, "-m", "fuzz", name, str(LONG), str(SEED), str(folder)]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            watch(process, now)
        finally:
            process.kill()
        said = process.stdout.read() if process.stdout else ""
        failed = process.stderr.read() if process.stderr else ""
    if process.returncode:
        execution, data = executed(now)
        path = write_out(folder, "last", data)
        raise AssertionError(
            f"{name}, seed {SEED}, execution {execution}: exit status {process.returncode}; the input is in {path}\n{failed}"
        )
    document = json.loads(said)
    return Figures(**{field: document[field] for field in Figures._fields})


def executed(now: Path) -> tuple[int, bytes]:
    """Which execution a process is at, and its input."""
    with now.open("rb") as file:
        head = file.read(16)
        return int.from_bytes(head[:8], "little"), file.read(int.from_bytes(head[8:], "little"))


def watch(process: subprocess.Popen[str], now: Path) -> None:
    """Wait for the end of a process that gets on."""
    last, since = -1, time.monotonic()
    while process.poll() is None:
        execution, _ = executed(now)
        if execution != last:
            last, since = execution, time.monotonic()
        elif time.monotonic() - since > HANGS:
            process.kill()
        time.sleep(0.05)


# -- the fuzzer itself ---------------------------------------------------------------------------------------------


def _finds(data: bytes) -> int:
    if data.startswith(b"ab") and len(data) > 6 and data[2] & 1:
        raise ZeroDivisionError
    if not data:
        raise ValueError("empty")
    return data[0] % 4


FAULTY = Target("faulty", _finds, (ValueError,), (b"a00000",), (b"ab",))


def test_a_fault_is_found_and_its_input_shown() -> None:
    with pytest.raises(Failure, match=r"faulty, seed 3, execution [0-9]+: ZeroDivisionError") as found:
        fuzz(FAULTY, 20_000, 3)
    with pytest.raises(ZeroDivisionError):
        _finds(found.value.data)


def test_a_run_depends_on_its_seed_alone() -> None:
    inputs = [[Mutator(FAULTY, seed).next() for _ in range(50)] for seed in (1, 1, 2)]
    assert inputs[0] == inputs[1] != inputs[2]
