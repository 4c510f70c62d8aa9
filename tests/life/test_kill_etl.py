"""A server that is killed while its ETLs work leaves no process, no port and no half-made object, and has its ETLs again."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aistore import LocalCluster
from calling import Caller
from etl_rest import Etl, acting, files_of, listens, ports_of, processes_of
from programs import target_pids
from store_truth import problems
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENT = {f"{size}/{number}": b"x" * size for size in (100, 50_000, 3_000_000) for number in range(20)}
FRAMEWORKS = ("HTTPMultiThreadedServer", "FastAPIServer")


class Load(threading.Thread):
    """Reads and copies through an ETL until the server is gone; an answer that is no error is whole."""

    def __init__(self, url: str, etl: str, number: int) -> None:
        super().__init__()
        self._url = url
        self._etl = etl
        self._number = number
        self.done = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        with suppress(OSError, http.client.HTTPException), Caller(self._url) as call:
            etl = Etl(call, self._etl)
            for i in range(1_000_000):
                name = random.Random(i * 100 + self._number).choice(list(CONTENT))
                if i % 3:
                    got = etl.get("src", name)
                    right = got.body == CONTENT[name].upper()
                else:
                    got = etl.copy(f"src/{name}", f"copies/{self._number}/{name}")
                    right = True
                # What is under way while the processes die may be an error, and never a success that is none.
                if got.status == 200:
                    self.done += 1
                    if not right:
                        self.wrong.append(f"{name}: {len(got.body)} bytes")


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path / "data", targets=request.param, durability="relaxed") as started:
        yield started


def _prepared(cluster: LocalCluster) -> tuple[list[str], list[int]]:
    """Names and ports of an ETL of each framework, with objects and buckets."""
    with Caller(cluster.url) as call:
        for bucket in ("src", "copies"):
            call.make_bucket(bucket)
        for name, content in CONTENT.items():
            assert call.put("src", name, content).status == 200
        etls = [Etl(call).started(acting(kind), env={"NUM_WORKERS": "2"}) for kind in FRAMEWORKS]
        for etl in etls:
            assert etl.get("src", "100/0", "fork").body == CONTENT["100/0"].upper()
    return [etl.name for etl in etls], ports_of(cluster)


@pytest.mark.parametrize(
    ("cluster", "with_targets"),
    [(1, False), (3, False), pytest.param(3, True, marks=pytest.mark.long)],
    indirect=["cluster"],
)
def test_a_kill_under_load(cluster: LocalCluster, with_targets: bool) -> None:
    names, ports = _prepared(cluster)
    assert len(ports) == 2
    assert all(map(listens, ports))
    loads = [Load(cluster.url, name, number) for number, name in enumerate(names * 2)]
    for load in loads:
        load.start()
    with Caller(cluster.url) as call:
        for name in names:
            job = Etl(call, name).bucket("src", f"all-{name}")
            assert job.status == 200
        until(lambda: all(load.done > 5 for load in loads) and len(call.names(f"all-{names[0]}")) > 3)
    processes = processes_of(cluster) - {cluster.pid}
    assert len(processes) > 8
    for pid in (*(target_pids(cluster).values() if with_targets else ()), cluster.pid):
        os.kill(pid, signal.SIGKILL)
    for load in loads:
        load.join()
    assert [load.wrong for load in loads if load.wrong] == []
    until(lambda: not [pid for pid in processes if Path(f"/proc/{pid}").exists()])
    assert not any(map(listens, ports))
    cluster.stop()
    cluster.start()
    assert files_of(cluster) == []
    _whole(cluster, names)
    _again(cluster, names)
    cluster.stop()
    assert problems(cluster.path) == []


def _whole(cluster: LocalCluster, names: list[str]) -> None:
    """Whatever was made is complete, and buckets that a job had made are gone with it unless it was done."""
    with Caller(cluster.url) as call:
        for name in call.names("copies"):
            assert call.get("copies", name).body == CONTENT[name.partition("/")[2]].upper()
        buckets = call("GET", "/v1/buckets", b'{"action":"list"}').body.decode()
        for etl in names:
            if f'"all-{etl}"' in buckets:
                made = {name: call.get(f"all-{etl}", name).body for name in call.names(f"all-{etl}")}
                assert made == {name: content.upper() for name, content in CONTENT.items()}


def _again(cluster: LocalCluster, names: list[str]) -> None:
    """All ETLs are there, do not run, and can be started."""
    with Caller(cluster.url) as call:
        listed = json.loads(call("GET", "/v1/etl").body)
        assert sorted((one["id"], one["stage"]) for one in listed) == sorted((name, "Aborted") for name in names)
        for name in names:
            etl = Etl(call, name)
            assert etl.ask("POST", "/start").status == 200
            assert etl.get("src", "3000000/1").body == CONTENT["3000000/1"].upper()
            assert etl.ask("DELETE").status == 200
