"""Whether the server holds: clients that only hold connections, and what others notice of them."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from aistore import LocalCluster
from bench.report import Row
from bench.server import resident_mib

if TYPE_CHECKING:
    from collections.abc import Iterator

IDLE = 2000
CROWD = 1000
LARGE = 64 << 20
GATE = 1.5


class Seen(NamedTuple):
    """What other clients see: requests a second of 4 connections, and milliseconds that half and 99% of them take at most."""

    per_s: float
    p50: float
    p99: float


def hold(quick: bool) -> list[Row]:
    """A crowd of connections of each kind, and a GET of 1 KiB beside it and without it."""
    rows: list[Row] = []
    with LocalCluster(etl=False) as cluster:
        bucket = cluster.client().bucket("bench").create()
        bucket.object("kib").get_writer().put_content(bytes(1024))
        bucket.object("large").get_writer().put_content(bytes(LARGE))
        rows += _idle(cluster, quick)
        for kinds, what, most in (
            ("head", "slow-loris, a byte of the head a second", 16),
            ("stalled+dripping", "uploads that stall, or send a byte a second", 31),
            ("deaf+sipping", "readers of 64 MiB that never read, or 16 bytes a second", 61),
        ):
            rows.append(_crowd(cluster, kinds, what, most, quick))
    return rows


def _idle(cluster: LocalCluster, quick: bool) -> list[Row]:
    before, alone = resident_mib(cluster.pid), _seen(cluster, quick)
    with _holding(cluster, "idle", IDLE):
        beside = _seen(cluster, quick)
        more = resident_mib(cluster.pid) - before
    return [
        Row(f"{IDLE:,} idle connections, memory", f"{more:.1f} MiB", "", 0, "under 100 MiB", more < 100),
        _compared(f"{IDLE:,} idle connections", alone, beside),
    ]


def _crowd(cluster: LocalCluster, kinds: str, what: str, most: float, quick: bool) -> Row:
    alone = _seen(cluster, quick)
    before = _sockets(cluster.pid)
    with _holding(cluster, kinds, CROWD) as began:
        held = _sockets(cluster.pid) - before
        beside = _seen(cluster, quick)
        while (left := _sockets(cluster.pid) - before) > 0 and time.monotonic() - began < 2 * most:
            time.sleep(0.05)
        took = time.monotonic() - began
    row = _compared(f"{CROWD:,} {what}", alone, beside)
    row.gate += f"; closed within {most} s"
    row.ours += f"; {held - left} closed in {took:.1f} s"
    row.passed = row.passed and left <= 0 and took < most + 2
    return row


def _compared(what: str, alone: Seen, beside: Seen) -> Row:
    worse = Seen(alone.per_s / beside.per_s, beside.p50 / alone.p50, beside.p99 / alone.p99)
    return Row(
        f"{what}: what others see",
        f"p50 {worse.p50:.2f}x, p99 {worse.p99:.2f}x",
        "",
        0,
        f"at most {GATE}x",
        max(worse.p50, worse.p99) <= GATE,
        f"GET 1 KiB, 4 connections: {alone.p50:.2f} and {alone.p99:.2f} ms, {alone.per_s:,.0f}/s alone; {beside.per_s:,.0f}/s beside them",
    )


def _seen(cluster: LocalCluster, quick: bool) -> Seen:
    """Medians of three runs."""
    url = f"{cluster.url}/v1/objects/bench/kib?provider=ais"
    runs = [_run(url, 1 if quick else 3) for _ in range(3)]
    return Seen(*(statistics.median(values) for values in zip(*runs, strict=True)))


def _run(url: str, seconds: int) -> Seen:
    command = ["wrk", "-t1", "-c4", f"-d{seconds}", "--latency", url]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"the server refused requests of wrk:\n{out}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])  # type: ignore[index]  # wrk always prints it
    return Seen(rate, _percentile(out, 50), _percentile(out, 99))


def _percentile(out: str, percent: int) -> float:
    number, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", out).groups()  # type: ignore[union-attr]  # as above
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


@contextmanager
def _holding(cluster: LocalCluster, kinds: str, count: int) -> Iterator[float]:
    """A crowd, and when it had begun."""
    url = urlsplit(cluster.url)
    command = [sys.executable, "-m", "bench.crowd", kinds, url.hostname or "", str(url.port), str(count)]
    process = subprocess.Popen([*command, "/v1/objects/bench/large" if "deaf" in kinds else "/v1/objects/bench/kib"],
                               cwd=Path(__file__).resolve().parents[1], stdout=subprocess.PIPE)  # fmt: skip
    assert process.stdout is not None
    try:
        if process.stdout.readline() != b"ready\n":
            raise SystemExit("the crowd of clients could not connect")
        yield time.monotonic()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _sockets(pid: int) -> int:
    """Open sockets of a process."""
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += str(link.readlink()).startswith("socket:")
        except FileNotFoundError:  # closed meanwhile
            continue
    return found
