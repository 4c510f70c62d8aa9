"""Access times are exact while the server runs and a minute coarse over a restart."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from aistore.server.store import atimes
from store_truth import make_bucket, opened, put, row_of

if TYPE_CHECKING:
    from pathlib import Path


SECOND = 10**9


@pytest.mark.parametrize(("seconds", "kept"), [(59, False), (61, True)])
def test_over_a_restart(tmp_path: Path, seconds: int, kept: bool) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            await put(store, await make_bucket(store), "o", b"data")
            row = row_of(store)
            stored = row.atime
            accessed = stored + seconds * SECOND
            assert store.atimes.note(row, accessed) == stored
            assert store.atimes.of(row) == accessed
            await store.atimes.write()
            assert store.atimes.of(row_of(store)) == accessed
        async with opened(tmp_path) as store:
            assert store.atimes.of(row_of(store)) == (accessed if kept else stored)

    asyncio.run(main())


def test_belong_to_a_version(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            bucket = await make_bucket(store)
            await put(store, bucket, "o", b"data")
            later = row_of(store).atime + 3600 * SECOND
            store.atimes.note(row_of(store), later)
            await store.set_custom(bucket, "o", {"k": "v"}, replace=False)
            assert store.atimes.of(row_of(store)) == later
            await put(store, bucket, "o", b"new")
            assert store.atimes.of(row_of(store)) < later
            store.atimes.note(row_of(store), later)
            writing = asyncio.ensure_future(store.atimes.write())
            await asyncio.sleep(0)
            await store.delete(bucket, ["o"])
            await writing
            await put(store, bucket, "o", b"newer")
            assert store.atimes.of(row_of(store)) < later

    asyncio.run(main())


def test_memory_is_bounded_and_no_time_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atimes, "_KEPT_MAX", 10)
    monkeypatch.setattr(atimes, "_AT_ONCE", 7)

    async def main() -> None:
        async with opened(tmp_path) as store:
            bucket = await make_bucket(store)
            for i in range(30):
                await put(store, bucket, f"o{i}", b"data")
            when = row_of(store, "o0").atime + 3600 * SECOND
            for i in range(30):
                store.atimes.note(row_of(store, f"o{i}"), when + i)
            await store.atimes.write()
            assert len(store.pending_atimes(bucket)) == 10
            for i in range(30):
                assert store.atimes.of(row_of(store, f"o{i}")) == when + i
            store.clear_cache()
            for i in range(30):
                assert store.atimes.of(row_of(store, f"o{i}")) == when + i

    asyncio.run(main())
