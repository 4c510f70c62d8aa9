"""Copies of many objects, and other names for buckets: what the recorded scenarios do not show."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from aistore.server.jobs import copying
from aistore.server.jobs.copying import Copying, Plan
from aistore.server.jobs.registry import Job, JobRegistry
from aistore.server.store import copying as store_copying
from aistore.server.store.errors import ContentMissing
from aistore.server.store.scan import Scanner
from aistore.wire.checksum import digest
from aistore.wire.errors import ApiError
from store_truth import bucket_id, crash_copy, make_bucket, opened, problems, put, read, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from aistore.server.store.rows import Bucket
    from aistore.server.store.store import Store

PLAIN = Plan("", {}, False, False, False)


def names(store: Store, bucket: Bucket) -> list[str]:
    rows = store.catalog.read("SELECT name FROM object WHERE bucket = ? ORDER BY name", (bucket.bid,))
    return [name for (name,) in rows]


def on_two_buckets(
    root: Path,
    test: Callable[[Store, Bucket, Bucket, Callable[[Bucket, Plan], Copying]], Coroutine[object, object, None]],
) -> None:
    """Run a test on a source with some objects, small and large, and an empty target."""

    async def main() -> None:
        async with opened(root) as store:
            source, target = await make_bucket(store, "src"), await make_bucket(store, "dst")
            for name in ("a/1.jpeg", "a/2.jpg", "b"):
                await put(store, source, name, name.encode(), in_file=name == "b", custom={"k": name})
            scanner = Scanner(store.catalog)
            registry = JobRegistry(store)
            job = registry.start("copy-bck", forever)

            def made(into: Bucket, plan: Plan) -> Copying:
                return Copying(job, store, scanner, source, into, "xxhash2", plan)

            try:
                await test(store, source, target, made)
                await settle(store)
            finally:
                await registry.close()
                scanner.close()

    asyncio.run(main())
    assert problems(root) == []


async def forever(job: Job) -> None:
    await asyncio.Event().wait()


def counters(copying: Copying) -> tuple[str, str]:
    stats = copying.job.snapshot().stats
    return stats.loc_objs, stats.loc_bytes


def test_copies_share_content_and_outlive_the_original(tmp_path: Path) -> None:
    async def test(store: Store, source: Bucket, target: Bucket, made: Callable[[Bucket, Plan], Copying]) -> None:
        stored = store.bytes
        one = made(target, PLAIN)
        await one.prefix("")
        assert counters(one) == ("3", "16")
        assert store.bytes == stored
        await store.destroy_bucket(source.id)
        await settle(store)
        assert {name: read(store, target, name) for name in names(store, target)} == {
            "a/1.jpeg": b"a/1.jpeg", "a/2.jpg": b"a/2.jpg", "b": b"b",
        }  # fmt: skip
        row = store.lookup(target, "b")
        assert row is not None
        assert (row.version, row.custom) == ("1", {"k": "b"})
        assert store.bytes == stored

    on_two_buckets(tmp_path, test)


def test_copies_in_the_same_bucket_are_not_copied_again(tmp_path: Path) -> None:
    async def test(store: Store, source: Bucket, target: Bucket, made: Callable[[Bucket, Plan], Copying]) -> None:
        await made(source, Plan("z", {}, False, False, False)).prefix("")
        assert names(store, source) == ["a/1.jpeg", "a/2.jpg", "b", "za/1.jpeg", "za/2.jpg", "zb"]

    on_two_buckets(tmp_path, test)


def test_a_checksum_of_another_type_is_computed(tmp_path: Path) -> None:
    async def test(store: Store, source: Bucket, target: Bucket, made: Callable[[Bucket, Plan], Copying]) -> None:
        await made(target, PLAIN)._replace(checksum="md5").prefix("")
        for name in names(store, target):
            row = store.lookup(target, name)
            assert row is not None
            assert (row.checksum_type, row.checksum) == ("md5", digest("md5", name.encode()))
        await made(target, PLAIN)._replace(checksum="none").names(["b"])
        row = store.lookup(target, "b")
        assert row is not None
        assert row.checksum_type == "md5"  # the same content was there

    on_two_buckets(tmp_path, test)


def test_content_that_cannot_be_read_ends_the_job_or_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(store: Store, source: Bucket, target: Bucket, made: Callable[[Bucket, Plan], Copying]) -> None:
        def missing(bucket: Bucket, row: object) -> None:
            raise ContentMissing("gone")

        monkeypatch.setattr(store, "open_current", missing)
        one = made(target, PLAIN)._replace(checksum="md5")
        with pytest.raises(ApiError, match="gone"):
            await one.names(["b"])
        one = one._replace(plan=PLAIN._replace(coer=True))
        await one.names(["b"])
        assert "gone" in one.job.status().err
        assert names(store, target) == []
        monkeypatch.undo()

    on_two_buckets(tmp_path, test)


def test_synchronize_deletes_copies_of_what_is_gone(tmp_path: Path) -> None:
    async def test(store: Store, source: Bucket, target: Bucket, made: Callable[[Bucket, Plan], Copying]) -> None:
        plan = Plan("", {"jpeg": "jpg"}, False, True, False)
        for name in ("a/1.jpg", "a/2.jpg", "a/3.jpg", "a/1.jpeg", "other"):
            await put(store, target, name, b"old")
        await made(target, plan).prefix("a/")
        await made(target, plan).synchronize("a/")
        # a/1.jpeg is no copy: its original's copy is called a/1.jpg
        assert names(store, target) == ["a/1.jpg", "a/2.jpg", "other"]
        await store.delete(source, ["a/1.jpeg"])
        await made(target, plan).synchronize_names(["a/1.jpeg", "a/2.jpg"])
        assert names(store, target) == ["a/2.jpg", "other"]

    on_two_buckets(tmp_path, test)


@pytest.mark.parametrize(
    ("name", "copy"),
    [
        ("p/x.jpeg", "n-p/x.jpg"),
        ("x.tar.jpeg", "n-x.tar.jpg"),
        ("jpeg", "n-jpeg"),
        ("a.b/c", "n-a.b/c"),
        ("x.e", "n-x."),
    ],
)
def test_names_of_copies(name: str, copy: str) -> None:
    plan = Plan("n-", {"jpeg": ".jpg", "e": "", ".txt": "md"}, False, False, False)
    assert plan.copy_of(name) == copy
    assert name in plan.originals_of(copy.removeprefix("n-"))


def test_a_destination_made_for_a_job_goes_when_the_job_is_aborted_or_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_BATCH", 1)

    async def main() -> None:
        async with opened(tmp_path / "a") as store:
            source = await make_bucket(store, "src")
            kept = await make_bucket(store, "kept")
            registry = JobRegistry(store)
            jobs = []
            for name in ("one", "two"):
                made = store.create_bucket(bucket_id(name), lambda number: b"%d" % number)
                job = registry.start("copy-bck", forever, source=source.id, destination=bucket_id(name))
                job.has_made((await made).bid)
                jobs.append(job)
            jobs.append(registry.start("copy-bck", forever, source=source.id, destination=kept.id))
            await store.catalog.submit(lambda tx: None)
            crash_copy(tmp_path / "a", tmp_path / "b")
            registry.abort(jobs[0])
            registry.abort(jobs[2])
            while not (jobs[0].ended and jobs[2].ended):  # noqa: ASYNC110 (jobs tell nobody)
                await asyncio.sleep(0.001)
            assert {bucket.id.name for bucket in store.buckets()} == {"src", "kept", "two"}
            await registry.close()
            assert {bucket.id.name for bucket in store.buckets()} == {"src", "kept"}
        async with opened(tmp_path / "b") as store:
            registry = JobRegistry(store)
            await registry.close()
            shown = [registry.find(job.id) for job in jobs]
            assert [job.status().err for job in shown if job is not None] == [
                "the server was killed while the job ran"
            ] * 3

    asyncio.run(main())


@pytest.mark.parametrize("crash", [False, True])
def test_what_others_store_in_a_destination_made_for_a_job_stays_when_the_job_is_aborted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: bool
) -> None:
    monkeypatch.setattr(store_copying, "_UNDONE_AT_ONCE", 2)

    async def main() -> None:
        async with opened(tmp_path / "a") as store:
            source = await make_bucket(store, "src")
            for name in ("a", "b", "c", "d", "e"):
                await put(store, source, name, name.encode() * 10, in_file=name in "bd")
            scanner, registry = Scanner(store.catalog), JobRegistry(store)
            made = store.create_bucket(bucket_id("made"), lambda number: b"%d" % number)
            job = registry.start("copy-bck", forever, source=source.id, destination=bucket_id("made"))
            target = await made
            job.has_made(target.bid)
            other = registry.start("copy-listrange", forever, source=source.id, destination=target.id)
            await Copying(job, store, scanner, source, target, "xxhash2", PLAIN).prefix("")
            # Another job makes a copy that is there already, and somebody stores an object of a new name, and one of a name that is there.
            await Copying(other, store, scanner, source, target, "xxhash2", PLAIN).names(["d"])
            await put(store, target, "new", b"new")
            await put(store, target, "b", b"other")
            if crash:
                registry._note(job._record)  # with what the change that makes the bucket says of it
                await store.catalog.submit(lambda tx: None)
                crash_copy(tmp_path / "a", tmp_path / "b")
            registry.abort(job)
            while not job.ended:  # noqa: ASYNC110 (jobs tell nobody)
                await asyncio.sleep(0.001)
            assert names(store, target) == ["b", "d", "new"]
            assert store.usage(target) == (3, 18)
            assert read(store, target, "d") == b"d" * 10
            await registry.close()
            scanner.close()
            await settle(store)
        if crash:
            async with opened(tmp_path / "b") as store:
                registry = JobRegistry(store)
                await registry.recovered()
                found = store.bucket(bucket_id("made"))
                assert found is not None
                assert names(store, found) == ["b", "d", "new"]
                await registry.close()
                await settle(store)

    asyncio.run(main())
    for root in (tmp_path / "a", tmp_path / "b")[: 1 + crash]:
        assert problems(root) == []


def test_copies_are_undone_with_the_bucket_that_was_made_for_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            source = await make_bucket(store, "src")
            await put(store, source, "a", b"a")
            scanner, registry = Scanner(store.catalog), JobRegistry(store)
            made = store.create_bucket(bucket_id("made"), lambda number: b"%d" % number)
            job = registry.start("copy-bck", forever, source=source.id, destination=bucket_id("made"))
            target = await made
            job.has_made(target.bid)
            await Copying(job, store, scanner, source, target, "xxhash2", PLAIN).prefix("")
            assert names(store, target) == ["a"]
            registry.abort(job)
            while not job.ended:  # noqa: ASYNC110 (jobs tell nobody)
                await asyncio.sleep(0.001)
            assert store.bucket(target.id) is None
            await registry.close()
            scanner.close()
            await settle(store)

    asyncio.run(main())
    assert problems(tmp_path) == []
