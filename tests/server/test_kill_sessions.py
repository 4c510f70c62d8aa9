"""A server is killed under a load of every kind of write: nothing acknowledged is lost, nothing half written stays."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import threading
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import pytest

from aistore import LocalCluster
from calling import Caller, where
from store_truth import problems
from waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from aistore.server.store.durability import Durability

WRITERS = 4
KEYS = 5
SIZES = (0, 3_000, 40_000, 900_000)


class State(NamedTuple):
    """An object as a client sees it."""

    content: bytes
    custom: tuple[tuple[str, str], ...] = ()


class Session(NamedTuple):
    """An append session: what flushing it makes of the object."""

    key: str
    handle: str
    content: bytes


class Writer(threading.Thread):
    """Changes objects of its own in every way, and remembers what each of them may be (None: missing)."""

    def __init__(self, url: str, number: int, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.url = url
        self.possible: dict[str, set[State | None]] = {f"w{number}/k{key}": {None} for key in range(KEYS)}
        self.session: Session | None = None
        self.acknowledged = 0
        self.wrong: BaseException | None = None

    def again(self) -> Writer:
        """A writer that goes on where this one was stopped."""
        other = Writer(self.url, 0, self.random.randrange(1 << 30))
        other.possible, other.session = self.possible, self.session
        return other

    def run(self) -> None:
        try:
            with Caller(self.url) as call:
                while True:
                    self.act(call)
                    self.acknowledged += 1
        except (OSError, http.client.HTTPException):
            pass  # the server is dead: what was under way may or may not have happened
        except BaseException as error:
            self.wrong = error

    def act(self, call: Caller) -> None:
        key = self.random.choice(list(self.possible))
        (now,) = self.possible[key]
        dice = self.random.random()
        if dice < 0.4:
            self.put(call, key, now)
        elif dice < 0.5:
            self.change(call, key, None, lambda: call.delete("b", key).status, (200,) if now else (404,))
        elif dice < 0.65 and now is not None:
            self.patch(call, key, now)
        elif dice < 0.9:
            self.append(call, key, now)
        else:
            self.check(call, key)

    def change(self, call: Caller, key: str, new: State | None, work: object, good: tuple[int, ...] = (200,)) -> None:
        """Do something after which the object is `new`; until it is acknowledged it may be that or what it was."""
        self.possible[key] = {*self.possible[key], new}
        status = work()  # type: ignore[operator]  # a call without arguments
        assert status in good, f"{key}: {status}"
        self.possible[key] = {new}

    def content(self) -> bytes:
        size = self.random.choice(SIZES)
        stamp = b"%d," % self.random.randrange(1 << 40)
        return (stamp * (size // len(stamp) + 1))[:size]

    def put(self, call: Caller, key: str, now: State | None) -> None:
        content = self.content()
        new = State(content, now.custom if now else ())
        self.change(call, key, new, lambda: call.put("b", key, content).status)

    def patch(self, call: Caller, key: str, now: State) -> None:
        pairs = {self.random.choice("ab"): str(self.random.randrange(1000))}
        new = State(now.content, tuple(sorted({**dict(now.custom), **pairs}.items())))
        self.change(
            call, key, new, lambda: call("PATCH", where("b", key), json.dumps({"value": pairs}).encode()).status
        )

    def append(self, call: Caller, key: str, now: State | None) -> None:
        session = self.session
        if session is None:
            session = Session(key, "", now.content if now else b"")
        elif self.random.random() < 0.4:
            self.flush(call, session)
            return
        piece = self.content()
        got = call("PUT", f"{where('b', session.key)}?append_type=append&append_handle={quote(session.handle)}", piece)
        assert got.status == 200, got.body
        self.session = Session(session.key, got.headers["Ais-Append-Handle"], session.content + piece)

    def flush(self, call: Caller, session: Session) -> None:
        states = self.possible[session.key]
        custom = {state.custom if state else () for state in states}
        for one in custom:
            self.possible[session.key] = self.possible[session.key] | {State(session.content, one)}
        path = f"{where('b', session.key)}?append_type=flush&append_handle={quote(session.handle)}"
        got = call("PUT", path)
        assert got.status == 200, got.body
        self.possible[session.key] = {State(session.content, one) for one in custom}
        self.session = None

    def check(self, call: Caller, key: str) -> None:
        """The object is one of what it may be; from now on it is that one."""
        got = call.get("b", key)
        if got.status == 404:
            found: State | None = None
        else:
            assert got.status == 200, got.body
            pairs = (line.partition("=") for line in got.headers.get_all("Ais-Custom-Md") or [])
            found = State(got.body, tuple(sorted((name, value) for name, _, value in pairs)))
        shown = [state and (len(state.content), state.content[:20], state.custom) for state in self.possible[key]]
        assert found in self.possible[key], (
            f"{key} is {found and (len(found.content), found.content[:20], found.custom)}, expected one of {shown}"
        )
        self.possible[key] = {found}

    def verify(self, call: Caller) -> None:
        """After the restart: all objects, and the session that was open can be flushed."""
        for key in self.possible:
            self.check(call, key)
        if self.session is not None:
            session = self.session
            (before,) = self.possible[session.key]
            self.flush(call, session)
            # a flush that was under way when the server died may have happened: then this one did nothing
            self.possible[session.key].add(before)
            self.check(call, session.key)


def rounds_of_kills(folder: Path, rounds: int, durability: Durability, targets: int, seed: int) -> None:
    rng = random.Random(seed)
    with LocalCluster(folder, durability=durability, targets=targets) as cluster:
        with Caller(cluster.url) as call:
            call.make_bucket("b")
        writers = [Writer(cluster.url, number, rng.randrange(1 << 30)) for number in range(WRITERS)]
        acknowledged = 0
        for number in range(rounds):
            for writer in writers:
                writer.start()
            if number == 0:  # something has to be there that could be lost
                until(lambda: all(writer.acknowledged or writer.wrong for writer in writers))  # noqa: B023 (awaited here)
            time.sleep(rng.uniform(0.02, 0.4))  # when it dies is what varies
            os.kill(cluster.pid, signal.SIGKILL)  # of several processes the gateway: its targets live on for a moment
            for writer in writers:
                writer.join()
            assert [writer.wrong for writer in writers if writer.wrong] == []
            acknowledged += sum(writer.acknowledged for writer in writers)
            cluster.restart()
            with Caller(cluster.url) as call:
                for writer in writers:
                    writer.verify(call)
                there = [key for writer in writers for key, (state,) in writer.possible.items() if state is not None]
                assert call.names("b") == sorted(there)
            for writer in writers:
                writer.url = cluster.url
            writers = [writer.again() for writer in writers]
        assert acknowledged > rounds
    assert problems(folder) == []
    assert {path.name for path in (folder / "work").glob("*")} <= {
        writer.session.handle.split("|")[1] for writer in writers if writer.session
    } | abandoned(folder)


def abandoned(folder: Path) -> set[str]:
    """Sessions whose first answer never reached the client: they go after a day."""
    return {path.name for path in (folder / "work").glob("*") if path.stat().st_nlink == 1}


@pytest.mark.parametrize(("durability", "targets"), [("strict", 1), ("relaxed", 1), ("relaxed", 3)])
def test_kills_under_every_kind_of_write(tmp_path: Path, durability: Durability, targets: int) -> None:
    rounds_of_kills(tmp_path / "data", 2, durability, targets, seed=targets)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("durability", "targets"), [("strict", 1), ("relaxed", 1), ("strict", 3)])
def test_many_kills_under_every_kind_of_write(tmp_path: Path, durability: Durability, targets: int) -> None:
    rounds_of_kills(tmp_path / "data", 50, durability, targets, seed=100 + targets)
