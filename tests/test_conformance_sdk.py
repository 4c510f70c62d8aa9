"""Programs written against the documented SDK see the same results: with our SDK and with both official ones, on our server."""

from __future__ import annotations

import pytest

from conformance_run import PACKAGES, interpreter, is_slow, judge, parameters, run_harness

CLUSTERS = {"one": "cluster", "three": "cluster3"}
RUNS = tuple(f"{package}/{on}" for package in PACKAGES for on in CLUSTERS)


@pytest.mark.parametrize(("run", "label"), parameters("sdk", RUNS))
def test_sdk(run: str, label: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    python = interpreter(run)
    url = request.getfixturevalue(CLUSTERS[run.partition("/")[2]]).url
    slow = is_slow(run, label)
    folder = tmp_path_factory.getbasetemp()
    judge(run, label, run_harness("sdk_conform.py", "sdk", run, slow, python, url, "", folder))
