"""Many files: a folder into a bucket by `put_files`, ours and the official SDK in turn; and the same folder by `sync` and back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from aistore import LocalCluster
from bench import server
from bench.environments import official_python
from bench.report import Row

FILES = 20_000
FILE_BYTES = 10 * 1024
ROUNDS = 3

# Runs with either SDK: nothing but what both have.
_PUT = """
import json, sys, time
from aistore.sdk import Client
bucket = Client(sys.argv[1]).bucket(sys.argv[2])
wall, cpu = time.perf_counter(), time.process_time()
names = bucket.put_files(sys.argv[3], recursive=True, verbose=False)
print(json.dumps({"s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "names": len(names)}))
"""


def files(quick: bool) -> list[Row]:
    """Both rows; `quick` has a tenth of the files."""
    count = FILES // 10 if quick else FILES
    memory = Path("/dev/shm")
    base = memory if memory.is_dir() and shutil.disk_usage(memory).free > 2 << 30 else None  # not the disk is measured
    with tempfile.TemporaryDirectory(dir=base) as name:
        folder = Path(name) / "files"
        _make(folder, count)
        with LocalCluster(Path(name) / "data", durability="relaxed") as cluster:
            return [_put(cluster, folder, count), _sync(cluster, folder, Path(name) / "back", count)]


def _make(folder: Path, count: int) -> None:
    rest = os.urandom(FILE_BYTES - 8)
    for i in range(count):
        path = folder / f"{i // 1000:03}" / f"{i:06}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(i.to_bytes(8, "big") + rest)


def _put(cluster: LocalCluster, folder: Path, count: int) -> Row:
    ours: list[dict[str, float]] = []
    official: list[dict[str, float]] = []
    client, pid = cluster.client(), cluster.pid
    for i in range(ROUNDS):
        for python, results in ((Path(sys.executable), ours), (official_python("2.0.0"), official)):
            bucket = client.bucket(f"put-{i}-{len(ours) + len(official)}").create()
            before = server.cpu_seconds(pid)
            command = [str(python), "-c", _PUT, cluster.url, bucket.name, str(folder)]
            environment = {**os.environ, "PYTHONPATH": ""}
            out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
            result: dict[str, float] = json.loads(out)
            assert result["names"] == count == sum(1 for _ in bucket.list_objects_iter()), bucket
            results.append({**result, "server_s": server.cpu_seconds(pid) - before})
            bucket.delete()
    a, b = min(ours, key=lambda one: one["s"]), min(official, key=lambda one: one["s"])
    note = (
        f"CPU of client and server {a['cpu_s']:.2f} and {a['server_s']:.2f} s, "
        f"official {b['cpu_s']:.2f} and {b['server_s']:.2f} s"
    )
    ratio = b["s"] / a["s"]
    what = f"put_files, {count:,} files of 10 KiB"
    return Row(what, f"{a['s']:.2f} s", f"{b['s']:.2f} s", ratio, "at least 5x", ratio >= 5, note)


def _sync(cluster: LocalCluster, folder: Path, back: Path, count: int) -> Row:
    bucket = cluster.client().bucket("sync").create()
    first = bucket.sync(source=folder, progress=False)
    again = bucket.sync(source=folder, progress=False)
    down = bucket.get_files(back, progress=False)
    assert (first.moved, again.skipped, down.moved) == (count, count, count), (first, again, down)
    moved, unchanged, got = count / first.seconds, count / again.seconds, count / down.seconds
    note = "folder to bucket / again, all unchanged / bucket to folder"
    rates = f"{moved:,.0f} / {unchanged:,.0f} / {got:,.0f} per s"
    return Row(
        f"sync, {count:,} files of 10 KiB", rates, "", 0, "unchanged at least 2x as quick", unchanged >= 2 * moved, note
    )
