"""What the power cuts' comparison says of a data folder in which content is missing."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from aistore.server.doctor import DOCUMENTS
from aistore.server.store.copying import copy_objects
from power.__main__ import damage
from store_truth import bucket_id, opened, put, put_part

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


async def fill(root: Path) -> str:
    """Two objects in files, a copy of one of them, and an upload; the upload's id."""
    async with opened(root) as store:
        bucket = await store.create_bucket(bucket_id("b"), DOCUMENTS.make_props)
        for name in ("one", "two"):
            await put(store, bucket, name, name.encode() * 5000, in_file=True)
        await copy_objects(store, bucket, bucket, [("one", "copy of one")], "xxhash2")
        upload_id = await store.uploads.begin(bucket, "three")
        await put_part(store, upload_id, 1, b"part")
        return upload_id


@pytest.fixture
def for_its_owner() -> Iterator[None]:
    """What is made is for its owner only, as a server makes it."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("for_its_owner")
@pytest.mark.parametrize(
    ("lost", "refused", "is_right"),
    [
        ([], [], True),
        ([0], ["object b one", "object b copy of one"], True),
        ([2], ["upload ID"], True),
        ([0, 1, 2], ["object b one", "object b copy of one", "object b two", "upload ID"], True),
        ([0], [], False),
        ([0], ["object b one"], False),
        ([0], ["object b two"], False),
        ([2], [], False),
        ([2], ["object b two"], False),
        ([], ["object b two"], False),
        ([0, 1], ["object b one", "object b copy of one"], False),
    ],
)
def test_content_may_be_lost_where_all_that_refer_to_it_are_refused(
    tmp_path: Path, lost: list[int], refused: list[str], is_right: bool
) -> None:
    upload_id = asyncio.run(fill(tmp_path))
    files = sorted(tmp_path.glob("content/*/*"))
    assert len(files) == 3
    tmp_path.chmod(0o700)
    for i in lost:
        files[i].unlink()
    assert (damage(tmp_path, {thing.replace("ID", upload_id) for thing in refused}, repair=True) == []) is is_right
