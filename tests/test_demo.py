"""`make demo`: what it prints, and what it leaves behind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[1] / "examples" / "demo.py"


def run_demo(folder: Path, *arguments: object) -> str:
    """What the demo prints, run in a folder, with its temporary files below it."""
    (folder / "tmp").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, DEMO, *map(str, arguments)],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder / "tmp")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""  # bars are for terminals
    assert list((folder / "tmp").iterdir()) == []
    return done.stdout


@pytest.fixture
def own_files(tmp_path: Path) -> Path:
    """A folder as a user may have one: nested, with blanks, other letters and an empty file."""
    folder = tmp_path / "my files"
    (folder / "änd deeper").mkdir(parents=True)
    (folder / "empty").write_bytes(b"")
    (folder / "änd deeper" / "a b#c?.txt").write_text("text")
    (folder / "large.bin").write_bytes(bytes(range(256)) * 40_000)
    return folder


def test_it_stores_reads_restarts_and_trains(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the demo's data set comes with scikit-learn: run make test")
    pytest.importorskip("webdataset", reason="the demo writes shards with webdataset: run make test")
    said = run_demo(tmp_path)
    assert "1,799 objects" in said
    for step in ("store", "list", "read each whole", "stream", "as a file", "restart", "read all again"):
        assert step in said
    for way in ("by single GETs", "by GetBatch"):
        assert re.search(rf"load an epoch {way} .* samples/s", said)
    accuracy = re.search(r"accuracy on the 20 % held out: ([\d.]+)%", said)
    assert accuracy is not None
    assert float(accuracy[1]) > 90
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]


def test_it_takes_ones_own_files_and_keeps_them_on_request(own_files: Path, tmp_path: Path) -> None:
    for _ in range(2):  # again, onto what was kept
        said = run_demo(tmp_path, "--data", own_files, "--keep")
        assert "3 objects, 10,240,004 bytes" in said
        assert "by GetBatch" in said
        assert "no training" in said
    assert (tmp_path / "demo-data" / "catalog.db").exists()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, DEMO, "--data", tmp_path / "none"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "is not a folder" in done.stderr
