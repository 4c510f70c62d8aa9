"""Programs written against the documented SDK see the same results: with our SDK and with both official ones, on our server."""

from __future__ import annotations

import pytest
from bench.environments import VERSIONS, official_python, why_missing

from conformance_run import areas, judge, parameters, run_harness, this_python

CLUSTERS = {"one": "cluster", "three": "cluster3"}
PACKAGES = ("ours", *(f"official-{version}" for version in VERSIONS))


@pytest.mark.parametrize(("run", "label"), parameters("sdk", tuple(f"{p} {c}" for p in PACKAGES for c in CLUSTERS)))
def test_sdk(run: str, label: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    package, on = run.split()
    python = this_python()
    if package != "ours":
        version = package.removeprefix("official-")
        if reason := why_missing(version):
            pytest.skip(reason)
        python = str(official_python(version))
    cluster = request.getfixturevalue(CLUSTERS[on])
    folder = tmp_path_factory.getbasetemp()
    tally = run_harness("sdk_conform.py", python, cluster.url, "", areas("sdk"), folder)
    judge(run, label, tally)
