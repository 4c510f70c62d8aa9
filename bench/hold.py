"""Whether the server holds: clients that only hold connections, and what others notice of them."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from aistore import LocalCluster
from aistore.http1.limits import Limits
from bench.report import Row
from bench.server import resident_mib

if TYPE_CHECKING:
    from collections.abc import Iterator

IDLE = 2000
CROWD = 1000
LARGE = 64 << 20
GATE = 1.5
WRITE = 20  # seconds that a client may not read, instead of 60, so that the run ends soon
ROUNDS = 6  # each of a second for each server: a crowd may be gone after 16


class Seen(NamedTuple):
    """What other clients see: milliseconds that half and 99% of their requests take at most, and requests a second."""

    p50: float
    p99: float
    per_s: float


def hold(_: bool) -> list[Row]:
    """A crowd of connections of each kind, and a GET of 1 KiB beside it, and of a server that has no crowd."""
    rows: list[Row] = []
    with LocalCluster(etl=False, limits={"write": WRITE}) as held, LocalCluster(etl=False) as free:
        for cluster in (held, free):
            bucket = cluster.client().bucket("bench").create()
            bucket.object("kib").get_writer().put_content(bytes(1024))
        held.client().bucket("bench").object("large").get_writer().put_content(bytes(LARGE))
        rows += _idle(held, free)
        for kinds, what, most in (
            ("head", "slow-loris, a byte of the head a second", Limits.head),
            ("stalled+dripping", "uploads that stall, or send a byte a second", Limits.body),
            ("deaf+sipping", "readers of 64 MiB that never read, or 16 bytes a second", WRITE),
        ):
            rows.append(_crowd(held, free, kinds, what, most))
    return rows


def _idle(held: LocalCluster, free: LocalCluster) -> list[Row]:
    _seen(held)  # what serving takes is not what connections take
    before = resident_mib(held.pid)
    with _holding(held, "idle", IDLE):
        row = _compared(f"{IDLE:,} idle connections", held, free)
        more = resident_mib(held.pid) - before
    return [Row(f"{IDLE:,} idle connections, memory", f"{more:.1f} MiB", "", 0, "under 100 MiB", more < 100), row]


def _crowd(held: LocalCluster, free: LocalCluster, kinds: str, what: str, most: float) -> Row:
    before = _settled(held.pid)
    with _holding(held, kinds, CROWD) as began:
        while (count := _sockets(held.pid) - before) < CROWD and time.monotonic() - began < most / 2:
            time.sleep(0.02)
        row = _compared(f"{CROWD:,} {what}", held, free)
        while (left := _sockets(held.pid) - before) > 0 and time.monotonic() - began < 2 * most:
            time.sleep(0.05)
        took = time.monotonic() - began
    row.gate += f", closed {most:g} s after their last useful byte"
    row.ours += f"; {count - max(0, left)} of {count} closed after {took:.1f} s"
    row.passed = row.passed and left <= 0 and count >= CROWD and took < 1.5 * most
    return row


def _compared(what: str, held: LocalCluster, free: LocalCluster) -> Row:
    """The best of each: what comes from other work on the machine is in both."""
    found: dict[str, list[Seen]] = {held.url: [], free.url: []}
    for _ in range(ROUNDS):
        for cluster in (held, free):
            found[cluster.url].append(_seen(cluster))
    beside, alone = (
        Seen(min(one.p50 for one in runs), min(one.p99 for one in runs), max(one.per_s for one in runs))
        for runs in found.values()
    )
    p50, rate = beside.p50 / alone.p50, alone.per_s / beside.per_s
    return Row(
        f"{what}: what others see",
        f"p50 {p50:.2f}x, requests {1 / rate:.2f}x",
        "",
        0,
        f"at most {GATE}x worse",
        max(p50, rate) <= GATE,
        f"GET 1 KiB, 4 connections: p50 {beside.p50:.2f} ms, p99 {beside.p99:.2f}, {beside.per_s:,.0f}/s; without them {alone.p50:.2f}, {alone.p99:.2f}, {alone.per_s:,.0f}/s",
    )


def _seen(cluster: LocalCluster) -> Seen:
    command = ["wrk", "-t1", "-c4", "-d1", "--latency", f"{cluster.url}/v1/objects/bench/kib?provider=ais"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"the server refused requests of wrk:\n{out}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])  # type: ignore[index]  # wrk always prints it
    if not rate:  # nobody was served for a second
        return Seen(1e3, 1e3, 0.1)
    return Seen(_percentile(out, 50), _percentile(out, 99), rate)


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


def _settled(pid: int) -> int:
    """Open sockets of a process, once no more are closed."""
    before = -1
    while (now := _sockets(pid)) != before:
        before = now
        time.sleep(0.5)
    return now


def _sockets(pid: int) -> int:
    """Open sockets of a process."""
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += str(link.readlink()).startswith("socket:")
        except FileNotFoundError:  # closed meanwhile
            continue
    return found
