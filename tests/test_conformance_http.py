"""The server answers raw HTTP as the reference cluster did when the scenarios were recorded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from aistore import LocalCluster
from conformance_run import is_slow, judge, parameters, run_harness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUNS = {"http/one": ("cluster", "single,own,s3,no-etl"), "http/three": ("cluster3", "targets,own,s3,no-etl")}


@pytest.fixture(scope="session")
def far() -> Iterator[LocalCluster]:
    """The cluster that is the remote one of the others."""
    with LocalCluster() as started:
        yield started


@pytest.mark.parametrize(("run", "label"), parameters("http", tuple(RUNS)))
def test_http(
    run: str,
    label: str,
    far: LocalCluster,
    promote_root: Path,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    fixture, has = RUNS[run]
    has += f",remote={far.url},promote={promote_root}"
    url = request.getfixturevalue(fixture).url
    slow = is_slow(run, label)
    folder = tmp_path_factory.getbasetemp()
    judge(run, label, run_harness("conform.py", "http", run, slow, sys.executable, url, has, folder))
