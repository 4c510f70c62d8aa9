"""Several processes on one data folder."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
from typing import TYPE_CHECKING

import pytest

from aistore.server.store.errors import BucketGone
from store_truth import bucket_id, make_bucket, opened, problems, put, read, settle
from waiting import DEADLINE

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event
    from pathlib import Path

OBJECTS = 6
ROUNDS = 60


def test_each_sees_what_the_other_did(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, shared=True) as one, opened(tmp_path, shared=True, primary=False) as two:
            made = await make_bucket(one)
            there = two.bucket(bucket_id("b"))
            assert there is not None
            for i, in_file in enumerate((False, True, False, True)):
                await put(one, made, "o", b"%d" % i, in_file=in_file)
                assert read(two, there, "o") == b"%d" % i
            row = two.lookup(there, "o")
            assert row is not None
            await put(one, made, "o", b"newer", in_file=True)
            await settle(one)
            current = two.open_current(there, row)  # looked up before, opened after its content was removed
            assert current is not None
            assert read(two, there, "o") == b"newer"
            await two.delete(there, ["o"])
            assert one.lookup(made, "o") is None
            assert two.open_current(there, row) is None
            await one.destroy_bucket(made.id)
            assert two.bucket(made.id) is None
            for content in (b"late", b"l" * 9000):
                with pytest.raises(BucketGone):
                    await put(two, there, "o", content, in_file=len(content) > 8192)
            await settle(one)

    asyncio.run(main())
    assert problems(tmp_path) == []


@pytest.mark.parametrize("change", ["delete", "overwrite"])
def test_what_was_changed_meanwhile_does_not_come_back(tmp_path: Path, change: str) -> None:
    """A process hears of its own commit a moment later; by then another one may have changed the object again."""

    async def main() -> None:
        async with opened(tmp_path, shared=True) as one, opened(tmp_path, shared=True, primary=False) as two:
            made = await make_bucket(one)
            there = two.bucket(made.id)
            assert there is not None
            tell = one.catalog._committed
            held: list[object] = []
            one.catalog._committed = held.append  # type: ignore[method-assign,assignment]  # the loop is busy
            putting = asyncio.ensure_future(put(one, made, "o", b"first"))
            while not held:  # noqa: ASYNC110 (what changes it does not know of us)
                await asyncio.sleep(0)
            if change == "delete":
                await two.delete(there, ["o"])
            else:
                await put(two, there, "o", b"second")
            one.lookup(made, "o")  # a reader sees the other's change before our own is told
            one.catalog._committed = tell  # type: ignore[method-assign]  # as it was
            tell(*held)  # type: ignore[arg-type]  # what it was called with
            await putting
            row = one.lookup(made, "o")
            assert (row and row.data) == (None if change == "delete" else b"second")

    asyncio.run(main())


def write_at_random(root: Path, number: int, start: Event) -> None:
    """Overwrite, delete and read the same few objects as the other processes; each read has to be whole."""

    async def main() -> None:
        rng = random.Random(number)
        async with opened(root, shared=True, primary=False) as store:
            start.wait(DEADLINE)
            bucket = store.bucket(bucket_id("b"))
            assert bucket is not None

            async def one(i: int) -> None:
                name = f"o{rng.randrange(OBJECTS)}"
                dice = rng.random()
                if dice < 0.5:
                    await put(store, bucket, name, b"%d-%d;" % (number, i) * 3000, in_file=rng.random() < 0.7)
                elif dice < 0.6:
                    await store.delete(bucket, [name])
                data = read(store, bucket, name)
                if data is not None:
                    first, _, _ = data.partition(b";")
                    assert data == (first + b";") * 3000

            for i in range(ROUNDS):
                await asyncio.gather(*(one(4 * i + k) for k in range(4)))

    asyncio.run(main())


def test_processes_that_write_the_same_objects(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Event()

    async def main() -> None:
        async with opened(tmp_path, shared=True) as store:
            bucket = await make_bucket(store)
            writers = [spawn.Process(target=write_at_random, args=(tmp_path, n, start)) for n in range(3)]
            for writer in writers:
                writer.start()
            start.set()
            for writer in writers:
                await asyncio.to_thread(writer.join, DEADLINE)
            assert [writer.exitcode for writer in writers] == [0, 0, 0]
            await settle(store)
            total = sum(len(read(store, bucket, f"o{i}") or b"") for i in range(OBJECTS))
            assert store.usage(bucket)[1] == total

    asyncio.run(main())
    assert problems(tmp_path) == []
