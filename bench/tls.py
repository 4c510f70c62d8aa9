"""What TLS costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from aistore import LocalCluster
from bench import server
from bench.environments import official_python, why_missing
from bench.report import Row

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 5
URL = "/v1/objects/bench/kib?provider=ais"
SIZE = 1 << 30

READ = """
import json, sys, time
from aistore.sdk import Client
endpoint, ca, size = sys.argv[1], sys.argv[2] or None, int(sys.argv[3])
bucket = Client(endpoint, ca_cert=ca).bucket("bench")
bucket.object("kib").get_reader().read_all()
wall, cpu = time.perf_counter(), time.process_time()
assert len(bucket.object("large").get_reader().read_all()) == size
print(json.dumps({"gb_s": size / (time.perf_counter() - wall) / 1e9, "cpu_s": time.process_time() - cpu}))
"""


def tls(quick: bool) -> list[Row]:
    """GET of 1 KiB over connections that stay, and of 1 GiB, against the same over plain HTTP, in turn."""
    seconds = 2 if quick else 5
    size = SIZE >> 2 if quick else SIZE
    with LocalCluster(etl=False, tls=True) as secured, LocalCluster(etl=False) as plain:
        both = {True: secured, False: plain}
        for cluster in both.values():
            bucket = cluster.client().bucket("bench").create()
            bucket.object("kib").get_writer().put_content(bytes(1024))
            bucket.object("large").get_writer().put_content(memoryview(bytes(size)))
        small: dict[bool, list[dict[str, float]]] = {True: [], False: []}
        large: dict[bool, list[dict[str, float]]] = {True: [], False: []}
        official: list[dict[str, float]] = []
        for _ in range(ROUNDS):
            for secure, cluster in both.items():
                small[secure].append(server.wrk(cluster.pid, "-c32", cluster.url + URL, seconds=seconds))
                large[secure].append(_read(sys.executable, cluster, size, secure))
        if not why_missing("2.0.0"):
            official = [_read(str(official_python("2.0.0")), secured, size, True) for _ in range(2)]
    return [*_small(small), _large(large, official, size)]


def _small(found: dict[bool, list[dict[str, float]]]) -> list[Row]:
    rate = {secure: max(one["per_s"] for one in several) for secure, several in found.items()}
    cpu = {secure: min(one["cpu_us"] for one in several) for secure, several in found.items()}
    share = rate[True] / rate[False]
    name = "TLS, GET 1 KiB, 32 connections"
    note = f"plain: {rate[False]:,.0f}/s; server CPU {cpu[True]:.1f} us, plain {cpu[False]:.1f} us"
    return [Row(name, f"{rate[True]:,.0f}/s", "", 0, "at least 0.7 of plain", share >= 0.7, f"{share:.2f}; {note}")]


def _large(found: dict[bool, list[dict[str, float]]], official: list[dict[str, float]], size: int) -> Row:
    speed = {secure: max(one["gb_s"] for one in several) for secure, several in found.items()}
    cpu = {secure: min(one["cpu_s"] for one in several) for secure, several in found.items()}
    share = speed[True] / speed[False]
    theirs = max((one["gb_s"] for one in official), default=0.0)
    note = f"{share:.2f}; plain: {speed[False]:.2f} GB/s; client CPU {cpu[True]:.2f} s, plain {cpu[False]:.2f} s"
    name = f"TLS, GET {'1 GiB' if size == SIZE else '256 MiB'}, one connection"
    ratio = speed[True] / theirs if theirs else 0
    return Row(
        name,
        f"{speed[True]:.2f} GB/s",
        f"{theirs:.2f} GB/s" if theirs else "",
        ratio,
        "at least 0.5 of plain",
        share >= 0.5,
        note,
    )


def _read(python: str, cluster: LocalCluster, size: int, secure: bool) -> dict[str, float]:
    ca: Path | str = cluster.ca_cert if secure else ""
    # `requests` would take these instead of the CA that the client is given.
    env = {name: value for name, value in os.environ.items() if name not in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")}
    command = [python, "-c", READ, cluster.url, str(ca), str(size)]
    out = subprocess.run(command, check=True, capture_output=True, text=True, env={**env, "PYTHONPATH": ""}).stdout
    result: dict[str, float] = json.loads(out.splitlines()[-1])
    return result
