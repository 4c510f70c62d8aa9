"""Load on a server, and what cuts of power at many moments would have left of it; as JSON on the standard output.

`unshare --mount python -m power FOLDER DURABILITY CHANGES CUTS SEED IDLE` in `tests`: so many changes are acknowledged, and if IDLE is not 0, the one
cut comes so many seconds later. In a mount namespace of its own, so that no other process holds
on to its file systems, and nothing of them stays whatever becomes of it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from aistore import LocalCluster
from aistore.server.spawn import ServerStartError
from guarding import AuthnServer
from power.disk import NoDisk, PowerCuts, after_cut, check_system, recorded_disk
from power.load import Found, under_load
from store_truth import problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aistore.server.store.durability import Durability
    from power.disk import Cache, Disk
    from power.load import History, State

MEBIBYTES = 192
DEADLINE = 120.0
CACHES: tuple[Cache, ...] = ("lost", "partly", "kept")


class Loss(NamedTuple):
    """What a cut took away."""

    thing: str
    found: State
    expected: set[State]

    def __str__(self) -> str:
        return f"{self.thing} is {_shown(self.found)}, expected {' or '.join(map(_shown, self.expected))}"


def _shown(state: State) -> str:
    if isinstance(state, tuple):
        return f"({', '.join(map(_shown, state))})"
    return f"{len(state)} bytes {state[:24]!r}" if isinstance(state, bytes) else repr(state)


class Cut(NamedTuple):
    """What came of one cut."""

    acknowledged: int
    cached: int
    """Writes that were in the disk's cache."""
    losses: list[Loss]
    unusable: str
    """Why no server could be started on what was left."""


def load(disk: Disk, durability: Durability, changes: int, seed: int, idle: float) -> tuple[History, int, int]:
    """Load on a server on the disk; what happened, from when on a good part of it had, and when it ended."""
    authn = AuthnServer(disk.folder / "authn")
    try:
        assert authn.url, authn.said
        with LocalCluster(disk.folder / "data", durability=durability, authn=authn.url, etl=False) as cluster:
            # What the servers need to start is on the disk, whatever they are kept from flushing.
            os.sync()
            with under_load(cluster.url, authn.url, seed) as history:
                wait_for(history, changes // 3)
                begun = time.monotonic_ns()
                wait_for(history, changes)
                ended = time.monotonic_ns()
            if idle:
                time.sleep(idle)  # the system writes when it likes: that it does so in time is what is tested
                begun = ended = time.monotonic_ns()
    finally:
        authn.stop()
    return history, begun, ended


def wait_for(history: History, changes: int) -> None:
    """Until so many changes are acknowledged."""
    deadline = time.monotonic() + DEADLINE
    while history.acknowledged(time.monotonic_ns()) < changes:
        assert time.monotonic() < deadline, f"no {changes} changes within {DEADLINE:g} s"
        time.sleep(0.01)


def look(folder: Path, history: History, moment: int, durability: Durability, *, late: bool) -> list[Loss]:
    """Start servers on what a cut left, and compare. Other than in `strict`, things may be as they once were, unless the cut came `late`."""
    authn = AuthnServer(folder / "authn")
    try:
        assert authn.url, authn.said
        with LocalCluster(folder / "data", durability=durability, authn=authn.url, etl=False) as cluster:
            found = Found(cluster.url, authn.url)
            try:
                return compare(
                    found, history.possible if durability == "strict" or late else history.ever, history, moment
                )
            finally:
                found.close()
    finally:
        authn.stop()


def compare(found: Found, expected: Callable[[str, int], set[State]], history: History, moment: int) -> list[Loss]:
    losses = []
    # Uploads and sessions last: to see what is there of them they are ended, which changes objects.
    for thing in sorted(history.things(), key=lambda one: one.startswith(("upload", "session"))):
        possible = expected(thing, moment)
        try:
            state = found.state(thing, possible)
        except (OSError, HTTPException, AssertionError) as error:
            state = f"unreadable ({type(error).__name__}: {error})"
        if state not in possible:
            losses.append(Loss(thing, state, possible))
    return losses


def cut_power(
    folder: Path, durability: Durability, *, changes: int, cuts: int, seed: int, idle: float
) -> Iterator[Cut]:
    """Load, and then what cuts at random moments would have left."""
    with recorded_disk(folder / "disk", MEBIBYTES) as disk:
        history, begun, ended = load(disk, durability, changes, seed, idle)
    power = PowerCuts(disk, folder, seed)
    moments = [ended] if idle else power.moments(begun, ended, cuts)
    for number, moment in enumerate(moments):
        image = folder / f"cut{number}"
        cached = power.image(moment, CACHES[(number + seed) % len(CACHES)], image)
        losses, unusable = [], ""
        with after_cut(image, folder / "after") as after:
            try:
                losses = look(after, history, moment, durability, late=bool(idle))
            except ServerStartError as error:
                unusable = f"{type(error).__name__}: {error}"
            else:
                losses += [Loss(problem, "wrong", {"right"}) for problem in problems(after / "data")]
        image.unlink()
        yield Cut(history.acknowledged(moment), cached, losses, unusable)


def main(folder: Path, durability: str, changes: int, cuts: int, seed: int, idle: float) -> None:
    """Say what came of each cut, or why there is none."""
    try:
        check_system()
        found = cut_power(folder, cast("Durability", durability), changes=changes, cuts=cuts, seed=seed, idle=idle)
        for cut in found:
            print(json.dumps({**cut._asdict(), "losses": list(map(str, cut.losses))}), flush=True)
    except NoDisk as error:
        print(json.dumps({"skipped": str(error)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6]))
