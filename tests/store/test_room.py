"""Room runs out: writes are refused, reads and deletes go on, and so do writes once there is room."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from aistore.server.store import room
from aistore.server.store.errors import StoreFull
from disks import small_disk_at
from store_truth import make_bucket, opened, problems, put, read, settle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aistore.server.store.schema import Durability

MIB = 1 << 20


def test_capacity_counts_what_is_stored_and_what_is_under_way(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, capacity=MIB) as store:
            bucket = await make_bucket(store)
            store.check_room(600_000)
            first = await store.content.create(600_000)
            with pytest.raises(StoreFull, match="600000 bytes of the configured capacity of 1048576 are used"):
                store.check_room(600_000)
            first.abandon()
            store.check_room(600_000)
            # one whose length nobody announced counts as it grows
            second = await store.content.create()
            for _ in range(10):
                store.check_room(100_000)
                second.reserve(100_000)
                second.write(bytes(100_000))
            with pytest.raises(StoreFull):
                store.check_room(100_000)
            second.finish()
            await store.put(bucket, "o", second, "none", "")
            with pytest.raises(StoreFull):
                store.check_room(100_000)
            await store.delete(bucket, ["o"])
            store.check_room(MIB)
        async with opened(tmp_path, capacity=MIB) as store:
            store.check_room(MIB)
            with pytest.raises(StoreFull):
                store.check_room(MIB + 1)

    asyncio.run(main())


def test_room_of_a_destroyed_bucket_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, capacity=MIB) as store:
            bucket = await make_bucket(store)
            for i in range(10):
                await put(store, bucket, f"o{i}", bytes(100_000), in_file=True)
            await store.destroy_bucket(bucket.id)
            await settle(store)
            store.check_room(MIB)

    asyncio.run(main())


def test_capacity_is_that_of_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_CHECK_EVERY", 0.0)

    async def main() -> None:
        async with (
            opened(tmp_path, capacity=MIB, shared=True) as one,
            opened(tmp_path, capacity=MIB, shared=True, primary=False) as two,
        ):
            await put(one, await make_bucket(one), "o", bytes(MIB), in_file=True)
            with pytest.raises(StoreFull):
                two.check_room(1)

    asyncio.run(main())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 48 MiB."""
    with small_disk_at(tmp_path / "disk", 48) as folder:
        yield folder


@pytest.mark.parametrize("durability", ["strict", "relaxed"])
@pytest.mark.parametrize("size", [4_000, 1_500_000], ids=["in the catalog", "in files"])
def test_a_full_disk(small_disk: Path, durability: Durability, size: int) -> None:
    root = small_disk / "data"

    async def main() -> None:
        stored: dict[str, bytes] = {}
        async with opened(root, durability) as store:
            bucket = await make_bucket(store)
            with pytest.raises(StoreFull):
                for i in range(100_000):
                    data = b"%d," % i + bytes(size)
                    store.check_room(len(data), in_catalog=size <= 8192)
                    await put(store, bucket, f"o{i}", data, in_file=size > 8192)
                    stored[f"o{i}"] = data
            assert len(stored) > 5
            # somebody else fills what is left
            foreign = small_disk / "foreign"
            with foreign.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(bytes(1 << 20))
            with pytest.raises(StoreFull):
                for _ in range(1000):  # what is held back lasts for some
                    store.check_room(size, in_catalog=size <= 8192)
                    await put(store, bucket, "refused", bytes(size), in_file=size > 8192)
            for name in (*list(stored)[:3], *list(stored)[-3:]):
                assert read(store, bucket, name) == stored[name]
            foreign.unlink()
            stored["o0"] = bytes(size)
            await put(store, bucket, "o0", stored["o0"], in_file=size > 8192)
            if read(store, bucket, "refused") is not None:
                await store.delete(bucket, ["refused"])
            # deletes need none of the room that the store keeps free
            for name in list(stored)[: len(stored) * 4 // 5]:
                await store.delete(bucket, [name])
                del stored[name]
            await settle(store)
            for i in range(5):
                store.check_room(size, in_catalog=size <= 8192)
                await put(store, bucket, f"again{i}", bytes(size), in_file=size > 8192)
                stored[f"again{i}"] = bytes(size)
        async with opened(root, durability) as store:
            again = store.buckets()[0]
            for name, data in stored.items():
                assert read(store, again, name) == data
            assert store.usage(again)[0] == len(stored)

    asyncio.run(main())
    assert problems(root) == []


@pytest.mark.parametrize("durability", ["strict", "relaxed"])
def test_a_start_and_deletes_on_a_disk_without_a_free_byte(small_disk: Path, durability: Durability) -> None:
    root = small_disk / "data"

    async def fill() -> None:
        async with opened(root, durability) as store:
            bucket = await make_bucket(store)
            for i in range(5):
                await put(store, bucket, f"o{i}", b"%d" % i * 100_000, in_file=True)

    async def use() -> None:
        async with opened(root, durability) as store:
            bucket = store.buckets()[0]
            for i in range(5):
                assert read(store, bucket, f"o{i}") == b"%d" % i * 100_000
            for i in range(3):
                assert await store.delete(bucket, [f"o{i}"]) == [(f"o{i}", 100_000)]
            await settle(store)

    asyncio.run(fill())
    with (small_disk / "foreign").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(1 << 20))
    asyncio.run(use())
    assert problems(root) == []
