"""`examples/etl_*.py`: what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, folder: Path, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(folder.iterdir()) == []
    return done.stdout.splitlines()


def test_md5_of_each_object(tmp_path: Path) -> None:
    said = run("etl_md5.py", tmp_path)
    assert [re.fullmatch(r"[0-9a-f]{32} random/(\d)\.bin", line)[1] for line in said] == ["0", "1", "2", "3", "4"]  # type: ignore[index]  # a mismatch fails


def test_images_are_resized(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the data set comes with scikit-learn: run make test")
    resized, read = run("etl_resize.py", tmp_path, "12x10")
    assert resized.startswith("200 images of (8, 8) resized to {(12, 10)} in ")
    assert read == "0/0000.png read at (64, 48)"


def test_shards_become_records(tmp_path: Path) -> None:
    *records, count = run("etl_tokens.py", tmp_path)
    assert [line.partition(" records")[0] for line in records] == [f"shard-{number}.jsonl 20" for number in range(3)]
    assert records[0].endswith("the first: {'name': '0/000.txt', 'tokens': [78, 578]}")
    assert count == "shard-0.tar has 146 tokens"
