"""A server that is killed while archives are made and extended: each is seen whole or not at all, and nothing is left over."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from contextlib import suppress
from http.client import HTTPException
from typing import TYPE_CHECKING

import pytest

from aistore import LocalCluster
from archives import Members, unpacked
from calling import Caller, where
from programs import target_pids
from store_truth import problems
from waiting import until

if TYPE_CHECKING:
    from pathlib import Path

EXTENSIONS = (".tar", ".tgz", ".zip")
OBJECTS: Members = [(f"o/{i:02}", bytes([i]) * (i * 12_345)) for i in range(40)]


def keep_busy(url: str, extension: str, acknowledged: dict[str, int]) -> None:
    """Make an archive of all objects again and again, and add members to another, until the server is dead."""
    target = {"name": "kill", "provider": "ais"}
    with suppress(OSError, HTTPException), Caller(url) as call:
        while True:
            value = {"tobck": target, "archname": f"made{extension}", "template": "o/"}
            assert call.action("PUT", "/v1/buckets/kill", "archive", value).status == 200
            i = acknowledged[extension]
            path = f"{where('kill', f'grown{extension}')}?archpath=m{i}"
            assert call("PUT", path, b"%d" % i * 3000, {"Ais-Pine": "2"}).status == 200
            acknowledged[extension] += 1


def check(call: Caller, acknowledged: dict[str, int]) -> None:
    for extension in EXTENSIONS:
        got = call.get("kill", f"made{extension}")
        if got.status == 200:
            assert unpacked(extension, got.body) == OBJECTS
        else:
            assert got.status == 404
        got = call.get("kill", f"grown{extension}")
        found = unpacked(extension, got.body) if got.status == 200 else []
        # The last one may have been added without the client having learned of it.
        assert len(found) in (acknowledged[extension], acknowledged[extension] + 1)
        assert found == [(f"m{i}", b"%d" % i * 3000) for i in range(len(found))]
        acknowledged[extension] = len(found)


@pytest.mark.parametrize("targets", [1, 3])
def test_kills_while_archives_are_written(tmp_path: Path, targets: int) -> None:
    dice = random.Random(targets)
    acknowledged = dict.fromkeys(EXTENSIONS, 0)
    with LocalCluster(tmp_path / "data", durability="relaxed", targets=targets) as cluster:
        with Caller(cluster.url) as call:
            call.make_bucket("kill")
            for name, content in OBJECTS:
                assert call.put("kill", name, content).status == 200
        for _ in range(5):
            workers = [
                threading.Thread(target=keep_busy, args=(cluster.url, extension, acknowledged))
                for extension in EXTENSIONS
            ]
            for worker in workers:
                worker.start()
            time.sleep(dice.uniform(0.05, 0.6))  # when it dies is what varies
            for pid in (*target_pids(cluster).values(), cluster.pid):
                os.kill(pid, signal.SIGKILL)
            for worker in workers:
                worker.join()
            cluster.restart()
            with Caller(cluster.url) as call:
                check(call, acknowledged)
        until(lambda: problems(cluster.path) == [])
    assert sum(acknowledged.values()) > 0
