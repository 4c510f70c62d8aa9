"""PyTorch: a `DataLoader` over ours and the official map dataset, against the same server, in turn."""

from __future__ import annotations

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from aistore import LocalCluster
from bench import server
from bench.environments import TORCH, figures, official_python, why_missing
from bench.report import Row

PROGRAM = Path(__file__).with_name("pytorch_client.py")
COUNT = 100_000
OFFICIAL_COUNT = 12_800
"""Samples that the official dataset is asked for: its rate does not change, and all of them would take minutes."""
ROUNDS = 3


def why_not() -> str | None:
    """`None` where this can be measured, else why not."""
    if find_spec("torch") is None:
        return "PyTorch is not installed: make test-torch installs it"
    return why_missing(TORCH)


def pytorch(quick: bool) -> list[Row]:
    """Samples per second."""
    count, rounds = (COUNT // 5, 1) if quick else (COUNT, ROUNDS)
    ours, official = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        server.fill(path, count, 1024)
        with LocalCluster(path, durability="relaxed") as cluster:
            for _ in range(rounds):
                ours.append(figures(sys.executable, PROGRAM, cluster.url, str(count)))
                official.append(figures(official_python(TORCH), PROGRAM, cluster.url, str(OFFICIAL_COUNT)))
                print(".", end="", flush=True)
    a, b = max(one["per_s"] for one in ours), max(one["per_s"] for one in official)
    listed = [min(one["list_s"] for one in some) for some in (ours, official)]
    note = f"listed before in {listed[0]:.2f} s, official {listed[1]:.2f} s; official over {OFFICIAL_COUNT:,} of them"
    what = f"DataLoader, map dataset, {count:,} objects of 1 KiB, 2 workers, samples/s"
    return [Row(what, f"{a:,.0f}", f"{b:,.0f}", a / b, "at least 5x more", a / b >= 5, note)]
