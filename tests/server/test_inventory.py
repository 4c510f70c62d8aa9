"""How inventories are kept: what was written is found again, wherever one looks, and damage is told."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import msgspec
import pytest

from aistore.server.archive.source import BytesSource
from aistore.server.jobs.inventory_file import BadInventory, Inventory, InventoryWriter
from aistore.server.store.sorting import Sorter
from aistore.wire.listing import Entry

if TYPE_CHECKING:
    from pathlib import Path


def written(names: list[str]) -> bytes:
    out = bytearray()
    writer = InventoryWriter(out.extend)
    for number, name in enumerate(names):
        writer.add(name, msgspec.msgpack.encode(Entry(name, size=number, flags=64)))
    writer.finish()
    assert writer.total == len(names)
    return bytes(out)


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 5000])
def test_entries_are_found_from_any_name_on(count: int) -> None:
    names = [f"n{number:05}" for number in range(count)]
    inventory = Inventory(BytesSource(written(names)))
    assert [entry.name for entry in inventory.since("")] == names
    assert [entry.size for entry in inventory.since("")] == list(range(count))
    for start in ("n", "n00000", "n00999", "n01000", "n01000x", "n04999", "o", "\U0010ffff"):
        assert [entry.name for entry in inventory.since(start)] == [name for name in names if name >= start]


def test_large_entries_make_small_blocks() -> None:
    names = [f"{number:04}" + "x" * 4000 for number in range(500)]
    assert [entry.name for entry in Inventory(BytesSource(written(names))).since("0250")] == names[250:]


@pytest.mark.parametrize("part", ["block", "index"])
def test_small_parts_that_become_large_ones_are_refused(part: str) -> None:
    many = 1_000_001
    block = zlib.compress(b"\xdd" + struct.pack(">I", many) + b"\x81\xa1n\xa1a" * many)
    places = [["", 0, len(block)]] * (1 if part == "block" else many)
    index = zlib.compress(msgspec.msgpack.encode(places))
    tracemalloc.start()
    try:
        with pytest.raises(BadInventory, match="length"):
            list(Inventory(BytesSource(block + index + struct.pack(">Q8s", len(block), b"AISINV01"))).since(""))
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_damage_is_told() -> None:
    whole = written([f"n{number:05}" for number in range(3000)])
    dice = random.Random(1)
    for data in (b"", b"short", whole[:-1], whole[1:], whole[: len(whole) // 2], b"\0" * 100):
        with pytest.raises(BadInventory):
            list(Inventory(BytesSource(data)).since(""))
    expected = [entry.name for entry in Inventory(BytesSource(whole)).since("")]
    for _ in range(200):
        flipped = bytearray(whole)
        flipped[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        try:
            found = [entry.name for entry in Inventory(BytesSource(bytes(flipped))).since("")]
        except BadInventory:
            continue
        assert found == expected


def test_a_bomb_is_not_unpacked() -> None:
    import struct
    import zlib

    bomb = zlib.compress(b"\0" * (100 << 20))
    data = bomb + struct.pack(">Q8s", 0, b"AISINV01")
    with pytest.raises(BadInventory, match="too long"):
        Inventory(BytesSource(data))


class Vast:
    """An object of a terabyte, as far as anybody can tell who only reads its end."""

    size = 1 << 40

    def __init__(self, end: bytes) -> None:
        self._end = end

    def read_at(self, offset: int, count: int) -> bytes:
        assert count < 1 << 30
        return self._end[offset - self.size :][:count]


def test_no_more_is_read_at_once_than_a_part_of_an_inventory_has() -> None:
    import struct
    import zlib

    import msgspec

    with pytest.raises(BadInventory, match="too long"):
        Inventory(Vast(struct.pack(">Q8s", 0, b"AISINV01")))
    index = zlib.compress(msgspec.msgpack.encode([("a", 0, 1 << 39)]))
    end = index + struct.pack(">Q8s", Vast.size - len(index) - 16, b"AISINV01")
    with pytest.raises(BadInventory, match="too long"):
        list(Inventory(Vast(end)).since(""))


def test_sorting_gives_byte_order_once_each_and_leaves_no_file(tmp_path: Path) -> None:
    dice = random.Random(2)
    names = [f"{dice.choice(['a', 'a-1', 'ä', chr(0x10FFFF)])}/{number}" for number in range(3000)]
    shuffled = names * 2
    dice.shuffle(shuffled)
    sorter = Sorter(tmp_path / "work")
    for at in range(0, len(shuffled), 700):
        sorter.add((name, name.encode()) for name in shuffled[at : at + 700])
    assert list((tmp_path / "work").iterdir()) == []
    found = [pair for some in sorter.some() for pair in some]
    assert found == [(name, name.encode()) for name in sorted(names, key=str.encode)]
    sorter.close()
