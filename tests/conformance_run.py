"""Running the conformance harnesses: one process for all scenarios of a run, one test for each scenario."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from bench.environments import VERSIONS, official_python, why_missing
from expected_differences import LIST, expected

HERE = Path(__file__).resolve().parent / "conformance"

PACKAGES = ("ours", *(f"official-{version}" for version in VERSIONS))
"""Whose classes run the scenarios of the SDK: the part of such a run's name before the slash."""

# The slowest run takes a fraction of this.
_RUN_SECONDS = 280
_SLOW_RUN_SECONDS = 3600
_LONG = (pytest.mark.long, pytest.mark.timeout(_SLOW_RUN_SECONDS))


@dataclass(frozen=True)
class Tally:
    """What a run of a harness said, by label."""

    passed: frozenset[str]
    failed: dict[str, list[str]]
    skipped: frozenset[str]
    output: str


def labels(kind: str) -> list[str]:
    """All scenarios of `kind` (http, sdk) as `area.name`, from the golden files."""
    return sorted(path.name.removesuffix(".jsonl") for path in (HERE / "golden" / kind).glob("*.jsonl"))


def interpreter(run: str) -> str:
    """The Python that has the package of a run of the SDK. Skips where it is missing."""
    package = run.partition("/")[0]
    if package == "ours":
        return sys.executable
    version = package.removeprefix("official-")
    if reason := why_missing(version):
        pytest.skip(reason)
    return str(official_python(version))


def is_slow(run: str, label: str) -> bool:
    """Whether a scenario waits long for what cannot come yet."""
    entry = expected(run, label)
    return entry is not None and entry.slow


def parameters(kind: str, runs: tuple[str, ...], area: str = "") -> list[object]:
    """(run, label) for each scenario, or those of an area, in each run; `conftest.py` keeps the tests of a run on one worker, which runs it once."""
    return [
        pytest.param(
            run,
            label,
            id=f"{run.replace('/', '-')}-{label}",
            marks=_LONG if is_slow(run, label) else (),
        )
        for run in runs
        for label in labels(kind)
        if not area or label.startswith(f"{area}.")
    ]


@cache
def run_harness(
    script: str,
    kind: str,
    run: str,
    slow: bool,
    python: str,
    endpoint: str,
    has: str,
    folder: Path,
    area: str = "",
    trusted: str = "",
) -> Tally:
    """Run one harness against a cluster: the slow scenarios of a run, or the others. `trusted` is a CA.

    Where the harness itself fails no scenario did run, and it is not started anew for each.
    """
    chosen = (label for label in labels(kind) if not area or label.startswith(f"{area}."))
    only = ",".join(label for label in chosen if is_slow(run, label) is slow)
    tally = folder / "tally.json"
    tally.unlink(missing_ok=True)
    command = [python, str(HERE / script), "--endpoint", endpoint, "--only", only, "--tally", str(tally)]
    if has:
        command += ["--has", has]
    limit = _SLOW_RUN_SECONDS if slow else _RUN_SECONDS
    env = dict(os.environ)
    if trusted:  # `requests` would take the first two instead
        env = {name: value for name, value in env.items() if name not in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")}
        env |= {"AIS_CLIENT_CA": trusted, "SSL_CERT_FILE": trusted}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, cwd=folder, env=env)
    except subprocess.TimeoutExpired:
        return Tally(frozenset(), {}, frozenset(), f"{script} for {run} took more than {limit} s")
    if not tally.exists():
        return Tally(frozenset(), {}, frozenset(), f"{script} for {run}\n{done.stdout}\n{done.stderr}")
    said = json.loads(tally.read_text())
    return Tally(frozenset(said["passed"]), said["failed"], frozenset(said["skipped"]), done.stdout + done.stderr)


def judge(run: str, label: str, tally: Tally) -> None:
    """Pass, skip or fail one scenario by what its run said and what the list of expected differences says."""
    entry = expected(run, label)
    if label in tally.skipped:
        pytest.skip("not for this run")
    if label in tally.passed:
        if entry:
            pytest.fail(f"{label} passes on {run}: take it out of {LIST.name} ({entry.reason})", pytrace=False)
        return
    if label not in tally.failed:
        pytest.fail(f"{label} did not run\n{tally.output}", pytrace=False)
    if entry:
        pytest.xfail(entry.reason)
    pytest.fail(f"{label} differs on {run}\n" + "\n".join(tally.failed[label]), pytrace=False)
