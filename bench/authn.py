"""What asking for tokens costs."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING

from aistore import Client, LocalCluster
from aistore.server.authn.tokens import sign
from aistore.wire import access
from bench import server
from bench.report import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 9
SECRET = "a secret of the benchmark, which is long enough"
URL = "/v1/objects/bench/kib?provider=ais"


def authn(quick: bool) -> list[Row]:
    """GET of 1 KiB by a user with rights on its bucket, against the same by anybody where nobody is asked."""
    seconds = 1 if quick else 3
    with _guarded() as guarded, LocalCluster(etl=False) as plain:
        token = sign({"sub": "root", "admin": True, "exp": int(time.time()) + 3600}, SECRET)
        uuid = Client(guarded.url, token=token).cluster().get_uuid()
        entry = {"bck": {"name": "bench", "provider": "ais", "namespace": {"uuid": uuid}}, "perm": str(access.READ)}
        mine = sign({"sub": "user", "buckets": [entry], "exp": int(time.time()) + 3600}, SECRET)
        for client in (Client(guarded.url, token=token), Client(plain.url)):
            client.bucket("bench").create().object("kib").get_writer().put_content(bytes(1024))
        costs: dict[bool, list[dict[str, float]]] = {True: [], False: []}
        for _ in range(ROUNDS):
            header = f"Authorization: Bearer {mine}"
            costs[True].append(server.wrk(guarded.pid, "-c32", "-H", header, guarded.url + URL, seconds=seconds))
            costs[False].append(server.wrk(plain.pid, "-c32", plain.url + URL, seconds=seconds))
    cpu = {asked: min(one["cpu_us"] for one in found) for asked, found in costs.items()}
    rate = {asked: max(one["per_s"] for one in found) for asked, found in costs.items()}
    more = median(one["cpu_us"] / other["cpu_us"] for one, other in zip(costs[True], costs[False], strict=True)) - 1
    # What it costs is less than what the machine's speed changes by in a minute: each round is compared with the one beside it.
    less = 1 - median(one["per_s"] / other["per_s"] for one, other in zip(costs[True], costs[False], strict=True))
    return [
        Row(
            "AuthN, server CPU per GET of 1 KiB",
            f"{cpu[True]:.1f} us",
            "",
            0,
            "at most 66 us",
            cpu[True] <= 66,
            f"{more:+.1%}",
        ),
        Row(
            "AuthN, GET 1 KiB, 32 connections",
            f"{rate[True]:,.0f}/s",
            "",
            0,
            "under 10% fewer than without",
            less < 0.1,
            f"{-less:+.1%}",
        ),
    ]


@contextmanager
def _guarded() -> Iterator[LocalCluster]:
    os.environ["AIS_AUTHN_SECRET_KEY"] = SECRET
    try:
        cluster = LocalCluster(authn="http://127.0.0.1:1", etl=False).start()
    finally:
        del os.environ["AIS_AUTHN_SECRET_KEY"]
    try:
        yield cluster
    finally:
        cluster.stop()
