"""`make bench`: ours and the official SDK 2.0 against the same embedded server in one run, and the server under load.

    python -m bench [--only sdk,import,big,server,list,files,local,archive,remote,batch,dsort,pytorch,etl,authn,tls,hold,doctor] [--quick]

Each figure is the best of three, ours and official in turn. What was measured is kept in bench/measured.json, each part with its
date, and shown in docs/measured.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from aistore import LocalCluster
from bench import remote, server
from bench.archives import archives
from bench.authn import authn
from bench.batch import batches
from bench.doctor import doctor
from bench.dsort import dsort
from bench.environments import official_python, why_missing
from bench.etl import etl
from bench.files import files
from bench.hold import hold
from bench.local import local
from bench.pytorch import pytorch
from bench.pytorch import why_not as why_no_pytorch
from bench.report import PARTS, Report, Row
from bench.tls import tls

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
OFFICIAL = official_python("2.0.0")
OURS = Path(sys.executable)
ROUNDS = 3


def environment() -> dict[str, str]:
    """The environment of what is measured: nothing of this project on the path, temporary files in memory."""
    return {**os.environ, "PYTHONPATH": "", "TMPDIR": in_memory() or tempfile.gettempdir()}


def measure(python: Path, operation: str, endpoint: str, count: int) -> dict[str, float]:
    """Run one operation of the workload in a process of its own."""
    command = [str(python), str(HERE / "workload.py"), operation, endpoint, str(count)]
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment()).stdout
    result: dict[str, float] = json.loads(out.splitlines()[-1])
    return result


def child_cpu(command: list[str]) -> tuple[float, float]:
    """CPU seconds and peak memory (MiB) of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=environment())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss / 1024


def best(results: list[dict[str, float]], key: str) -> float:
    """The best of some rounds: the least CPU, time or memory, the highest rate."""
    values = [result[key] for result in results]
    return max(values) if key in ("per_s", "gb_s") else min(values)


def touch_memory() -> None:
    """Touch 4 GiB of memory and give it back, in a process of its own.

    Under a hypervisor that takes free memory back, the first use of a page costs a multiple of the copy that is measured; whoever comes
    first would pay for all.
    """
    code = "import mmap; m = mmap.mmap(-1, 4 << 30); [m.__setitem__(i, 1) for i in range(0, 4 << 30, mmap.PAGESIZE)]"
    subprocess.run([sys.executable, "-c", code], check=True)


def in_memory() -> str | None:
    """A folder in memory with room for some gibibytes, so that the disk's mood is not measured; None if there is none."""
    shm = Path("/dev/shm")
    return str(shm) if shm.is_dir() and shutil.disk_usage(shm).free > 6 << 30 else None


def in_turn(
    operation: str, endpoint: str, count: int, rounds: int = ROUNDS
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Results of ours and of the official SDK, measured in turn."""
    ours: list[dict[str, float]] = []
    official: list[dict[str, float]] = []
    large = operation.startswith("gib")
    for _ in range(rounds):
        for python, results in ((OURS, ours), (OFFICIAL, official)):
            if large:
                touch_memory()
            results.append(measure(python, operation, endpoint, count))
        print(".", end="", flush=True)
    return ours, official


@contextmanager
def on_one_core(pid: int) -> Iterator[None]:
    """Keep a server and what is started meanwhile on one core, where the system can.

    A client of one thread and its server take turns. On two cores of a virtual machine each wakes the other's idle core, which costs about
    20 us of CPU a call, the same for everybody, and comes and goes with the scheduler's mood.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    threads = [0, *(int(one.name) for one in Path(f"/proc/{pid}/task").iterdir())]
    for thread in threads:
        os.sched_setaffinity(thread, {max(cores)})
    try:
        yield
    finally:
        for thread in threads:
            os.sched_setaffinity(thread, cores)


def sdk(endpoint: str, pid: int, quick: bool) -> list[Row]:
    """Small objects: client CPU per call, calls per second."""
    count = 500 if quick else 3000
    with on_one_core(pid):
        rows = one_thread(endpoint, count)
    ours, official = in_turn("get8", endpoint, count)
    a, b = best(ours, "per_s"), best(official, "per_s")
    rows.append(Row("GET 1 KiB, calls/s, 8 threads", f"{a:,.0f}", f"{b:,.0f}", a / b, "at least 8x more", a / b >= 8))
    tasks = [measure(OURS, "aget", endpoint, count) for _ in range(ROUNDS)]
    a = best(tasks, "per_s")
    note = f"official: its 8 threads, it has no asyncio; CPU per call {best(tasks, 'cpu_us'):.1f} us"
    name = "GET 1 KiB, calls/s, 32 asyncio tasks"
    rows.append(Row(name, f"{a:,.0f}", f"{b:,.0f}", a / b, "at least 8x more", a / b >= 8, note))
    return rows


def one_thread(endpoint: str, count: int) -> list[Row]:
    """One call after another."""
    rows = []
    for operation, name, gate in (
        ("get", "GET 1 KiB, client CPU per call", 12),
        ("head", "HEAD, client CPU per call", 12),
        ("range", "range GET, client CPU per call", 12),
        ("put", "PUT 1 KiB, client CPU per call", 12),
    ):
        ours, official = in_turn(operation, endpoint, count)
        a, b = best(ours, "cpu_us"), best(official, "cpu_us")
        rows.append(Row(name, f"{a:.1f} us", f"{b:.0f} us", b / a, f"at least {gate}x less", b / a >= gate))
        if operation != "put":
            a, b = best(ours, "per_s"), best(official, "per_s")
            label = {"get": "GET 1 KiB", "head": "HEAD", "range": "range GET"}[operation]
            rows.append(
                Row(f"{label}, calls/s, 1 thread", f"{a:,.0f}", f"{b:,.0f}", a / b, "at least 8x more", a / b >= 8)
            )
    return rows


def imports(endpoint: str) -> list[Row]:
    """What starting costs: import alone, and the way to the first object."""
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(5):
        for who, python in (("ours", OURS), ("official", OFFICIAL)):
            found.setdefault(f"bare {who}", []).append(child_cpu([str(python), "-c", "pass"]))
            found.setdefault(f"import {who}", []).append(child_cpu([str(python), "-c", "import aistore"]))
            found.setdefault(f"first {who}", []).append(
                child_cpu([str(python), str(HERE / "workload.py"), "first_get", endpoint])
            )
    cpu = {key: min(c for c, _ in values) * 1e3 for key, values in found.items()}
    a, b = cpu["import ours"] - cpu["bare ours"], cpu["import official"] - cpu["bare official"]
    first = cpu["first ours"], cpu["first official"]
    return [
        Row("`import aistore`, CPU", f"{a:.1f} ms", f"{b:.0f} ms", b / max(a, 0.1), "at most a third", a * 3 <= b),
        Row(
            "interpreter start to first GET, CPU",
            f"{first[0]:.0f} ms",
            f"{first[1]:.0f} ms",
            first[1] / first[0],
            "at most half",
            first[0] * 2 <= first[1],
        ),
    ]


def big(endpoint: str, pid: int) -> list[Row]:
    """A gibibyte: into memory, to a file, from a file."""
    bare = []
    for _ in range(ROUNDS):
        touch_memory()
        bare.append(measure(OURS, "bare", endpoint, 1))
    ours, official = in_turn("gib", endpoint, 1)
    loop, a, b = best(bare, "gb_s"), best(ours, "gb_s"), best(official, "gb_s")
    over = best(ours, "over_mib")
    rows = [
        Row("GET 1 GiB into `bytes`, verified", f"{a:.2f} GB/s", f"{b:.2f} GB/s", a / b, "0.8 of a bare loop", a / loop >= 0.8,
            f"bare `recv_into` loop without checksum {loop:.2f} GB/s: {a / loop:.2f} of it"),
        Row("GET 1 GiB, memory beside the body", f"{over:.0f} MiB", f"{best(official, 'over_mib'):.0f} MiB", best(official, "over_mib") / max(over, 1), "at most 32 MiB", over <= 32),
    ]  # fmt: skip
    for operation, name in (("gib_to_file", "GET 1 GiB to a file"), ("gib_from_file", "PUT 1 GiB from a file")):
        ours, official = in_turn(operation, endpoint, 1)
        a, b, peak = best(ours, "gb_s"), best(official, "gb_s"), best(ours, "peak_mib")
        cpu = best(ours, "cpu_s"), best(official, "cpu_s")
        note = (
            f"client CPU {cpu[0]:.2f} s, official {cpu[1]:.2f} s; "
            f"peak memory of client {peak:.0f} MiB, of server {server.peak_mib(pid):.0f} MiB"
        )
        rows.append(Row(name, f"{a:.2f} GB/s", f"{b:.2f} GB/s", a / b, "at least official", a >= b and peak < 64, note))
    return rows


def listing(quick: bool) -> list[Row]:
    """A bucket of a million objects."""
    count = 100_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        server.fill(path, count)
        with LocalCluster(path, durability="relaxed") as cluster:
            before = server.resident_mib(cluster.pid or 0)
            ours, official = in_turn("list", cluster.url, count, 2)
            after = server.resident_mib(cluster.pid or 0)
            pages = server.page_costs(cluster.url, count)
        start = min((server.start_and_memory(path) for _ in range(3)), key=lambda result: result["start_s"])
    a, b = best(ours, "per_s"), best(official, "per_s")
    spread = max(pages.values()) / min(pages.values())
    return [
        Row(f"list {count:,} objects, entries/s", f"{a:,.0f}", f"{b:,.0f}", a / b, "at least 300,000", a >= 300_000,
            f"memory of the server {before:.0f} MiB before, {after:.0f} MiB after"),
        Row("a page of 1,000 at start, middle, end", " / ".join(f"{ms:.2f}" for ms in pages.values()) + " ms", "", 0, "within 1.5x", spread <= 1.5),
        Row(f"server start with {count:,} objects", f"{start['start_s']:.2f} s", "", 0, "under 0.5 s", start["start_s"] < 0.5),
    ]  # fmt: skip


def under_load(cluster: LocalCluster) -> list[Row]:
    """The server alone, by wrk."""
    pid, url = cluster.pid or 0, cluster.url
    gets = [server.wrk(pid, "-c32", f"{url}/v1/objects/bench/kib?provider=ais") for _ in range(ROUNDS)]
    script = server.put_script()
    puts = [server.wrk(pid, "-c16", "-s", script, url) for _ in range(ROUNDS)]
    with (
        tempfile.TemporaryDirectory(dir=HERE) as folder,
        LocalCluster(Path(folder) / "data", durability="strict") as strict,
    ):
        strict.client().bucket("bench").create()
        durable = [server.wrk(strict.pid or 0, "-c16", "-s", script, strict.url) for _ in range(ROUNDS)]
    with tempfile.TemporaryDirectory() as folder:
        starts = [server.start_and_memory(Path(folder) / str(i)) for i in range(5)]
    Path(script).unlink()
    rate, cpu = best(gets, "per_s"), best(gets, "cpu_us")
    relaxed, full = best(puts, "per_s"), best(durable, "per_s")
    start, idle = statistics.median(s["start_s"] for s in starts), max(s["idle_mib"] for s in starts)
    return [
        Row("server, GET 1 KiB, 32 connections", f"{rate:,.0f}/s", "", 0, "at least 15,000/s", rate >= 15_000),
        Row("server, CPU per GET", f"{cpu:.1f} us", "", 0, "at most 60 us", cpu <= 60),
        Row(
            "server, PUT 1 KiB, 16 connections, relaxed",
            f"{relaxed:,.0f}/s",
            "",
            0,
            "at least 6,000/s",
            relaxed >= 6000,
        ),
        Row("server, PUT 1 KiB, 16 connections, strict", f"{full:,.0f}/s", "", 0, "at least 3,000/s", full >= 3000),
        Row("server start to first answer", f"{start:.2f} s", "", 0, "under 0.5 s", start < 0.5),
        Row("server, idle memory", f"{idle:.0f} MiB", "", 0, "under 60 MiB", idle < 60),
    ]


def prepare(cluster: LocalCluster, with_big: bool) -> None:
    """Bucket and objects of the workload."""
    bucket = cluster.client().bucket("bench")
    bucket.create()
    bucket.object("kib").get_writer().put_content(bytes(range(256)) * 4)
    if with_big:
        block = os.urandom(1 << 20)
        bucket.object("gib").get_writer().put_content(block for _ in range(1024))


def measured(parts: set[str], quick: bool) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each part, as they are measured."""
    if parts & {"sdk", "import", "big", "server"}:
        with (
            tempfile.TemporaryDirectory(dir=in_memory() if "big" in parts else None) as folder,
            LocalCluster(Path(folder) / "data", durability="relaxed") as cluster,
        ):
            prepare(cluster, "big" in parts)
            if "sdk" in parts:
                yield "sdk", sdk(cluster.url, cluster.pid or 0, quick)
            if "import" in parts:
                yield "import", imports(cluster.url)
            if "big" in parts:
                yield "big", big(cluster.url, cluster.pid or 0)
            if "server" in parts:
                yield "server", under_load(cluster)
    for part, rows in (
        ("list", listing), ("files", files), ("local", local), ("archive", archives), ("remote", remote.rows), ("batch", batches),
        ("dsort", dsort), ("pytorch", pytorch), ("etl", etl), ("authn", authn), ("tls", tls), ("hold", hold),
        ("doctor", doctor),
    ):  # fmt: skip
        if part in parts:
            yield part, rows(quick)


def main() -> int:
    """Run the benchmark; exit status 1 if a gate is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, comma-separated")
    parser.add_argument(
        "--quick", action="store_true", help="fewer calls, smaller data, and nothing is kept: to try it"
    )
    options = parser.parse_args()
    parts = set(options.only.split(","))
    if unknown := parts.difference(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))} (there are {', '.join(PARTS)})")
    if reason := why_missing("2.0.0"):
        parser.error(f"there is nothing to compare with: {reason}")
    if "pytorch" in parts and (reason := why_no_pytorch()):
        parser.error(f"part pytorch cannot be measured: {reason}")
    report = Report(
        date.today().isoformat(),
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}",
    )
    for part, rows in measured(parts, options.quick):
        report.add(part, rows)
    if not options.quick:
        report.keep(HERE / "measured.json", HERE.parent / "docs")
    return report.judge()


if __name__ == "__main__":
    sys.exit(main())
