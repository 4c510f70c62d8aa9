"""The server answers raw HTTP as the reference cluster did when the scenarios were recorded."""

from __future__ import annotations

import sys

import pytest

from conformance_run import is_slow, judge, parameters, run_harness

RUNS = {"http/one": ("cluster", "single,own"), "http/three": ("cluster3", "targets,own")}


@pytest.mark.parametrize(("run", "label"), parameters("http", tuple(RUNS)))
def test_http(run: str, label: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    fixture, has = RUNS[run]
    url = request.getfixturevalue(fixture).url
    slow = is_slow(run, label)
    folder = tmp_path_factory.getbasetemp()
    judge(run, label, run_harness("conform.py", "http", run, slow, sys.executable, url, has, folder))
