"""Failing the n-th call to the system or the catalog while a server does what it is asked, for n = 1, 2, 3... until it succeeds.

After each failure the client was told of it, or got what it asked for; what was there is there, unchanged or changed as a whole (by jobs, object
by object); nothing is held on to; and the server goes on. After a commit that failed it says that it has to be started again, and goes on then.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import pytest

from aistore.server.node import Node
from aistore.server.settings import ServerSettings
from aistore.server.store.errors import StoreBroken
from failing_operations import (
    AT_ONCE,
    LARGE,
    ONE_BY_ONE,
    REMOTE,
    STARTING,
    TAR,
    TRANSFORMING,
    Refused,
    World,
    has_transformer,
    read_transformed,
    transform_bucket,
)
from faults import FAULTS, Faults, inject
from store_truth import problems, settle
from waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aistore import LocalCluster
    from aistore.server.store.durability import Durability

# -- one attempt ---------------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """Which calls fail, and how."""

    number: int
    lasting: bool
    durability: Durability
    calls: frozenset[str] = frozenset()
    """Only these; none: all."""


KINDS = {
    "one error": Kind(errno.EIO, False, "strict"),
    "full from there on": Kind(errno.ENOSPC, True, "relaxed"),
    "no descriptor": Kind(errno.EMFILE, False, "relaxed", frozenset({"open"})),
}


async def started(folder: Path, durability: Durability, far: str, *, etl: bool = False) -> Node:
    backends = {"ais": {"far": far}} if far else {}
    promoted = folder.parent / "promoted"
    node = Node(
        ServerSettings(folder, durability=durability, etl=etl, promote_root=str(promoted.resolve()), backends=backends)
    )
    await node.start()
    return node


async def prepare(w: World) -> None:
    await w.action("POST", f"/v1/buckets/{w.b}", "create-bck")
    for name, content in (("small", b"old small"), ("large", LARGE), ("a.tar", TAR)):
        await w("PUT", w.at(name), content)
    w.proof.touch(0o600)
    if w.node.etls is not None:
        await has_transformer(w)
    if w.far:
        bucket = w.far_bucket
        await w("POST", f"/v1/buckets/{bucket}", b'{"action": "create-bck"}', url=w.far)
        for name in ("o", "p"):
            await w("PUT", w.at(name, bucket), LARGE, url=w.far)
        await w("HEAD", f"/v1/buckets/{bucket}?namespace={quote('@far', safe='')}")


def held(node: Node) -> list[str]:
    """Descriptors of content and of files that are gone: of a server that does nothing there are none."""
    found = []
    root = str(node.settings.data_dir)
    for entry in Path("/proc/self/fd").iterdir() if Path("/proc/self/fd").is_dir() else ():
        with contextlib.suppress(OSError):
            path = str(entry.readlink())
            inside = path.removeprefix(root).split("/")[1:]
            if (
                path.startswith(root)
                and "-shm" not in path
                and (len(inside) > 2 or "(deleted)" in path or inside[0] == "work")
            ):
                found.append(path)
    return found


async def settled(node: Node) -> None:
    """Wait until nothing is under way, and check that nothing is held on to."""
    deadline = asyncio.get_running_loop().time() + DEADLINE
    while held(node) or node.store.content.pending or node.server.memory.used:
        assert asyncio.get_running_loop().time() < deadline, (
            f"call {FAULTS.hit}: {held(node)}, {node.store.content.pending} bytes of uploads, {node.server.memory.used} bytes of bodies"
        )
        await asyncio.sleep(0.002)


class Attempt(NamedTuple):
    hit: str | None
    failure: Refused | None
    before: dict[str, object]
    after: dict[str, object]


async def attempt(w: World, operation: Callable[[World], Awaitable[None]], kind: Kind | None) -> Attempt:
    await prepare(w)
    before = w.state()
    failure: Refused | None = None
    if kind is not None:
        FAULTS.arm(w.number, number=kind.number, lasting=kind.lasting, calls=kind.calls)
    try:
        await operation(w)
    except Refused as refused:
        failure = refused
    finally:
        await w.node.store.content.settle_garbage()  # which goes on after the answer: it fails, too
        hit = FAULTS.disarm()
        w.proof.unlink()
    with contextlib.suppress(StoreBroken):  # now it is known whether a commit under way failed
        await w.node.store.catalog.submit(lambda _: None)
    await settled(w.node)
    return Attempt(hit, failure, before, w.state())


def check(done: Attempt, good: dict[str, object], *, whole: bool, where: str, cached: object = None) -> None:
    """`cached`: what may be there, too, since it can be fetched again at any time."""
    if done.failure is None:
        assert done.after == good, f"{where}: it was told to be done"
    elif whole:
        assert done.after == done.before, f"{where}: {done.failure}"
    else:
        for name in done.before.keys() | done.after.keys() | good.keys():
            possible = (done.before.get(name), good.get(name), cached if "/" in name else None)
            assert done.after.get(name) in possible, f"{where}: {name} ({done.failure})"


async def fail_each(
    folder: Path, operation: Callable[[World], Awaitable[None]], kind: Kind, far: str, *, whole: bool, step: int
) -> int:
    """Fail the first call, and each that comes so many later; how many there are."""
    (folder / "promoted" / "sub").mkdir(parents=True)
    (folder / "promoted" / "one").write_bytes(LARGE)
    (folder / "promoted" / "sub" / "two").write_bytes(b"two")
    etl = operation in (*TRANSFORMING, *STARTING)
    node = await started(folder / "data", kind.durability, far, etl=etl)
    test, cached = str(folder), (LARGE, "{}") if far else None
    number = 0
    try:
        first = await attempt(World(node, 0, far, test), operation, None)
        assert first.failure is None
        while True:
            number += step if number else 1
            w = World(node, number, far, test)
            done = await attempt(w, operation, kind)
            where = f"call {number} ({done.hit})"
            check(done, first.after, whole=whole, where=where, cached=cached)
            if node.store.catalog.broken:
                assert done.hit == "COMMIT", where
                with pytest.raises(Refused, match="start the server again"):
                    await w.action("POST", f"/v1/buckets/n{number}-other", "create-bck")
                await node.stop()
                node = await started(folder / "data", kind.durability, far, etl=etl)
                w.node = node
                check(
                    done._replace(after=w.state()),
                    first.after,
                    whole=whole,
                    where=f"{where} after a start",
                    cached=cached,
                )
            await make_sure(w)
            if done.hit is None:
                return number - 1
    finally:
        await node.stop()


async def make_sure(w: World) -> None:
    """The server goes on."""
    bucket = f"n{w.number}-after"
    await w.action("POST", f"/v1/buckets/{bucket}", "create-bck")
    await w("PUT", w.at("next", bucket), LARGE)
    assert (await w("GET", w.at("next", bucket))).body == LARGE


def check_folder(folder: Path) -> None:
    """After another start, nothing is left over."""

    async def again() -> None:
        node = await started(folder, "relaxed", "")
        await settled(node)
        await settle(node.store)
        await node.stop()

    asyncio.run(again())
    assert problems(folder) == []
    left = {path.name for path in folder.iterdir()}
    assert left <= {
        "catalog.db",
        "catalog.db-wal",
        "catalog.db-shm",
        "catalog.backup.db",
        "catalog.lock",
        "content",
        "work",
        "reserve",
        "etl",
    }
    assert not [path for path in folder.glob("etl/*") if path.name != ".environments"]


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return inject(monkeypatch)


def run(folder: Path, operation: Callable[[World], Awaitable[None]], kind: str, far: str = "", step: int = 1) -> None:
    whole = operation in (*AT_ONCE, *STARTING, read_transformed)
    count = asyncio.run(fail_each(folder, operation, KINDS[kind], far, whole=whole, step=step))
    assert count > 0 or KINDS[kind].calls  # not everything opens something
    check_folder(folder / "data")


@pytest.mark.parametrize("operation", [*AT_ONCE, *ONE_BY_ONE])
def test_failing_every_fourth_call(
    memory_path: Path, faults: Faults, operation: Callable[[World], Awaitable[None]]
) -> None:
    run(memory_path, operation, "one error", step=4)


@pytest.mark.parametrize("operation", REMOTE)
def test_failing_every_fourth_call_of_a_cache(
    memory_path: Path, faults: Faults, cluster: LocalCluster, operation: Callable[[World], Awaitable[None]]
) -> None:
    run(memory_path, operation, "one error", cluster.url, step=4)


def test_failing_every_tenth_call_of_a_transformation(memory_path: Path, faults: Faults) -> None:
    run(memory_path, transform_bucket, "one error", step=10)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", [*AT_ONCE, *ONE_BY_ONE, *TRANSFORMING, *STARTING])
def test_failing_the_nth_call(
    memory_path: Path, faults: Faults, operation: Callable[[World], Awaitable[None]], kind: str
) -> None:
    run(memory_path, operation, kind)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", REMOTE)
def test_failing_the_nth_call_of_a_cache(
    memory_path: Path, faults: Faults, cluster: LocalCluster, operation: Callable[[World], Awaitable[None]], kind: str
) -> None:
    run(memory_path, operation, kind, cluster.url)


@pytest.mark.parametrize("operation", [*AT_ONCE, *ONE_BY_ONE])
def test_writes_that_write_a_part(
    memory_path: Path, faults: Faults, operation: Callable[[World], Awaitable[None]]
) -> None:
    """Which the system may do at any time, and is no error."""

    async def main() -> None:
        (memory_path / "promoted").mkdir()
        (memory_path / "promoted" / "one").write_bytes(LARGE)
        node = await started(memory_path / "data", "relaxed", "")
        try:
            whole = await attempt(World(node, 0, "", ""), operation, None)
            faults.short = True
            parts = await attempt(World(node, 1, "", ""), operation, None)
            faults.short = False
            assert parts.failure is None
            assert parts.after == whole.after
        finally:
            await node.stop()

    asyncio.run(main())
