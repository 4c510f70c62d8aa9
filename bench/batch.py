"""GetBatch: ours and the official SDK against the same server, in turn."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from aistore import LocalCluster
from bench import server
from bench.batch_client import COUNT, SMALL, names
from bench.environments import figures, official_python
from bench.report import Row

PROGRAM = Path(__file__).with_name("batch_client.py")
OFFICIAL = official_python("2.0.0")
ROUNDS = 3


def _in_turn(operation: str, url: str, rounds: int = ROUNDS) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    ours, official = [], []
    for _ in range(rounds):
        ours.append(figures(sys.executable, PROGRAM, operation, url))
        official.append(figures(OFFICIAL, PROGRAM, operation, url))
        print(".", end="", flush=True)
    return ours, official


def batches(quick: bool) -> list[Row]:
    """All rows; `quick` leaves the gibibyte out."""
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(Path(folder) / "data", durability="relaxed") as cluster,
    ):
        bucket = cluster.client().bucket("batches").create()
        for name in names("small"):
            bucket.object(name).get_writer().put_content(os.urandom(SMALL))
        rows = _small(cluster.url)
        if not quick:
            block = os.urandom(1 << 20)
            for name in names("large"):
                bucket.object(name).get_writer().put_content(block)
            rows.append(_large(cluster))
        return rows


def _small(url: str) -> list[Row]:
    ours, official = _in_turn("small", url)
    singles = max(figures(OFFICIAL, PROGRAM, "single", url)["per_s"] for _ in range(ROUNDS))
    a, b = max(one["per_s"] for one in ours), max(one["per_s"] for one in official)
    what = f"{COUNT:,} x 10 KiB by GetBatch"
    rows = [
        Row(f"{what}, objects/s", f"{a:,.0f}", f"{b:,.0f}", a / b, "at least 3x more", a / b >= 3),
        Row(f"{what}, against single GETs", f"{a:,.0f}", f"{singles:,.0f}", a / singles, "at least 25x", a / singles >= 25),
    ]  # fmt: skip
    a, b = min(one["cpu_us"] for one in ours), min(one["cpu_us"] for one in official)
    rows.append(
        Row(f"{what}, client CPU per entry", f"{a:.1f} us", f"{b:.0f} us", b / a, "at least 8x less", b / a >= 8)
    )
    ours, official = _in_turn("add", url)
    a, b = min(one["cpu_us"] for one in ours), min(one["cpu_us"] for one in official)
    rows.append(Row("Batch.add, CPU per entry", f"{a:.2f} us", f"{b:.2f} us", b / a, "at least 20x less", b / a >= 20))
    ours, official = _in_turn("first", url)
    a, b = min(one["ms"] for one in ours), min(one["ms"] for one in official)
    rows.append(Row(f"first of {COUNT:,} entries", f"{a:.2f} ms", f"{b:.2f} ms", b / a, "under 5 ms", a < 5))
    return rows


def _large(cluster: LocalCluster) -> Row:
    ours, official = _in_turn("large", cluster.url)
    client, other = (max(one["peak_mib"] for one in runs) for runs in (ours, official))
    speed, others = (max(one["gb_s"] for one in runs) for runs in (ours, official))
    peak = server.peak_mib(cluster.pid or 0)
    note = f"{speed:.2f} GB/s, official {others:.2f} GB/s; peak of the server, in both, {peak:.0f} MiB"
    return Row(
        f"{COUNT:,} x 1 MiB by GetBatch, memory of the client", f"{client:.0f} MiB", f"{other:.0f} MiB",
        other / client, "under 128 MiB each", client < 128 and peak < 128, note,
    )  # fmt: skip
