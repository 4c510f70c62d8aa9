"""Scans give what sorting and filtering all names gives, whatever the page size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistore.server.store.catalog import Catalog
from aistore.server.store.scan import Bounds, Scanner, successor
from aistore.server.store.schema import create_or_check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ALPHABET = st.sampled_from(["a", "b", "-", ".", "/", "é", "\ud7ff", "\U0010ffff"])
# A store holds no name that ends in a slash.
_NAME = st.text(_ALPHABET, min_size=1, max_size=5).filter(lambda name: not name.endswith("/"))
_NAMES = st.lists(_NAME, unique=True, max_size=30)
BUCKET = 7


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    path: Path = tmp_path_factory.mktemp("catalog") / "catalog.db"
    create_or_check(path, "relaxed")
    yield Catalog(path, "relaxed")


def fill(catalog: Catalog, names: list[str]) -> None:
    db = catalog._writer
    db.execute("DELETE FROM object")
    columns = [row[1] for row in db.execute("PRAGMA table_info(object)")]
    marks = ", ".join("?" * len(columns))
    for bid in (BUCKET - 1, BUCKET, BUCKET + 1):  # neighbours must never show
        for name in names if bid == BUCKET else ["a", "b/c", "z"]:
            row = {"bucket": bid, "name": name, "custom": None}
            db.execute(f"INSERT INTO object VALUES ({marks})", [row.get(column, 1) for column in columns])


def pages(scanner: Scanner, bounds: Bounds, limit: int, *, recursive: bool) -> list[str]:
    """All names, page by page, as a listing goes on from its last entry."""
    scan = scanner.rows if recursive else scanner.rows_of_level
    found: list[str] = []
    while True:
        rows = scan(BUCKET, bounds, ", size", limit)
        assert len(rows) <= limit
        found += [row[0] for row in rows]
        if len(rows) < limit:
            return found
        last = rows[-1][0]
        behind = successor(last) if last.endswith("/") else None
        bounds = bounds._replace(start=behind or last, inclusive=bool(behind))


@settings(max_examples=60)
@given(_NAMES, st.text(_ALPHABET, max_size=2), st.text(_ALPHABET, max_size=3), st.integers(1, 5))
def test_pages_are_a_slice_of_the_sorted_names(
    catalog: Catalog, names: list[str], prefix: str, after: str, limit: int
) -> None:
    fill(catalog, names)
    expected = sorted(n for n in names if n.startswith(prefix) and (not after or n > after))
    assert pages(Scanner(catalog), Bounds(prefix, after, not after), limit, recursive=True) == expected
    assert expected == sorted(expected, key=str.encode)


@settings(max_examples=60)
@given(_NAMES, st.sampled_from(["", "a", "a/", "a/b/", "b"]), st.integers(1, 5))
def test_levels_collapse_what_lies_deeper(catalog: Catalog, names: list[str], prefix: str, limit: int) -> None:
    fill(catalog, names)
    depth = len(prefix)
    expected = {
        name if "/" not in name[depth:] else name[: name.index("/", depth) + 1]
        for name in names
        if name.startswith(prefix)
    }
    assert pages(Scanner(catalog), Bounds(prefix), limit, recursive=False) == sorted(expected)


def test_directories_larger_than_a_chunk_are_skipped(catalog: Catalog) -> None:
    fill(catalog, [f"{d}/{i:04d}" for d in "abc" for i in range(600)] + ["b-", "b0"])
    assert pages(Scanner(catalog), Bounds(), 100, recursive=False) == ["a/", "b-", "b/", "b0", "c/"]


@pytest.mark.parametrize(
    ("prefix", "after"), [("a", "b"), ("", None), ("a\U0010ffff", "b"), ("\U0010ffff", None), ("\ud7ff", "\ue000")]
)
def test_successor(prefix: str, after: str | None) -> None:
    assert successor(prefix) == after
