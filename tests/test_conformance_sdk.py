"""Programs written against the documented SDK see the same results: with our SDK and with both official ones, on our server."""

from __future__ import annotations

import sys

import pytest

from bench.environments import VERSIONS, official_python, why_missing
from conformance_run import is_slow, judge, parameters, run_harness

CLUSTERS = {"one": "cluster", "three": "cluster3"}
PACKAGES = ("ours", *(f"official-{version}" for version in VERSIONS))
RUNS = tuple(f"{package}/{on}" for package in PACKAGES for on in CLUSTERS)


@pytest.mark.parametrize(("run", "label"), parameters("sdk", RUNS))
def test_sdk(run: str, label: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    package, on = run.split("/")
    python = sys.executable
    if package != "ours":
        version = package.removeprefix("official-")
        if reason := why_missing(version):
            pytest.skip(reason)
        python = str(official_python(version))
    url = request.getfixturevalue(CLUSTERS[on]).url
    slow = is_slow(run, label)
    folder = tmp_path_factory.getbasetemp()
    judge(run, label, run_harness("sdk_conform.py", "sdk", run, slow, python, url, "", folder))
