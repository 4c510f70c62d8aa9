"""The server answers raw HTTP as the reference cluster did when the scenarios were recorded."""

from __future__ import annotations

import pytest

from conformance_run import areas, judge, parameters, run_harness, this_python

RUNS = {"http one": ("cluster", "single,own"), "http three": ("cluster3", "targets,own")}


@pytest.mark.parametrize(("run", "label"), parameters("http", tuple(RUNS)))
def test_http(run: str, label: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    fixture, has = RUNS[run]
    cluster = request.getfixturevalue(fixture)
    folder = tmp_path_factory.getbasetemp()
    tally = run_harness("conform.py", this_python(), cluster.url, has, areas("http"), folder)
    judge(run, label, tally)
