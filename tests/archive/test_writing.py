"""Archives that are made here: whole, readable by others, and nothing of what they extend is lost."""

from __future__ import annotations

import asyncio
import random
import threading
import zipfile
from typing import TYPE_CHECKING

import pytest

from aistore.server.archive import building, zip_writing
from aistore.server.archive.archives import Archives, Content
from aistore.server.archive.building import ArchiveBuilder
from aistore.server.archive.errors import BadArchive
from aistore.server.archive.formats import Format, by_name
from aistore.server.archive.index import CatalogIndex, Stop, build
from aistore.server.archive.source import BytesSource
from aistore.server.archive.writing import NewMember
from aistore.server.store.copying import copy_objects
from aistore.server.store.errors import ContentChanged
from archives import EXTENSIONS, MEMBERS, Members, packed, unpacked
from store_truth import make_bucket, opened, problems
from waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from aistore.server.store.rows import Bucket
    from aistore.server.store.store import Store

_SIZES = (0, 1, 511, 512, 513, 255_999, 256 * 1024, 256 * 1024 + 1, 1_500_000)
SIZED: Members = [(f"{size}", random.Random(size).randbytes(size)) for size in _SIZES]


def run(folder: Path, test: Callable[[Store, Bucket], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(folder) as store:
            await test(store, await make_bucket(store))
        assert problems(folder) == []

    asyncio.run(main())


def new(members: Members) -> list[NewMember]:
    return [NewMember(name, 1_700_000_000, BytesSource(content)) for name, content in members]


async def made(store: Store, bucket: Bucket, name: str, members: Members, *, append: bool = False) -> Content:
    """Make an archive, or extend the one that is there; what it is then."""
    form = by_name(name)
    assert form is not None
    old = Content.open(store, bucket, name) if append else None
    builder = await ArchiveBuilder.begin(store, form, "xxhash2", old)
    await builder.add(new(members))
    await builder.commit(bucket, name, versioned=True)
    if old is not None:
        old.close()
    content = Content.open(store, bucket, name)
    assert content is not None
    return content


def bytes_of(content: Content) -> bytes:
    data = content.source.read_at(0, content.source.size)
    content.close()
    return data


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_what_is_made_can_be_read_by_others_and_by_us(tmp_path: Path, extension: str) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        data = bytes_of(await made(store, bucket, f"x{extension}", MEMBERS + SIZED))
        assert unpacked(extension, data) == MEMBERS + SIZED
        form = by_name(f"x{extension}")
        assert form is not None
        index = build(BytesSource(data), form, Stop())
        assert (index.damage, [member.name for member in index.after("")]) == ("", sorted(dict(MEMBERS + SIZED)))

    run(tmp_path, test)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_an_archive_of_others_is_extended(tmp_path: Path, extension: str) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        data = packed(extension)
        upload = await store.content.create()
        upload.write(data)
        upload.finish()
        await store.put(bucket, f"x{extension}", upload, "none", "")
        content = await made(store, bucket, f"x{extension}", SIZED, append=True)
        assert content.row.version == "2"
        assert content.row.checksum_type == ("none" if extension == ".tar" else "xxhash2")
        assert unpacked(extension, bytes_of(content)) == MEMBERS + SIZED
        again = bytes_of(await made(store, bucket, f"x{extension}", [("more", b"more")], append=True))
        assert unpacked(extension, again) == [*MEMBERS, *SIZED, ("more", b"more")]

    run(tmp_path, test)


def test_a_zip_behind_something_else_is_extended(tmp_path: Path) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        junk = b"#!/bin/sh\n" * 2000
        upload = await store.content.create()
        upload.write(junk + packed(".zip"))
        upload.finish()
        await store.put(bucket, "x.zip", upload, "none", "")
        data = bytes_of(await made(store, bucket, "x.zip", SIZED, append=True))
        assert data.startswith(junk)
        assert unpacked(".zip", data) == MEMBERS + SIZED

    run(tmp_path, test)


def test_a_zip_of_more_members_than_16_bits_can_count(tmp_path: Path) -> None:
    members = [(f"{i}", b"") for i in range(66_000)]

    async def test(store: Store, bucket: Bucket) -> None:
        data = bytes_of(await made(store, bucket, "x.zip", members))
        assert [name for name, _ in unpacked(".zip", data)] == [name for name, _ in members]
        index = build(BytesSource(data), Format.ZIP, Stop())
        assert (index.damage, len(index.entries)) == ("", 66_000)

    run(tmp_path, test)


def test_members_of_a_zip_have_their_names_as_comments(tmp_path: Path) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        content = await made(store, bucket, "x.zip", MEMBERS)
        (tmp_path / "x.zip").write_bytes(bytes_of(content))
        with zipfile.ZipFile(tmp_path / "x.zip") as archive:
            for info in archive.infolist():
                assert info.comment.decode() == info.filename
                assert (info.compress_type, info.date_time[:3]) == (zipfile.ZIP_STORED, (2023, 11, 14))

    run(tmp_path, test)


def test_a_directory_that_takes_too_much_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_writing, "_DIRECTORY_MAX", 1000)

    async def test(store: Store, bucket: Bucket) -> None:
        builder = await ArchiveBuilder.begin(store, Format.ZIP, "none")
        with pytest.raises(BadArchive, match="too many members"):
            await builder.add(new([(f"{i}", b"") for i in range(100)]))
        builder.abandon()

    run(tmp_path, test)


@pytest.mark.parametrize("extension", [".tar", ".tgz", ".zip"])
def test_a_damaged_archive_is_not_extended(tmp_path: Path, extension: str) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        data = packed(extension)[:-700] if extension != ".tar" else packed(extension)[:60_000]
        upload = await store.content.create()
        upload.write(data)
        upload.finish()
        await store.put(bucket, f"x{extension}", upload, "none", "")
        with pytest.raises(BadArchive):
            await made(store, bucket, f"x{extension}", SIZED, append=True)
        content = Content.open(store, bucket, f"x{extension}")
        assert content is not None
        assert bytes_of(content) == data

    run(tmp_path, test)


def test_what_was_replaced_meanwhile_is_not_extended(tmp_path: Path) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        (await made(store, bucket, "x.tar", MEMBERS)).close()
        old = Content.open(store, bucket, "x.tar")
        assert old is not None
        builder = await ArchiveBuilder.begin(store, Format.TAR, "none", old)
        await builder.add(new(SIZED))
        (await made(store, bucket, "x.tar", [("other", b"other")])).close()
        with pytest.raises(ContentChanged):
            await builder.commit(bucket, "x.tar", versioned=True, extends=True)
        old.close()
        content = Content.open(store, bucket, "x.tar")
        assert content is not None
        assert unpacked(".tar", bytes_of(content)) == [("other", b"other")]

    run(tmp_path, test)


def test_what_was_made_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        builder = await ArchiveBuilder.begin(store, Format.TAR, "none")
        await builder.add(new(SIZED))
        (await made(store, bucket, "x.tar", [("other", b"other")])).close()
        with pytest.raises(ContentChanged):
            await builder.commit(bucket, "x.tar", versioned=True, extends=True)

    run(tmp_path, test)


def test_an_abandoned_archive_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_STEP", 1 << 16)

    async def test(store: Store, bucket: Bucket) -> None:
        builder = await ArchiveBuilder.begin(store, Format.TAR, "none")
        loop, begun, cancelled = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        def members() -> Iterator[NewMember]:
            for member in new(SIZED * 50):
                yield member
                loop.call_soon_threadsafe(begun.set)
                cancelled.wait(DEADLINE)

        adding = asyncio.ensure_future(builder.add(members()))
        await begun.wait()
        adding.cancel()
        cancelled.set()
        with pytest.raises(asyncio.CancelledError):
            await adding
        assert builder.members < len(SIZED) * 50
        builder.abandon()
        assert store.content.pending == 0

    run(tmp_path, test)


def test_an_index_is_made_once_and_goes_with_its_content(tmp_path: Path) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        content = await made(store, bucket, "x.tar", [(f"{i:05}", b"x") for i in range(1000)])
        archives = Archives(store)
        first, same = await asyncio.gather(*(archives.index(content, Format.TAR) for _ in range(2)))
        assert first is same
        kept = await archives.index(content, Format.TAR)
        assert isinstance(kept, CatalogIndex)
        for index in (first, kept):
            assert [member.name for member in index.after("00990")] == [f"{i:05}" for i in range(991, 1000)]
            assert index.find("00500") is not None
            assert index.find("005000") is None
        assert first.find("00999") == kept.find("00999")
        # Under another name it is read as another format, which it is not.
        assert (await archives.index(content, Format.ZIP)).damage
        assert store.catalog.read("SELECT count(*) FROM archive").fetchone() == (2,)
        await copy_objects(store, bucket, bucket, [("x.tar", "y.tar")], "xxhash2")
        await store.delete(bucket, ["x.tar"])
        assert isinstance(await archives.index(content, Format.TAR), CatalogIndex)
        await store.delete(bucket, ["y.tar"])
        assert store.catalog.read("SELECT count(*) FROM archive").fetchone() == (0,)
        assert store.catalog.read("SELECT count(*) FROM archive_page").fetchone() == (0,)
        # Whoever reads it still gets an answer, which is not kept.
        assert (await archives.index(content, Format.TAR)).find("00500") is not None
        assert store.catalog.read("SELECT count(*) FROM archive_page").fetchone() == (0,)
        content.close()
        await archives.close()

    run(tmp_path, test)
