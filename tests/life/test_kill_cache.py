"""A server that is killed while it fills, writes through and evicts the cache of a remote bucket: nothing is lost, and nothing left over."""

from __future__ import annotations

import http.client
import os
import random
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from aistore import LocalCluster
from calling import Caller, where
from life.test_kill_catalog import wait_for
from programs import target_pids
from store_truth import problems, stored_bytes
from waiting import until

if TYPE_CHECKING:
    from pathlib import Path

WORKERS = 3
NAMES = 6
SIZES = (500, 30_000, 400_000)
REMOTE = "provider=ais&namespace=@far"

Possible = dict[str, set[bytes]]


def keep_busy(url: str, number: int, possible: Possible, dice: random.Random, wrong: list[str]) -> None:
    """Read, write and evict objects of its own until the server is dead."""
    names = sorted(possible)
    with suppress(OSError, http.client.HTTPException), Caller(url) as call:
        while not wrong:
            name, what = dice.choice(names), dice.random()
            path = f"{where('cached', name)}?{REMOTE}"
            if what < 0.4:
                got = call("GET", path)
                if got.status != 200 or got.body not in possible[name]:
                    wrong.append(f"GET {name}: {got.status}, {len(got.body)} bytes")
            elif what < 0.6:
                content = b"%d;" % dice.randrange(1 << 40) * dice.choice(SIZES)
                possible[name] = possible[name] | {content}
                got = call("PUT", path, content)
                if got.status != 200:
                    wrong.append(f"PUT {name}: {got.status} {got.body!r}")
                possible[name] = {content}
            elif what < 0.9:
                got = call.action(
                    "DELETE", f"/v1/buckets/cached?{REMOTE}", "evict-listrange", {"template": f"{number}/"}
                )
                if got.status != 200 or wait_for(call, got.body.decode())["aborted"]:
                    wrong.append(f"evict {number}/: {got.status} {got.body!r}")
            else:
                got = call.action("DELETE", f"/v1/buckets/cached?{REMOTE}&keep_bck_md=true", "evict-remote-bck")
                if got.status != 200:
                    wrong.append(f"evict the bucket: {got.status} {got.body!r}")


def rounds_of_kills(folder: Path, rounds: int, targets: int) -> None:
    dice = random.Random(targets)
    possible: list[Possible] = [
        {f"{w}/{i}": {b"%d %d;" % (w, i) * 5_000} for i in range(NAMES)} for w in range(WORKERS)
    ]
    with (
        LocalCluster() as far,
        Caller(far.url) as there,
        LocalCluster(folder, durability="relaxed", targets=targets, backends={"ais": {"far": far.url}}) as near,
    ):
        there.make_bucket("cached")
        for objects in possible:
            for name, (content,) in objects.items():
                assert there.put("cached", name, content).status == 200
        for _ in range(rounds):
            wrong: list[str] = []
            workers = [
                threading.Thread(target=keep_busy, args=(near.url, i, objects, random.Random(dice.random()), wrong))
                for i, objects in enumerate(possible)
            ]
            for worker in workers:
                worker.start()
            time.sleep(dice.uniform(0.05, 0.6))  # when it dies is what varies
            for pid in (*target_pids(near).values(), near.pid):
                os.kill(pid, signal.SIGKILL)
            for worker in workers:
                worker.join()
            assert wrong == []
            near.restart()
            with Caller(near.url) as call:
                for objects in possible:
                    for name in objects:
                        # A write that was cut off may have reached the other cluster, and the answer that is awaited there not.
                        content = there.get("cached", name).body
                        assert content in objects[name], f"{name}: {len(content)} bytes"
                        latest = call("GET", f"{where('cached', name)}?{REMOTE}&latest-ver=true")
                        assert latest.status == 200, latest.body
                        assert latest.body == content, f"{name}: {len(latest.body)} bytes, not {len(content)}"
                        objects[name] = {content}
            until(lambda: problems(folder) == [])
            assert stored_bytes(folder)[0] == sum(len(c) for objects in possible for (c,) in objects.values())
        with Caller(near.url) as call:
            got = call.action("DELETE", f"/v1/buckets/cached?{REMOTE}", "evict-listrange", {"template": ""})
            assert not wait_for(call, got.body.decode())["aborted"]
        until(lambda: stored_bytes(folder)[0] == 0)
        assert len(there.names("cached")) == WORKERS * NAMES


@pytest.mark.parametrize("targets", [1, 2])
def test_kills_while_a_cache_is_filled_and_evicted(tmp_path: Path, targets: int) -> None:
    rounds_of_kills(tmp_path / "data", 2, targets)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("targets", [1, 3])
def test_many_kills_while_a_cache_is_filled_and_evicted(tmp_path: Path, targets: int) -> None:
    rounds_of_kills(tmp_path / "data", 60, targets)
