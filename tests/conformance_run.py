"""Running the conformance harnesses: one process for all scenarios of a run, one test for each scenario."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from expected_differences import expected, later_areas

HERE = Path(__file__).resolve().parent / "conformance"

# The slowest run takes a fraction of this.
_RUN_SECONDS = 280


@dataclass(frozen=True)
class Tally:
    """What a run of a harness said, by label."""

    passed: frozenset[str]
    failed: dict[str, list[str]]
    skipped: frozenset[str]
    output: str


def labels(kind: str) -> list[str]:
    """The scenarios of the areas that are built, as `area.name`, from the golden files of `kind` (http, sdk)."""
    later = later_areas(kind)
    found = sorted(path.name.removesuffix(".jsonl") for path in (HERE / "golden" / kind).glob("*.jsonl"))
    return [label for label in found if label.split(".")[0] not in later]


def parameters(kind: str, runs: tuple[str, ...]) -> list[object]:
    """(run, label) for each scenario in each run; the tests of one run stay on one xdist worker, which runs it once."""
    return [
        pytest.param(run, label, id=f"{run.replace(' ', '-')}-{label}", marks=pytest.mark.xdist_group(run))
        for run in runs
        for label in labels(kind)
    ]


@cache
def run_harness(script: str, python: str, endpoint: str, has: str, only: str, folder: Path) -> Tally:
    """Run one harness against a cluster. Fails the test where the harness itself does."""
    tally = folder / "tally.json"
    tally.unlink(missing_ok=True)
    command = [python, str(HERE / script), "--endpoint", endpoint, "--only", only, "--tally", str(tally)]
    if has:
        command += ["--has", has]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_RUN_SECONDS, cwd=folder)
    if not tally.exists():
        pytest.fail(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}", pytrace=False)
    said = json.loads(tally.read_text())
    return Tally(frozenset(said["passed"]), said["failed"], frozenset(said["skipped"]), done.stdout + done.stderr)


def judge(run: str, label: str, tally: Tally) -> None:
    """Pass, skip or fail one scenario by what its run said and what the list of expected differences says."""
    reason = expected(run, label)
    if label in tally.skipped:
        pytest.skip("not for this run")
    if label in tally.passed:
        if reason:
            pytest.fail(f"{label} passes on {run}: take it out of expected_differences.toml ({reason})", pytrace=False)
        return
    if label not in tally.failed:
        pytest.fail(f"{label} did not run\n{tally.output}", pytrace=False)
    if reason:
        pytest.xfail(reason)
    pytest.fail(f"{label} differs on {run}\n" + "\n".join(tally.failed[label]), pytrace=False)


def areas(kind: str) -> str:
    """The areas that are built, for `--only`."""
    return ",".join(sorted({f"{label.split('.')[0]}.*" for label in labels(kind)}))


def this_python() -> str:
    """The interpreter that runs the tests, whose `aistore` is ours."""
    return sys.executable
