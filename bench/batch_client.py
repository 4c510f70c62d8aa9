"""What `bench/batch.py` runs with either SDK, in a process of its own: `python batch_client.py OPERATION URL`. Prints one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from aistore.sdk import Client

COUNT = 1000
SMALL = 10 * 1024
ADDED = 10_000
ROUNDS = 8


def names(prefix: str) -> list[str]:
    """Names of the objects that are there."""
    return [f"{prefix}/{number:04}" for number in range(COUNT)]


def read(client: Any, bucket: Any, wanted: list[str]) -> int:
    """Read a batch to its end; bytes of content."""
    return sum(len(content) for _, content in client.batch(wanted, bucket=bucket).get())


def small(client: Any, bucket: Any) -> dict[str, float]:
    """Objects per second, in the best round, and CPU of the client for each."""
    wanted = names("small")
    read(client, bucket, wanted)
    took = []
    cpu = time.process_time()
    for _ in range(ROUNDS):
        began = time.perf_counter()
        assert read(client, bucket, wanted) == COUNT * SMALL
        took.append(time.perf_counter() - began)
    return {"per_s": COUNT / min(took), "cpu_us": (time.process_time() - cpu) / ROUNDS / COUNT * 1e6}


def single(_: Any, bucket: Any) -> dict[str, float]:
    """The same objects, one by one."""
    began = time.perf_counter()
    for name in names("small"):
        bucket.object(name).get_reader().read_all()
    return {"per_s": COUNT / (time.perf_counter() - began)}


def add(client: Any, bucket: Any) -> dict[str, float]:
    """CPU of adding one entry of 10,000."""
    best = float("inf")
    for _ in range(3):
        batch = client.batch(bucket=bucket)
        cpu = time.process_time()
        for _ in range(ADDED):
            batch.add("small/0000")
        best = min(best, time.process_time() - cpu)
    return {"cpu_us": best / ADDED * 1e6}


def first(client: Any, bucket: Any) -> dict[str, float]:
    """Milliseconds from the request to the first entry, the median of 21."""
    wanted = names("small")
    took = []
    for _ in range(21):
        batch = client.batch(wanted, bucket=bucket)
        began = time.perf_counter()
        items = iter(batch.get())
        next(items)
        took.append((time.perf_counter() - began) * 1e3)
        for _ in items:
            pass
    return {"ms": sorted(took)[10]}


def peak_mib() -> float:
    """Highest resident memory of this program (`ru_maxrss` would count what the process was that started it, too)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def large(client: Any, bucket: Any) -> dict[str, float]:
    """Peak memory of this process while it reads 1,000 MiB."""
    began = time.perf_counter()
    assert read(client, bucket, names("large")) == COUNT << 20
    took = time.perf_counter() - began
    return {"peak_mib": peak_mib(), "gb_s": (COUNT << 20) / took / 1e9}


if __name__ == "__main__":
    client = Client(sys.argv[2])
    operation = {one.__name__: one for one in (small, single, add, first, large)}[sys.argv[1]]
    print(json.dumps(operation(client, client.bucket("batches"))))
