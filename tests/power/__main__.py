"""Load on a server, and what cuts of power at many moments would have left of it; as JSON on the standard output.

`unshare --mount python -m power FOLDER DURABILITY CHANGES CUTS SEED IDLE` in `tests`: so many changes are acknowledged, and if IDLE is not 0, the one
cut comes so many seconds later. In a mount namespace of its own, so that no other process holds
on to its file systems, and nothing of them stays whatever becomes of it.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from aistore import LocalCluster
from aistore.server.doctor import Patient
from aistore.server.spawn import ServerStartError
from guarding import AuthnServer
from power.disk import NoDisk, PowerCuts, after_cut, check_system, recorded_disk
from power.load import REFUSED, CatalogDamaged, Found, under_load
from store_truth import problems, referrers

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    refused: list[str]
    """What is there, and its content is not, which reading it said."""
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
            with (
                under_load(cluster.url, authn.url, seed) as history,
                writing_back(disk.folder / "data", seed if durability == "relaxed" and not idle else None),
            ):
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


@contextmanager
def writing_back(data: Path, seed: int | None) -> Iterator[None]:
    """Have some of what was written reach the disk, file by file, as a system does that writes when it likes. Without a seed it does that by itself."""
    stop, rng = threading.Event(), random.Random(seed)

    def work() -> None:
        while not stop.wait(rng.random() * 0.1):
            files = [data / f"catalog.db{end}" for end in ("", "-wal")]
            if rng.random() < 0.5:
                files = sorted(data.glob("content/*/*"))
            with suppress(FileNotFoundError, IndexError):
                fd = os.open(rng.choice(files), os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)

    thread = threading.Thread(target=work)
    if seed is not None:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if seed is not None:
            thread.join()


def wait_for(history: History, changes: int) -> None:
    """Until so many changes are acknowledged."""
    deadline = time.monotonic() + DEADLINE
    while history.acknowledged(time.monotonic_ns()) < changes:
        assert time.monotonic() < deadline, f"no {changes} changes within {DEADLINE:g} s"
        time.sleep(0.01)


def look(
    folder: Path, history: History, moment: int, durability: Durability, *, exact: bool
) -> tuple[list[Loss], set[str]]:
    """Start servers on what a cut left, and compare; what is wrong, and what was refused.

    `exact`: all is as it was acknowledged last. Otherwise things may be as they once were, and objects and uploads may be refused whose content is lost.
    """
    authn = AuthnServer(folder / "authn")
    try:
        assert authn.url, authn.said
        with LocalCluster(folder / "data", durability=durability, authn=authn.url, etl=False) as cluster:
            found = Found(cluster.url, authn.url)
            try:
                losses = compare(found, history, moment, exact=exact)
            finally:
                found.close()
    finally:
        authn.stop()
    told = damage(folder / "data", found.refused, repair=not exact)
    return losses + [Loss(problem, "wrong", {"right"}) for problem in told], found.refused


def damage(data: Path, refused: set[str], *, repair: bool) -> list[str]:
    """What is wrong in a data folder that nobody serves, other than that these objects and uploads have lost their content.

    Files may be lost if all that refer to them are refused, and the scrub has to name exactly those objects. With `repair` the rest only has to be
    right when the scrub has mended it; a catalog that it finds damaged is not looked at.
    """
    with Patient(data) as patient:
        named = [problem for problem, _ in patient.examine(full=True, repair=repair).problems]
    if repair and any(kind == "catalog-damaged" for kind, *_ in named):
        return []
    found = ["the scrub finds the catalog sound"] if "catalog" in refused else []
    found += problems(data, lost={content for content, whose in referrers(data).items() if whose <= refused})
    objects = {"ais://{}/{}".format(*thing.split(" ", 2)[1:]) for thing in refused if thing.startswith("object")}
    uploads = {"an upload in parts" for thing in refused if thing.startswith("upload")}
    lost = {problem.where for problem in named if problem.kind in ("content-missing", "content-damaged")}
    found += [f"the scrub finds {where} damaged, which can be read" for where in lost - objects - uploads]
    found += [f"the scrub finds nothing wrong with {where}, which is refused" for where in objects - lost]
    if not repair:
        found += [f"the scrub finds of {one.where}: {one.text}" for one in named if one.where not in lost]
    return found


def compare(found: Found, history: History, moment: int, *, exact: bool) -> list[Loss]:
    losses = []
    # Uploads and sessions last: to see what is there of them they are ended, which changes objects.
    for thing in sorted(history.things(), key=lambda one: one.startswith(("upload", "session"))):
        possible = history.possible(thing, moment) if exact else history.ever(thing, moment)
        allowed = possible if exact else {*possible, REFUSED}
        try:
            state = found.state(thing, possible)
        except CatalogDamaged:
            state = REFUSED
            found.refused.add("catalog")
        except (OSError, HTTPException, AssertionError) as error:
            state = f"unreadable ({type(error).__name__}: {error})"
        if state not in allowed:
            losses.append(Loss(thing, state, allowed))
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
        losses: list[Loss] = []
        refused: set[str] = set()
        unusable = ""
        with after_cut(image, folder / "after") as after:
            try:
                losses, refused = look(after, history, moment, durability, exact=durability == "strict" or bool(idle))
            except ServerStartError as error:
                unusable = f"{type(error).__name__}: {error}"
        image.unlink()
        yield Cut(history.acknowledged(moment), cached, losses, sorted(refused), unusable)


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
