"""A server that is killed while it reads, prefetches, writes through and evicts: nothing partial is cached, nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import threading
import time
from contextlib import suppress
from http.client import HTTPException
from typing import TYPE_CHECKING

import pytest

from aistore import LocalCluster
from backends.conftest import KINDS, Remote
from bench.peers import why_missing
from calling import Caller
from programs import target_pids
from store_truth import problems
from waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from backends.places import Place

READ = {f"r{i}": bytes([i]) * (i * 700_001) for i in range(6)}
WRITTEN = ("w0", "w1")


def _content(name: str, version: int) -> bytes:
    """What is written as a version: small or large in turn."""
    return f"{name}:{version}:".encode() * (10 if version % 2 else 200_000)


class Load:
    """Threads that use a remote bucket until the server dies."""

    def __init__(self, remote: Remote, acknowledged: dict[str, int]) -> None:
        self.wrong: list[str] = []
        self._url = remote.near.url
        self._path = remote.here.object("NAME").get_url().removeprefix(self._url)
        self._bucket = self._path.replace("/objects/", "/buckets/").replace("/NAME", "")
        self._acknowledged = acknowledged
        acts = [self._read, self._read, self._prefetch, self._evict, *(self._writer(name) for name in WRITTEN)]
        self._threads = [threading.Thread(target=self._run, args=(act,)) for act in acts]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self, act: object) -> None:
        assert callable(act)
        dice = random.Random()
        with suppress(OSError, HTTPException), Caller(self._url) as call:
            while True:
                act(call, dice)

    def _read(self, call: Caller, dice: random.Random) -> None:
        name = dice.choice(list(READ))
        got = call("GET", self._path.replace("NAME", name))
        if got.status != 200 or got.body != READ[name]:
            self.wrong.append(f"{name}: {got.status}, {len(got.body)} bytes {got.body[:200]!r}")

    def _prefetch(self, call: Caller, dice: random.Random) -> None:
        call("POST", self._bucket, b'{"action": "prefetch-listrange", "value": {"template": "r"}}')
        time.sleep(dice.uniform(0, 0.05))

    def _evict(self, call: Caller, dice: random.Random) -> None:
        call("DELETE", self._path.replace("NAME", dice.choice(list(READ))), b'{"action": "evict-listrange"}')
        time.sleep(dice.uniform(0, 0.02))

    def _writer(self, name: str) -> object:
        def write(call: Caller, _: random.Random) -> None:
            version = self._acknowledged[name] + 1
            got = call("PUT", self._path.replace("NAME", name), _content(name, version))
            if got.status != 200:
                self.wrong.append(f"{name}: {got.status} {got.body[:300]!r}")
                raise OSError("give up")
            self._acknowledged[name] = version

        return write


@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=(pytest.mark.long, pytest.mark.timeout(1800)))])
@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in ("ais", "s3")])
def test_kills_under_load(places: dict[str, Place], tmp_path: Path, kind: str, targets: int, rounds: int) -> None:
    if kind not in places:
        pytest.skip(why_missing(kind) or "")
    place = places[kind]
    name = place.new_bucket()
    for key, content in READ.items():
        place.put(name, key, content)
    acknowledged = dict.fromkeys(WRITTEN, 0)
    dice = random.Random(f"{kind}{targets}")
    backends = {place.provider: place.options}
    folder = tmp_path / "data"
    with LocalCluster(folder, durability="relaxed", targets=targets, backends=backends) as near:
        for number in range(rounds):
            with near.client() as client:
                remote = Remote(place, name, place.seen_from(client, name), near)
                remote.here.head()
                load = Load(remote, acknowledged)
                if number == 0:  # something has to be there that could be lost
                    until(lambda: all(acknowledged.values()) or load.wrong != [])  # noqa: B023 (awaited here)
                time.sleep(dice.uniform(0.1, 0.8))  # when it dies is what varies
                for pid in (*target_pids(near).values(), near.pid):
                    os.kill(pid, signal.SIGKILL)
                load.join()
                assert load.wrong == []
            near.restart()
            with near.client() as client:
                remote = Remote(place, name, place.seen_from(client, name), near)
                _check(remote, acknowledged)
    assert problems(folder) == []
    assert all(acknowledged.values())


def _check(remote: Remote, acknowledged: dict[str, int]) -> None:
    for name in WRITTEN:
        version = acknowledged[name]
        old = _content(name, version) if version else None
        new = _content(name, version + 1)
        before = remote.there(name)
        read = None if before is None else remote.read(name)
        after = remote.there(name)
        # The last one may have been written without the client having learned of it, and may come there only now.
        assert (before, after) in ((old, old), (old, new), (new, new))
        assert read in (before, after)
        if after == new:
            acknowledged[name] = version + 1
    for name, content in READ.items():
        assert remote.there(name) == content
        assert remote.read(name) == content


def test_what_was_being_changed_in_a_crash_is_read_anew(places: dict[str, Place], tmp_path: Path) -> None:
    place = places["ais"]
    name = place.new_bucket()
    place.put(name, "a", b"old")
    folder = tmp_path / "data"
    with LocalCluster(folder, backends={place.provider: place.options}) as near:
        with near.client() as client:
            assert place.seen_from(client, name).object("a").get_reader().read_all() == b"old"
        near.stop()
        with contextlib.closing(sqlite3.connect(folder / "catalog.db")) as db:
            (number,) = db.execute("SELECT id FROM bucket WHERE name = ?", (name,)).fetchone()
        # As it is after a crash between the answer of the backend and the commit.
        place.put(name, "a", b"new")
        (folder / "remote-writes").mkdir(exist_ok=True)
        (folder / "remote-writes" / "t-0").write_text(json.dumps([number, "a"]))
        (folder / "remote-writes" / "t-1").write_text("[1, ")
        near.start()
        with near.client() as client:
            assert place.seen_from(client, name).object("a").get_reader().read_all() == b"new"
        assert list((folder / "remote-writes").iterdir()) == []


def test_a_target_that_dies_alone_leaves_nothing_stale(places: dict[str, Place]) -> None:
    place = places["ais"]
    name = place.new_bucket()
    acknowledged = dict.fromkeys(WRITTEN, 0)
    for key, content in READ.items():
        place.put(name, key, content)
    with LocalCluster(targets=3, backends={place.provider: place.options}) as near, near.client() as client:
        remote = Remote(place, name, place.seen_from(client, name), near)
        for key, content in READ.items():
            assert remote.read(key) == content
        remote.here.object("w0").get_writer().put_content(_content("w0", 1))
        acknowledged["w0"] = 1
        os.kill(min(target_pids(near).values()), signal.SIGKILL)
        _check(remote, acknowledged)
