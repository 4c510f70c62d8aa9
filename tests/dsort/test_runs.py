"""Sorting in files: the order is that of a sort in memory, whatever the memory (model: the built-in sort)."""

from __future__ import annotations

import tracemalloc
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistore.server.dsort import runs
from aistore.server.dsort.runs import Run, RunSorter
from aistore.server.store.errors import StoreError
from store_truth import open_descriptors

if TYPE_CHECKING:
    from pathlib import Path

ITEMS = st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=30)), max_size=200)


@settings(max_examples=60)
@given(items=ITEMS, memory=st.integers(1, 20_000), decreasing=st.booleans())
def test_the_order_is_that_of_the_built_in_sort(
    tmp_path_factory: pytest.TempPathFactory, items: list[tuple[bytes, bytes]], memory: int, decreasing: bool
) -> None:
    folder = tmp_path_factory.getbasetemp() / "runs"
    with closing(RunSorter(folder, memory, decreasing=decreasing)) as sorter:
        for number, (key, data) in enumerate(items):
            sorter.add(key, number, data)
        found = list(sorter.sorted())
    numbered = [(key, number, data) for number, (key, data) in enumerate(items)]
    # Equal keys stay in the order of their numbers, also when it decreases.
    assert found == sorted(numbered, key=lambda item: item[0], reverse=decreasing)
    assert not list(folder.iterdir()) if folder.exists() else True


def test_many_runs_are_merged_into_one(tmp_path: Path) -> None:
    before = open_descriptors()
    with closing(RunSorter(tmp_path, 1)) as sorter:
        for number in range(500):
            sorter.add(b"%03d" % (number * 7 % 500), number, b"")
        assert len(open_descriptors() - before) <= runs._RUNS_MAX
        assert [key for key, _, _ in sorter.sorted()] == [b"%03d" % number for number in range(500)]
    assert not open_descriptors() - before


def test_few_runs_of_large_items_are_merged_at_a_time(tmp_path: Path) -> None:
    with closing(RunSorter(tmp_path, 1)) as sorter:
        for number in range(20):
            sorter.add(b"%03d" % (number * 7 % 20), number, bytes(3 << 20))
            assert len(sorter._runs) <= 4  # of each, one item is in memory
        assert [key for key, _, _ in sorter.sorted()] == [b"%03d" % number for number in range(20)]


def test_items_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    with closing(Run(tmp_path)) as run:
        items = [(b"k" * size, size, b"d" * size) for size in (0, 1, 300_000, 5, 2_000_000, 7)]
        for item in items:
            run.append(item)
        run.flush()
        assert list(run.items()) == items


def test_a_run_that_is_cut_is_noticed(tmp_path: Path) -> None:
    with closing(Run(tmp_path)) as run:
        run.append((b"key", 1, b"data"))
        run.flush()
        with pytest.raises(StoreError, match="ends"):
            list(run.items(0, run.size - 1))


def test_memory_is_bounded(tmp_path: Path) -> None:
    limit = 4 << 20
    tracemalloc.start()
    try:
        with closing(RunSorter(tmp_path, limit)) as sorter:
            for number in range(60_000):
                sorter.add(b"%016d" % (number * 7919 % 60_000), number, bytes(100))
            assert sorter.on_disk > limit
            count = sum(1 for _ in sorter.sorted())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 60_000
    # What is written and read at the time comes on top.
    assert peak < 2 * limit + (4 << 20)
