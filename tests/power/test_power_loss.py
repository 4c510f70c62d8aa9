"""Power is cut under load: in mode `strict` everything acknowledged is there, and the test would see it if it were not.

All that is written to the disk is recorded (`disk.py`), so one run under load gives as many cuts as one likes: the image of each is what the disk
held at that moment, with what was in its cache lost, kept, or partly written in any order. A start has to find each thing as it was
acknowledged last, or as a change that was under way would have left it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from guarding import SECRET
from power.disk import NoDisk, check_system

if TYPE_CHECKING:
    from collections.abc import Mapping

# Put into the server's process by way of the module that every Python imports: an fsync that does nothing.
LIES = """
import os, re, sqlite3
if "files" in os.environ["LIES"]:
    os.fsync = os.fdatasync = lambda fd: None
if "catalog" in os.environ["LIES"]:
    connect = sqlite3.connect
    def lying(sql):
        return re.sub(r"synchronous *= *[a-zA-Z]+", "synchronous=OFF", sql)
    class Connection(sqlite3.Connection):
        def execute(self, sql, *args):
            return super().execute(lying(sql), *args)
        def executescript(self, sql):
            return super().executescript(lying(sql))
    sqlite3.connect = lambda *args, **options: connect(*args, **{**options, "factory": Connection})
"""


def cut_power(
    folder: Path,
    durability: str,
    *,
    changes: int,
    cuts: int,
    seed: int,
    idle: float = 0,
    environment: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """What came of cuts at random moments. Skips the test where it cannot be made."""
    try:
        check_system()
    except NoDisk as error:
        pytest.skip(str(error))
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "power"]
    done = subprocess.run(
        [*command, *map(str, (folder, durability, changes, cuts, seed, idle))],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "AIS_AUTHN_SECRET_KEY": SECRET, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    found: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    if "skipped" in found[-1]:
        pytest.skip(found[-1]["skipped"])
    assert len(found) == cuts
    return found


def check_strict(folder: Path, *, changes: int, cuts: int, seed: int) -> None:
    for cut in cut_power(folder, "strict", changes=changes, cuts=cuts, seed=seed):
        assert (cut["unusable"], cut["losses"]) == ("", [])
        assert cut["acknowledged"] >= changes // 3


@pytest.mark.timeout(900)
def test_strict_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    check_strict(tmp_path, changes=250, cuts=2, seed=1)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(10, 16))
def test_strict_loses_nothing_in_many_cuts(tmp_path: Path, seed: int) -> None:
    check_strict(tmp_path, changes=1500, cuts=40, seed=seed)


def check_loss_is_seen(folder: Path, lies: str, cuts: int) -> None:
    (folder / "lies").mkdir()
    (folder / "lies" / "sitecustomize.py").write_text(LIES)
    environment = {"PYTHONPATH": str(folder / "lies"), "LIES": lies}
    found = cut_power(folder, "strict", changes=200, cuts=cuts, seed=2, environment=environment)
    assert any(cut["losses"] for cut in found), found


@pytest.mark.timeout(900)
def test_the_loss_is_seen_where_nothing_is_flushed(tmp_path: Path) -> None:
    check_loss_is_seen(tmp_path, "files catalog", 1)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lies", ["files", "catalog"])
def test_the_loss_is_seen_where_either_is_not_flushed(tmp_path: Path, lies: str) -> None:
    check_loss_is_seen(tmp_path, lies, 3)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_relaxed_goes_back_or_says_that_it_cannot(tmp_path: Path) -> None:
    """Each thing is as it once was: nothing is mixed, and nothing wrong is given out as good. Or the catalog is damaged, which a start or the scrub says.

    Meanwhile some files reach the disk and others do not (`writing_back`), so that the catalog names content that was never written.
    """
    cuts = cut_power(tmp_path, "relaxed", changes=3000, cuts=20, seed=5)
    for cut in cuts:
        assert cut["losses"] == []
        assert not cut["unusable"] or "catalog" in cut["unusable"]
    assert any(cut["refused"] for cut in cuts)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_relaxed_loses_no_more_than_the_system_has_not_written_for_a_while(tmp_path: Path) -> None:
    """Half a minute is the age at which Linux writes what is dirty, and five seconds that of ext4's journal."""
    (cut,) = cut_power(tmp_path, "relaxed", changes=1000, cuts=1, seed=6, idle=45)
    assert (cut["unusable"], cut["losses"]) == ("", [])
