"""Uploads in parts: what the model and the recorded scenarios do not show."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from aistore.server.store import assembling, completing, multipart, purging
from aistore.server.store.completing import Part
from aistore.server.store.errors import ContentDamaged, StoreFull, UploadGone
from aistore.wire.checksum import digest
from store_truth import crash_copy, make_bucket, opened, problems, put, put_part, read, settle
from waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from aistore.server.store.catalog import Transaction
    from aistore.server.store.pieces import PieceSums
    from aistore.server.store.rows import Bucket
    from aistore.server.store.store import Store


def on_a_bucket(root: Path, test: Callable[[Store, Bucket], Coroutine[object, object, None]]) -> None:
    async def main() -> None:
        async with opened(root) as store:
            await test(store, await make_bucket(store))
            await settle(store)
            assert store.content.pending == 0

    asyncio.run(main())
    assert problems(root) == []


async def complete(store: Store, bucket: Bucket, upload_id: str, count: int) -> None:
    await store.uploads.complete(bucket, "o", upload_id, range(1, count + 1), "xxhash2", versioned=True)


def files(root: Path) -> list[Path]:
    return list((root / "content").glob("*/*"))


def test_parts_of_one_size_are_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        monkeypatch.setattr("aistore.server.store.assembling._copy", lambda *_: pytest.fail("a part was copied"))
        upload_id = await store.uploads.begin(bucket, "o")
        # The last part, which is shorter, does not come first.
        for number, data in ((2, b"bbbb"), (4, b"d"), (1, b"aaaa"), (3, b"cccc")):
            await put_part(store, upload_id, number, data)
        assert len(files(tmp_path)) == 1
        await complete(store, bucket, upload_id, 4)
        assert read(store, bucket, "o") == b"aaaabbbbccccd"

    on_a_bucket(tmp_path, test)


@pytest.mark.parametrize(
    "sent",
    [
        [(3, b"c"), (1, b"aaaa"), (2, b"bbbb")],  # the short last one first
        [(1, b"a"), (2, b"bb"), (3, b"ccc")],
        [(1, b"aaa"), (2, b"b"), (3, b"ccc")],
        [(1, b"aaa"), (2, b"bbb"), (2, b"xxx"), (1, b"y")],
        [(2, b"bbb"), (1, b"aaa"), (2, b"longer than before")],
        [(1, b"aaa"), (2, b"bbb"), (3, b"ccc"), (3, b"c")],
        [(1, b"aaa"), (3, b""), (2, b"bbb")],
    ],
)
def test_parts_of_several_sizes_and_parts_that_are_sent_again(tmp_path: Path, sent: list[tuple[int, bytes]]) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        upload_id = await store.uploads.begin(bucket, "o")
        for number, data in sent:
            await put_part(store, upload_id, number, data)
        parts = dict(sent)
        await complete(store, bucket, upload_id, len(parts))
        expected = b"".join(parts[number] for number in sorted(parts))
        assert read(store, bucket, "o") == expected
        row = store.lookup(bucket, "o")
        assert row is not None
        assert row.checksum == digest("xxhash2", expected)
        assert store.uploads.chunks(row) == (len(parts), max(map(len, parts.values())))

    on_a_bucket(tmp_path, test)


def test_a_part_that_breaks_off_leaves_the_one_before(tmp_path: Path) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        upload_id = await store.uploads.begin(bucket, "o")
        await put_part(store, upload_id, 1, b"good")
        broken = await store.uploads.open_part(upload_id, 1, 4)
        broken.write(b"ba")
        await broken.abandon()
        await complete(store, bucket, upload_id, 1)
        assert read(store, bucket, "o") == b"good"

    on_a_bucket(tmp_path, test)


def test_who_is_late_does_not_write_to_the_object(tmp_path: Path) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        upload_id = await store.uploads.begin(bucket, "o")
        await put_part(store, upload_id, 1, b"aaaa")
        late = await store.uploads.open_part(upload_id, 2, 4)
        await complete(store, bucket, upload_id, 1)
        late.write(b"late")
        with pytest.raises(UploadGone):
            await late.store("xxhash2")
        await late.abandon()
        assert read(store, bucket, "o") == b"aaaa"
        with pytest.raises(UploadGone):
            await put_part(store, upload_id, 1, b"too late")

    on_a_bucket(tmp_path, test)


def test_a_part_that_is_replaced_while_the_upload_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        upload_id = await store.uploads.begin(bucket, "o")
        await put_part(store, upload_id, 1, b"old ")
        await put_part(store, upload_id, 2, b"bbbb")
        sum_up = assembling.checksum_of
        loop = asyncio.get_running_loop()
        again: list[int] = []

        def replace_meanwhile(*arguments: object) -> tuple[str, PieceSums]:
            if not again:
                again.append(1)
                asyncio.run_coroutine_threadsafe(put_part_now(), loop).result()
            return sum_up(*arguments)  # type: ignore[arg-type]  # passed on

        async def put_part_now() -> None:
            # `open_part` waits for the upload's lock; another process does not.
            file = await store.uploads._new_file(upload_id, 0)
            fd = os.open(store.content.path(file), os.O_RDWR)
            os.write(fd, b"new ")
            os.close(fd)
            await store.uploads.note_part(upload_id, Part(1, file, 0, 4))

        monkeypatch.setattr(multipart, "checksum_of", replace_meanwhile)
        await complete(store, bucket, upload_id, 2)
        row = store.lookup(bucket, "o")
        assert row is not None
        assert (read(store, bucket, "o"), row.checksum) == (b"new bbbb", digest("xxhash2", b"new bbbb"))

    on_a_bucket(tmp_path, test)


def test_parts_survive_a_crash(tmp_path: Path) -> None:
    ids: list[str] = []

    async def test(store: Store, bucket: Bucket) -> None:
        upload_id = await store.uploads.begin(bucket, "o")
        ids.append(upload_id)
        await put(store, bucket, "o", b"before", custom={"k": "v"})
        await put_part(store, upload_id, 2, b"bbbb")
        await put_part(store, upload_id, 1, b"aaaa")
        cut_off = await store.uploads.open_part(upload_id, 3, 4)
        cut_off.write(b"cc")
        crash_copy(tmp_path / "a", tmp_path / "b")
        await cut_off.abandon()

    async def go_on() -> None:
        async with opened(tmp_path / "b") as store:
            (bucket,) = store.buckets()
            assert read(store, bucket, "o") == b"before"
            await put_part(store, ids[0], 3, b"cccc")
            await complete(store, bucket, ids[0], 3)
            row = store.lookup(bucket, "o")
            assert row is not None
            assert (read(store, bucket, "o"), row.version, row.custom) == (b"aaaabbbbcccc", "2", {})
            await settle(store)

    on_a_bucket(tmp_path / "a", test)
    asyncio.run(go_on())
    assert problems(tmp_path / "b") == []


def test_an_upload_that_nobody_goes_on_with_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        old, kept = [await store.uploads.begin(bucket, "o") for _ in range(2)]
        await put_part(store, old, 1, b"old")
        limit = time.time_ns()
        await put_part(store, kept, 1, b"kept")
        now = time.time_ns()
        monkeypatch.setattr(time, "time_ns", lambda: now)
        monkeypatch.setattr(multipart, "KEPT_SECONDS", (now - limit) / 1e9)
        await store.uploads.remove_stale()
        with pytest.raises(UploadGone):
            store.uploads.check(bucket, "o", old)
        await complete(store, bucket, kept, 1)

    on_a_bucket(tmp_path, test)


def test_uploads_go_with_their_bucket(tmp_path: Path) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        upload_id = await store.uploads.begin(bucket, "o")
        await put_part(store, upload_id, 1, b"data")
        await store.destroy_bucket(bucket.id)
        await settle(store)
        assert store.bytes == 0
        with pytest.raises(UploadGone):
            await put_part(store, upload_id, 2, b"data")

    on_a_bucket(tmp_path, test)


def test_uploads_of_a_destroyed_bucket_go_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "_UPLOADS_AT_ONCE", 2)
    at_once: list[int] = []

    async def test(store: Store, bucket: Bucket) -> None:
        def drop(tx: Transaction, *what: int) -> bool:
            before = count(tx)
            more = completing.drop_uploads(tx, *what)
            at_once.append(before - count(tx))
            return more

        monkeypatch.setattr(purging, "drop_uploads", drop)
        for number in range(5):
            await put_part(store, await store.uploads.begin(bucket, f"o{number}"), 1, b"data")
        await store.destroy_bucket(bucket.id)
        await settle(store)
        assert at_once == [2, 2, 1, 0]
        assert files(tmp_path) == []

    on_a_bucket(tmp_path, test)


def count(tx: Transaction) -> int:
    found: tuple[int] = tx.execute("SELECT count(*) FROM upload").fetchone()
    return found[0]


def test_parts_count_as_stored(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, capacity=1 << 20) as store:
            bucket = await make_bucket(store)
            upload_id = await store.uploads.begin(bucket, "o")
            await put_part(store, upload_id, 1, bytes(600_000))
            assert store.bytes == 600_000
            with pytest.raises(StoreFull):
                store.check_room(600_000)
            await complete(store, bucket, upload_id, 1)
            assert (store.objects, store.bytes) == (1, 600_000)

    asyncio.run(main())


def test_an_upload_that_is_given_up_while_a_part_ends_is_gone(tmp_path: Path) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        upload_id = await store.uploads.begin(bucket, "o")
        part = await store.uploads.open_part(upload_id, 1, 4)
        part.write(b"aaaa")
        storing = asyncio.ensure_future(part.store("xxhash2"))
        await asyncio.sleep(0)  # the part is noted in the change before
        await store.uploads.abort(bucket, "o", upload_id)
        await storing
        assert store.uploads.of_bucket(bucket, "", ("", ""), 1) == []
        with pytest.raises(UploadGone):
            store.uploads.check(bucket, "o", upload_id)

    on_a_bucket(tmp_path, test)


def test_an_upload_that_is_completed_in_the_second_attempt_has_the_right_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        upload_id = await store.uploads.begin(bucket, "o")
        await put_part(store, upload_id, 1, b"aaaa")
        # Its checksum is made while others arrive; theirs is left for the end.
        hashing = store.uploads._session(upload_id).hashing
        assert hashing is not None
        await hashing
        monkeypatch.setattr(store.uploads, "hash_on", lambda *_: None)
        for number in (2, 3):
            await put_part(store, upload_id, number, b"bbbb")
        with monkeypatch.context() as patch:
            patch.setattr(store.catalog, "submit", refuse)
            with pytest.raises(StoreFull):
                await complete(store, bucket, upload_id, 3)
        await complete(store, bucket, upload_id, 3)
        row = store.lookup(bucket, "o")
        assert row is not None
        assert row.checksum == digest("xxhash2", b"aaaabbbbbbbb")

    on_a_bucket(tmp_path, test)


def refuse(*_: object) -> object:
    raise StoreFull("full")


def test_a_part_stays_when_whoever_waits_for_it_is_cancelled(tmp_path: Path) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        upload_id = await store.uploads.begin(bucket, "o")
        await put_part(store, upload_id, 1, b"old ")
        part = await store.uploads.open_part(upload_id, 1, 4)  # a file of its own
        part.write(b"new ")
        storing = asyncio.ensure_future(part.store("xxhash2"))
        await asyncio.sleep(0)
        storing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await storing
        await part.abandon()
        await complete(store, bucket, upload_id, 1)
        assert read(store, bucket, "o") == b"new "

    on_a_bucket(tmp_path, test)


@pytest.mark.parametrize("parts", [(b"data", b"more"), (b"data", b"longer")], ids=["in one file", "in two files"])
@pytest.mark.parametrize("lost", ["removed", "emptied", "cut", "zeroed"])
def test_a_part_whose_content_was_lost_is_told(tmp_path: Path, parts: tuple[bytes, bytes], lost: str) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            bucket = await make_bucket(store)
            upload_id = await store.uploads.begin(bucket, "o")
            for number, data in enumerate(parts, 1):
                await put_part(store, upload_id, number, data)
            while (hashing := store.uploads._session(upload_id).hashing) is not None and not hashing.done():
                await hashing
            for file in files(tmp_path):
                if lost == "removed":
                    file.unlink()
                elif lost == "zeroed":
                    file.write_bytes(bytes(file.stat().st_size))
                else:
                    os.truncate(file, 0 if lost == "emptied" else file.stat().st_size - 1)
            store.uploads._sessions.clear()  # what a server knows that was not started since
            with pytest.raises(ContentDamaged, match=r"is missing|bytes, and parts up to|bytes early|not what was"):
                await asyncio.wait_for(complete(store, bucket, upload_id, 2), DEADLINE)
            assert store.lookup(bucket, "o") is None

    asyncio.run(main())


class Away:
    """A backend that takes everything."""

    @asynccontextmanager
    async def sent(self, name: str, path: Path) -> AsyncIterator[tuple[str, dict[str, str]]]:
        yield "7", {}


def test_an_object_that_was_sent_elsewhere_is_whole_when_whoever_waits_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(store: Store, bucket: Bucket) -> None:
        upload_id = await store.uploads.begin(bucket, "o")
        for number, data in ((1, b"a"), (2, b"bbb"), (3, b"cc")):  # nothing fits: they are copied to a new file
            await put_part(store, upload_id, number, data)
        begun = asyncio.Event()
        submit = store.catalog.submit

        def note(*change: Any) -> asyncio.Future[Any]:
            begun.set()
            return submit(*change)

        with monkeypatch.context() as patch:
            patch.setattr(store.catalog, "submit", note)
            completing = asyncio.ensure_future(
                store.uploads.complete(bucket, "o", upload_id, [1, 2, 3], "xxhash2", versioned=True, elsewhere=Away())
            )
            await begun.wait()
        completing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await completing
        assert read(store, bucket, "o") == b"abbbcc"

    on_a_bucket(tmp_path, test)


def test_who_is_late_in_another_process_does_not_write_to_the_object(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, shared=True) as store, opened(tmp_path, shared=True, primary=False) as other:
            bucket = await make_bucket(store)
            upload_id = await store.uploads.begin(bucket, "o")
            for number, data in ((1, b"aaaa"), (2, b"bbbb")):
                await put_part(store, upload_id, number, data)
            # Opened before the end: the object gets other content than the file that is written to.
            late = await other.uploads.open_part(upload_id, 3, 4)
            await complete(store, bucket, upload_id, 2)
            late.write(b"late")
            with pytest.raises(UploadGone):
                await late.store("xxhash2")
            await late.abandon()
            row = store.lookup(bucket, "o")
            assert row is not None
            assert store.content.path(row.content).read_bytes() == b"aaaabbbb"
            await settle(store)

    asyncio.run(main())
    assert problems(tmp_path) == []


def test_a_part_that_comes_to_another_process_while_the_upload_is_completed(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, shared=True) as store, opened(tmp_path, shared=True, primary=False) as other:
            bucket = await make_bucket(store)
            upload_id = await store.uploads.begin(bucket, "o")
            await put_part(store, upload_id, 1, b"aaaa")
            part, placed = await other.uploads._place(other.uploads._session(upload_id), upload_id, 2, 4)
            assert placed
            with store.uploads._alone(part.file) as alone:
                assert alone
                assert other.uploads._open_place(upload_id, part.file) < 0
                apart = await other.uploads.open_part(upload_id, 2, 4)
                assert apart.part.file != part.file
                await apart.abandon()
            await complete(store, bucket, upload_id, 1)
            with pytest.raises(UploadGone):
                other.uploads._open_place(upload_id, part.file)
            await settle(store)

    asyncio.run(main())
    assert problems(tmp_path) == []
