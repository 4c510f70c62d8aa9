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
    """Make an archive of all objects again and again, and add members to another, by calls and by jobs, until the server is dead."""
    target = {"name": "kill", "provider": "ais"}
    with suppress(OSError, HTTPException), Caller(url) as call:
        while True:
            value = {"tobck": target, "archname": f"made{extension}", "template": "o/"}
            assert call.action("PUT", "/v1/buckets/kill", "archive", value).status == 200
            i = acknowledged[extension]
            path = f"{where('kill', f'grown{extension}')}?archpath=m{i}"
            assert call("PUT", path, b"%d" % i * 3000, {"Ais-Pine": "2"}).status == 200
            acknowledged[extension] += 1
            count = acknowledged["job" + extension] + 1
            more: dict[str, object] = {
                "tobck": target,
                "archname": f"job{extension}",
                "aate": True,
                "objnames": [OBJECTS[count % 40][0]],
            }
            assert call.action("PUT", "/v1/buckets/kill", "archive", more).status == 200
            until(lambda: len(members(call, f"job{extension}", extension)) == count)  # noqa: B023 (awaited before it changes)
            acknowledged["job" + extension] = count


def members(call: Caller, name: str, extension: str) -> Members:
    """Of an archive; none if there is no such object."""
    got = call.get("kill", name)
    assert got.status in (200, 404)
    return unpacked(extension, got.body) if got.status == 200 else []


def check(call: Caller, acknowledged: dict[str, int]) -> None:
    for extension in EXTENSIONS:
        got = call.get("kill", f"made{extension}")
        if got.status == 200:
            assert unpacked(extension, got.body) == OBJECTS
        else:
            assert got.status == 404
        found = members(call, f"grown{extension}", extension)
        # The last one may have been added without the client having learned of it.
        assert len(found) in (acknowledged[extension], acknowledged[extension] + 1)
        assert found == [(f"m{i}", b"%d" % i * 3000) for i in range(len(found))]
        acknowledged[extension] = len(found)
        found = members(call, f"job{extension}", extension)
        assert len(found) in (acknowledged["job" + extension], acknowledged["job" + extension] + 1)
        assert found == [OBJECTS[i % 40] for i in range(1, len(found) + 1)]
        acknowledged["job" + extension] = len(found)


def rounds_of_kills(folder: Path, rounds: int, targets: int) -> None:
    dice = random.Random(targets)
    acknowledged = dict.fromkeys((*EXTENSIONS, *("job" + one for one in EXTENSIONS)), 0)
    with LocalCluster(folder, durability="relaxed", targets=targets) as cluster:
        with Caller(cluster.url) as call:
            call.make_bucket("kill")
            for name, content in OBJECTS:
                assert call.put("kill", name, content).status == 200
        for number in range(rounds):
            workers = [
                threading.Thread(target=keep_busy, args=(cluster.url, extension, acknowledged))
                for extension in EXTENSIONS
            ]
            for worker in workers:
                worker.start()
            if number == 0:  # something has to be there that could be lost
                until(lambda: any(acknowledged.values()))
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


@pytest.mark.parametrize("targets", [1, 3])
def test_kills_while_archives_are_written(tmp_path: Path, targets: int) -> None:
    rounds_of_kills(tmp_path / "data", 2, targets)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("targets", [1, 3])
def test_many_kills_while_archives_are_written(tmp_path: Path, targets: int) -> None:
    rounds_of_kills(tmp_path / "data", 60, targets)
