"""Servers that others reach: they have to be asked for, and say so."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

EVERYWHERE = ["--host", "0.0.0.0", "--port", "0"]
OPEN = "ais: warning: everybody who reaches 0.0.0.0 may read and delete all data"
PLAIN = "ais: warning: tokens and passwords pass 0.0.0.0 in plain text"


def said(folder: Path, *words: str) -> str:
    """What a server says on standard error until it serves, or does not."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("AIS_")}
    environment["AIS_AUTHN_SU_PASS"] = "a password of this test"
    process = subprocess.Popen(
        [sys.executable, "-m", "aistore.cli.main", *words, str(folder)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Stop it"):
            process.terminate()
    return process.communicate(timeout=60)[1]


@pytest.mark.parametrize("words", [["serve"], ["authn", "serve"]], ids=" ".join)
def test_other_addresses_have_to_be_asked_for(tmp_path: Path, words: list[str]) -> None:
    assert "--allow-remote" in said(tmp_path / "data", *words, *EVERYWHERE)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        (["serve", "--allow-remote"], OPEN),
        (["serve", "--authn", "local", "--authn-port", "0"], PLAIN),
        (["authn", "serve", "--allow-remote"], PLAIN),
    ],
    ids=["open", "authn", "authn serve"],
)
def test_an_open_server_warns(tmp_path: Path, words: list[str], warning: str) -> None:
    assert warning in said(tmp_path / "data", *words, *EVERYWHERE)
