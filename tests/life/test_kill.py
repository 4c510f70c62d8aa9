"""A server that is killed at any time keeps what it acknowledged, and shows nothing torn."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import threading
import time
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

import pytest

from aistore import LocalCluster
from programs import target_pids
from waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from aistore.server.store.durability import Durability

WRITERS = 4
KEYS = 12
# Small content lives in the catalog, larger content in files, the largest is still under way when the server dies.
SIZES = (0, 100, 5_000, 60_000, 2_000_000)

Version: TypeAlias = "int | None"
"""`None`: the object does not exist."""


def content_of(key: str, version: int) -> bytes:
    """Bytes that say of which key and version they are, all the way through."""
    size = SIZES[version % len(SIZES)]
    stamp = f"{key} {version};".encode()
    return (stamp * (size // len(stamp) + 1))[: max(size, len(stamp))]


class Caller:
    """Plain HTTP that follows redirects and never repeats anything."""

    def __init__(self, url: str) -> None:
        self._base = urlsplit(url).netloc
        self._connections: dict[str, http.client.HTTPConnection] = {}

    def __call__(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        where = self._base
        for _ in range(3):
            connection = self._connections.setdefault(where, http.client.HTTPConnection(where, timeout=30))
            connection.request(method, path, body)
            response = connection.getresponse()
            content = response.read()
            if response.status not in (301, 307):
                return response.status, content
            location = urlsplit(response.headers["Location"])
            where, path = location.netloc, f"{location.path}?{location.query}"
        raise AssertionError(f"{method} {path} is redirected without end")

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()


class Writer(threading.Thread):
    """Writes, overwrites, deletes and reads objects of its own, and remembers what each of them may be."""

    def __init__(self, number: int, possible: dict[str, set[Version]], seed: int) -> None:
        super().__init__()
        self.keys = [f"w{number}/k{key}" for key in range(KEYS)]
        self.possible = possible
        self.random = random.Random(seed)
        self.acknowledged = 0
        self.wrong: str | None = None
        self.url = ""

    def run(self) -> None:
        caller = Caller(self.url)
        try:
            while True:
                self.act(caller)
        except (OSError, http.client.HTTPException):
            pass  # the server is dead: what was under way may or may not have happened
        except AssertionError as error:
            self.wrong = str(error)
        finally:
            caller.close()

    def act(self, caller: Caller) -> None:
        key = self.random.choice(self.keys)
        path = f"/v1/objects/kill/{key}"
        dice = self.random.random()
        if dice < 0.6:
            version = self.random.randrange(1_000_000)
            before = set(self.possible[key])
            self.possible[key] = before | {version}
            status, said = caller("PUT", path, content_of(key, version))
            assert status == 200, f"PUT {key}: {status} {said!r}"
            self.possible[key] = {version}
        elif dice < 0.75:
            before = set(self.possible[key])
            self.possible[key] = before | {None}
            status, said = caller("DELETE", path)
            assert status == (404 if before == {None} else 200), f"DELETE {key}: {status} {said!r}"
            self.possible[key] = {None}
        else:
            check(caller, key, self.possible)
        self.acknowledged += 1


def check(caller: Caller, key: str, possible: dict[str, set[Version]]) -> None:
    """What is read is one of the versions that may be there, whole; afterwards it is that one."""
    status, content = caller("GET", f"/v1/objects/kill/{key}")
    if status == 404:
        assert None in possible[key], f"{key} is gone, it was one of {possible[key]}"
        possible[key] = {None}
        return
    assert status == 200, f"GET {key}: {status} {content[:200]!r}"
    found = [version for version in possible[key] if version is not None and content_of(key, version) == content]
    assert found, f"{key} holds {len(content)} bytes {content[:40]!r}, expected one of {possible[key]}"
    possible[key] = {found[0]}


def listed(caller: Caller) -> dict[str, int]:
    """Names and sizes of all objects, by the listing."""
    message = json.dumps({"action": "list", "name": "", "value": {"props": "name,size", "pagesize": 0}}).encode()
    status, content = caller("GET", "/v1/buckets/kill", message)
    assert status == 200, content
    return {entry["name"]: int(entry.get("size", 0)) for entry in json.loads(content)["entries"] or []}


def one_round(cluster: LocalCluster, possible: dict[str, set[Version]], seed: int) -> int:
    """Load, kill, restart, check. Returns how many operations were acknowledged."""
    writers = [Writer(number, possible, seed * WRITERS + number) for number in range(WRITERS)]
    for writer in writers:
        writer.url = cluster.url
        writer.start()
    if seed == 0:  # something has to be there that could be lost
        until(lambda: all(writer.acknowledged or writer.wrong for writer in writers))
    time.sleep(random.Random(seed).uniform(0.02, 0.5))  # when it dies is what varies
    # Targets first: those of a gateway that dies would notice, and stop in order.
    for pid in (*target_pids(cluster).values(), cluster.pid):
        os.kill(pid, signal.SIGKILL)
    for writer in writers:
        writer.join()
    assert [writer.wrong for writer in writers if writer.wrong] == []
    cluster.restart()
    caller = Caller(cluster.url)
    try:
        for key in possible:
            check(caller, key, possible)
        there = {key: len(content_of(key, version)) for key, (version,) in possible.items() if version is not None}
        assert listed(caller) == there
    finally:
        caller.close()
    return sum(writer.acknowledged for writer in writers)


def kill_loop(folder: Path, rounds: int, durability: Durability, targets: int) -> None:
    possible: dict[str, set[Version]] = {f"w{w}/k{k}": {None} for w in range(WRITERS) for k in range(KEYS)}
    with LocalCluster(folder, durability=durability, targets=targets) as cluster:
        caller = Caller(cluster.url)
        assert caller("POST", "/v1/buckets/kill", b'{"action": "create-bck"}')[0] == 200
        caller.close()
        acknowledged = [one_round(cluster, possible, seed) for seed in range(rounds)]
    assert sum(acknowledged) > rounds


@pytest.mark.parametrize(("durability", "targets"), [("strict", 1), ("relaxed", 1), ("relaxed", 3)])
def test_kills_under_load(tmp_path: Path, durability: Durability, targets: int) -> None:
    kill_loop(tmp_path / "data", 2, durability, targets)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("durability", "targets"), [("strict", 1), ("relaxed", 1), ("strict", 3)])
def test_many_kills_under_load(tmp_path: Path, durability: Durability, targets: int) -> None:
    kill_loop(tmp_path / "data", 60, durability, targets)
