"""`ais doctor --repair` that is killed at many moments: the folder is in order after the next one, and no object was lost."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from aistore import LocalCluster
from store_truth import problems
from waiting import until

if TYPE_CHECKING:
    from pathlib import Path

OBJECTS = 120


def command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "aistore.cli.main", "doctor", str(folder), "--repair", "--quick"]


def break_much(folder: Path) -> None:
    """Hundreds of repairs to do."""
    with closing(sqlite3.connect(folder / "catalog.db")) as db:
        db.execute("UPDATE file SET refs = refs + 1")
        db.execute("DELETE FROM file WHERE id % 3 = 0")
        db.execute("UPDATE usage SET objects = objects + 7")
        db.executemany("INSERT INTO small (data) VALUES (?)", [(b"nobody's %d" % i,) for i in range(50)])
        db.executemany("INSERT INTO chunks VALUES (?, 1, 1)", [(10_000_000 + i,) for i in range(50)])
        db.commit()
    for number in range(3000, 3050):
        path = folder / "content" / f"{1:08x}" / f"{4096 + number:016x}"
        path.write_bytes(b"nobody's")
        path.chmod(0o600)


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.long)])
def test_repair_survives_kills(tmp_path: Path, kills: int) -> None:
    folder = tmp_path / "d"
    contents = {f"o{i}": os.urandom(10_000 + i) for i in range(OBJECTS)}
    with LocalCluster(folder, durability="relaxed") as cluster:
        bucket = cluster.client().bucket("b").create()
        for name, content in contents.items():
            bucket.object(name).get_writer().put_content(content)
    break_much(folder)
    chance = random.Random(kills)
    cut = 0
    for _ in range(kills):
        process = subprocess.Popen(command(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            # From when it has the folder on; how far it gets until then does not matter.
            until(lambda: process.poll() is not None or (folder / "lock").read_bytes() != b"")  # noqa: B023 (awaited here)
            process.wait(chance.uniform(0.0, 0.4))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            cut += 1
        process.communicate()
        (folder / "lock").write_bytes(b"")
    assert subprocess.run(command(folder), capture_output=True, timeout=120).returncode == 0
    assert problems(folder) == []
    assert len(list((folder / "lost+found").iterdir())) >= 100
    with LocalCluster(folder, durability="relaxed") as cluster:
        bucket = cluster.client().bucket("b")
        for name, content in contents.items():
            assert bucket.object(name).get_reader().read_all() == content
    assert kills < 10 or cut
