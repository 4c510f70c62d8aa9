"""A server that is killed while records are sorted: shards are seen whole or not at all, no record is lost, and nothing is left over."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from aistore import LocalCluster
from calling import Caller
from programs import target_pids
from shards import DEADLINE, Places, merged, records, shards
from store_truth import problems
from waiting import until

if TYPE_CHECKING:
    from pathlib import Path

MADE = records(2000, size=8000)
EVERYTHING = sorted(merged(MADE))
RECORDS = dict(EVERYTHING)


def kill_all(cluster: LocalCluster) -> None:
    for pid in (*target_pids(cluster).values(), cluster.pid or 0):
        os.kill(pid, signal.SIGKILL)
    cluster.restart()


def check_over(places: Places, job_id: str) -> bool:
    """Whether the job had succeeded; if not, it is shown as aborted, with a reason."""
    with Caller(places.cluster.url) as call:
        got = call("GET", f"/v1/sort?uuid={job_id}")
    assert got.status == 200, got.body
    infos = json.loads(got.body).values()
    assert all(info["archived"] for info in infos)
    for info in infos:
        assert bool(info["Metrics"].get("errors")) == info["aborted"] == info["Metrics"]["aborted"]
    return not any(info["aborted"] for info in infos)


def rounds_of_kills(folder: Path, rounds: int, targets: int, extension: str) -> None:
    dice = random.Random(targets)
    with LocalCluster(folder, durability="relaxed", targets=targets) as cluster:
        for number in range(rounds):
            with cluster.client() as client:
                source = client.bucket("in").create(exist_ok=True)
                target = client.bucket(f"out{number}").create()
                places = Places(cluster, client, source, target)
                if number == 0:
                    places.put(shards(MADE, 4, extension))
                in_place = number % 2 == 1
                spec: dict[str, Any] = {
                    "output_shard_size": "100KB",
                    "input_extension": extension,
                    "output_extension": extension,
                }
                if in_place:  # each round replaces all shards by as many others
                    spec |= {
                        "output_bck": source.as_model().as_dict(),
                        "output_format": "in-{0..3}",
                        "output_shard_size": "",
                    }
                    spec["algorithm"] = {"kind": "shuffle"}
                job = client.dsort()
                job_id = job.start(places.spec(**spec))
                time.sleep(dice.uniform(0, 0.6))  # when it dies is what varies
                if targets > 1 and number % 3 == 2:  # a target alone is missed by nobody
                    killed = target_pids(cluster)
                    os.kill(next(iter(killed.values())), signal.SIGKILL)
                    assert job.wait(DEADLINE, verbose=False)
                    until(lambda: target_pids(cluster) != killed)  # noqa: B023 (awaited before it changes)
                else:
                    kill_all(cluster)
            with cluster.client() as client:
                places = Places(cluster, client, client.bucket("in"), client.bucket(f"out{number}"))
                succeeded = check_over(places, job_id)
                # The input is whole, be it the old one or the new one.
                assert sorted(merged(places.made(places.source))) == EVERYTHING
                found = places.made(places.target)
                made = merged(found)
                assert len(set(made)) == len(made)
                assert all(RECORDS[name] == content for name, content in made)
                if succeeded and not in_place:
                    assert sorted(made) == EVERYTHING
                assert not list((cluster.path / "work").glob("*"))
        until(lambda: problems(cluster.path) == [])


@pytest.mark.parametrize(("targets", "extension"), [(1, ".tar"), (1, ".tgz"), (3, ".tar")])
def test_kills_while_records_are_sorted(tmp_path: Path, targets: int, extension: str) -> None:
    rounds_of_kills(tmp_path / "data", 2 if targets == 1 else 3, targets, extension)  # a target alone in the third


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("targets", "extension"), [(1, ".tar"), (1, ".zip"), (3, ".tgz")])
def test_many_kills_while_records_are_sorted(tmp_path: Path, targets: int, extension: str) -> None:
    rounds_of_kills(tmp_path / "data", 40, targets, extension)
