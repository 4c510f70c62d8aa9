"""AuthN, and clusters that ask for its tokens, answer as the reference did, and official SDKs see the same results."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from conformance_run import PACKAGES, interpreter, judge, parameters, run_harness

if TYPE_CHECKING:
    from guarding import AuthnServer, Guarded

AREA = "authn"
CLUSTERS = {"one-authn": "guarded", "three-authn": "guarded3"}
HAS = {"one-authn": "single,own", "three-authn": "targets,own"}


@pytest.mark.parametrize(("run", "label"), parameters("http", tuple(f"http/{on}" for on in CLUSTERS), AREA))
def test_http(
    run: str,
    label: str,
    authn: AuthnServer,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    on = run.partition("/")[2]
    guarded: Guarded = request.getfixturevalue(CLUSTERS[on])
    has = f"{HAS[on]},authn={authn.url}"
    folder = tmp_path_factory.getbasetemp()
    script = "../conform_authn.py"
    judge(run, label, run_harness(script, "http", run, False, sys.executable, guarded.url, has, folder, AREA))


@pytest.mark.parametrize(
    ("run", "label"), parameters("sdk", tuple(f"{package}/{on}" for package in PACKAGES for on in CLUSTERS), AREA)
)
def test_sdk(
    run: str,
    label: str,
    authn: AuthnServer,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    python = interpreter(run)
    guarded: Guarded = request.getfixturevalue(CLUSTERS[run.partition("/")[2]])
    folder = tmp_path_factory.getbasetemp()
    has = f"authn={authn.url}"
    judge(run, label, run_harness("sdk_conform.py", "sdk", run, False, python, guarded.url, has, folder, AREA))
