"""What breaks while records are sorted: shards that are damaged or hostile, changed meanwhile, a job that is aborted, a full disk."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import shutil
import struct
import tarfile
import tracemalloc
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from aistore import LocalCluster
from aistore.sdk.errors import AISError
from aistore.server.api import sort
from aistore.server.api.sort_places import input_shards
from aistore.server.archive.archives import Archives, Content
from aistore.server.dsort import records as record_module
from aistore.server.dsort import sorting
from aistore.server.dsort.progress import Progress
from aistore.server.dsort.registry import Sorts
from aistore.server.dsort.sorting import Made, sort_shards
from aistore.server.dsort.sorting import Places as Ends
from aistore.server.dsort.spec import check_specification
from aistore.server.node import Node
from aistore.server.settings import ServerSettings
from aistore.server.store.content import finished
from aistore.server.store.errors import StoreFull
from aistore.wire.dsort import Specification
from aistore.wire.errors import ApiError
from aistore.wire.messages import convert
from aistore.wire.props import BucketProps, pack
from archives import packed, tar, unpacked, zipped
from calling import Caller
from disks import small_disk_at
from shards import Places, merged, records, shards
from store_truth import bucket_id, make_bucket, open_descriptors, opened, problems, put, read, settle
from waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from aistore.server.store.rows import Bucket
    from aistore.server.store.store import Store

# -- damaged and hostile shards --


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


def pax(records_: bytes) -> bytes:
    """A TAR of one member behind an extended header."""
    info = tarfile.TarInfo("x")
    info.type, info.size = b"x", len(records_)
    return info.tobuf() + records_ + bytes(-len(records_) % 512) + tar([("a.x", b"1")])


GOOD = tar([("a.x", b"a" * 3000), ("b.x", b"b" * 3000)])
ZIP = zipped([("a.x", b"a" * 300_000), ("b.x", bytes(range(256)) * 1000)])


def overlapping() -> bytes:
    """A ZIP of 2,000 members of a megabyte each, all of which lie in the same few bytes."""
    start = zipped([("000", b"1")]).partition(b"PK\1\2")[0]
    entry = struct.Struct("<4s4B4H3L5H2L")
    directory = b"".join(
        entry.pack(
            b"PK\1\2", 20, 3, 20, 0, 0, 8, 0, 0, 0, 1000, 1 << 20, 3, 0, 0, 0, 0, 0o100644 << 16, 0
        ) + b"%03d" % (i % 1000)
        for i in range(2000)
    )  # fmt: skip
    return start + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2000, 2000, len(directory), len(start), 0)


def emptied() -> bytes:
    """A ZIP whose directory says that its member is empty, which it is not."""
    data = bytearray(zipped([("a.x", b"hello")]))
    at = data.find(b"PK\1\2")
    data[at + 20 : at + 28] = bytes(8)
    return bytes(data)


def boasting() -> bytes:
    """A TAR of sparse members that consist of holes, of 2**62 bytes each."""
    found = b""
    for i in range(8):
        block = bytearray(tarfile.TarInfo(f"a.{i}").tobuf(tarfile.GNU_FORMAT))
        block[156], block[483:495] = ord("S"), b"\x80\0\0\0\x40" + bytes(7)
        found += checked(block)
    return found + bytes(1024)


def checked(block: bytearray) -> bytearray:
    """A header with the checksum that belongs to it."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return block


def unread(at: int) -> bytes:
    """A TAR with something that is no number at a place of a header where one belongs: others take that for the end, if they read so far."""
    block = bytearray(tarfile.TarInfo("a.x").tobuf(tarfile.GNU_FORMAT))
    block[at] = ord("x")
    return GOOD[: 2 * (512 + 3072)] + checked(block) + bytes(1024)


DAMAGED = [
    (".tar", GOOD[:2000], "unexpected EOF"),
    (".tar", GOOD[:3800], "unexpected EOF"),
    (".tar", flipped(GOOD, 20), "invalid header"),
    (".tar", GOOD[: 512 + 3072] + bytes(512) + GOOD[512 + 3072 :], "block of zeros"),
    (".tar", b"no archive at all" * 100, "invalid header"),
    (".tar", tar([("../a.x", b"1")]), "leads out of the archive"),
    (".tar", tar([("a/../../b.x", b"1")]), "leads out of the archive"),
    (".tar", tar([("/etc/passwd", b"1")]), "leads out of the archive"),
    (".tar", tar([("n" * 5000, b"1")]), "name has 5000 bytes"),
    (".tar", pax(b"x" * 100), "invalid pax header"),
    (".tar", pax(b"30 size=99999999999999999999\n"), "pax header"),
    (".tgz", GOOD, "gzip"),
    (".tgz", gzip.compress(GOOD)[:-20], "cannot be read"),
    (".tgz", flipped(gzip.compress(GOOD), 40), "cannot be read"),
    (".tar.lz4", packed(".tar.lz4", [("a.x", b"abc" * 5000)])[:-30], "cannot be read"),
    (".zip", ZIP[:-10], "not a valid zip"),
    (".zip", flipped(ZIP, len(ZIP) // 2), "cannot be made"),
    (".zip", overlapping(), "becomes more"),
    (".zip", emptied(), "checksum error"),
    (".tar", boasting(), "claim more than"),
    *((".tar", unread(at), "invalid header") for at in (101, 110, 120, 140, 329, 337)),
]


@pytest.mark.parametrize(("extension", "data", "says"), DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_shard_ends_the_job_with_its_name(one: Places, extension: str, data: bytes, says: str) -> None:
    one.put({f"in-0{extension}": packed(extension, [("z.x", b"1")]), f"in-1{extension}": data})
    error = one.failed(input_extension=extension, output_shard_size="1MB")
    assert says in error
    if "cannot be made" not in error:
        assert f"in-1{extension} cannot be read" in error
    assert one.made(one.target) == []
    until(lambda: not list((one.cluster.path / "work").glob("kept-*")))


def test_a_damaged_member_leaves_no_file_open(tmp_path: Path) -> None:
    async def run() -> None:
        async with Sorting.begin(
            tmp_path, {"in-0.zip": flipped(ZIP, len(ZIP) // 2)}, {"input_extension": ".zip"}
        ) as job:
            with pytest.raises(ApiError, match="cannot be made"):
                await job.run()

    asyncio.run(run())


def test_a_record_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_module, "_RECORD_MEMBERS_MAX", 10)
    members = [(f"a.{i}", b"") for i in range(11)]

    async def run() -> None:
        async with Sorting.begin(tmp_path, {"in-0.tar": tar(members)}) as job:
            with pytest.raises(ApiError, match="has too many members"):
                await job.run()

    asyncio.run(run())


# -- a job under the test's control --


class Sorting:
    """A job in this process, and what it is to do at certain moments."""

    def __init__(self, store: Store, archives: Archives, source: Bucket, target: Bucket, spec: dict[str, Any]) -> None:
        self.store = store
        self._archives = archives
        self.source = source
        self.target = target
        message = {
            "input_bck": {"name": source.id.name},
            "output_bck": {"name": target.id.name},
            "input_format": {"template": "in-{0..9}"},
            "output_format": "out-{000..999}",
            "output_shard_size": "2KB",
            "max_mem_usage": "1KB",
            "create_concurrency_max_limit": 1,  # one after the other
            **spec,
        }
        self.order = check_specification(convert(message, Specification), {})
        self.progress = Progress("srt-test", source.id, target.id, "")
        self.when_read: Callable[[int], Awaitable[None]] | None = None
        self.when_made: Callable[[int], Awaitable[None]] | None = None

    @classmethod
    @asynccontextmanager
    async def begin(
        cls,
        root: Path,
        contents: dict[str, bytes],
        spec: dict[str, Any] | None = None,
        *,
        capacity: int | None = None,
        same: bool = False,
    ) -> AsyncIterator[Sorting]:
        """A store with these shards, large enough to lie in files."""
        async with opened(root, capacity=capacity) as store:
            source = await make_bucket(store, "in")
            target = source if same else await make_bucket(store, "out")
            for name, content in contents.items():
                await put(store, source, name, content, in_file=len(content) > 8192)
            archives = Archives(store)
            descriptors = open_descriptors()
            try:
                yield cls(store, archives, source, target, spec or {})
            finally:
                await archives.close()
            await settle(store)
            assert not list(store.work.root.glob("*"))
            assert not open_descriptors() - descriptors
            assert store.content.pending == 0

    async def run(self) -> None:
        same = self.source.bid == self.target.bid
        ends = Ends(self._shards, self._publish, at_once=same, replacing=True, checksum_type="xxhash2")
        await sort_shards(self.store, self._archives, self.order, ends, None, self.progress)

    async def _shards(self) -> AsyncIterator[tuple[str, Content | None]]:
        for number, name in enumerate(self.order.input_names()):
            if self.when_read is not None:
                await self.when_read(number)
            yield name, Content.open(self.store, self.source, name)

    async def _publish(self, made: list[Made]) -> None:
        if self.when_made is not None:
            await self.when_made(len(self.names(self.target)))
        await finished(
            asyncio.gather(
                *(self.store.put(self.target, one.name, one.content, *one.checksum, versioned=True) for one in made)
            )
        )

    def names(self, bucket: Bucket) -> list[str]:
        rows = self.store.catalog.read("SELECT name FROM object WHERE bucket = ? ORDER BY name", (bucket.bid,))
        return [name for (name,) in rows]

    def made(self) -> list[tuple[str, bytes]]:
        found = [read(self.store, self.target, name) for name in self.names(self.target)]
        return merged(unpacked(".tar", data) for data in found if data is not None)


MADE = records(200)
BY_NAME = merged(sorted(MADE, key=lambda record: record[0][0]))


@pytest.mark.parametrize("extension", [".tar", ".tgz", ".zip"])
@pytest.mark.parametrize("how", ["overwritten", "deleted"])
def test_shards_that_change_after_they_were_read(tmp_path: Path, extension: str, how: str) -> None:
    contents = shards(MADE, 4, extension)

    spec = {"input_extension": extension, "output_extension": ".tar"}

    async def run() -> None:
        async with Sorting.begin(tmp_path, contents, spec) as job:

            async def change(number: int) -> None:
                if number == 4:  # all were read, none was written
                    for name in contents:
                        if how == "deleted":
                            await job.store.delete(job.source, [name])
                        else:
                            await put(job.store, job.source, name, packed(extension, [("new.x", b"n")]), in_file=True)
                    await settle(job.store)

            job.when_read = change
            await job.run()
            assert job.made() == BY_NAME

    asyncio.run(run())


def test_a_shard_that_changes_before_it_is_read_is_sorted_as_it_is_then(tmp_path: Path) -> None:
    async def run() -> None:
        async with Sorting.begin(tmp_path, shards(MADE, 4)) as job:

            async def change(number: int) -> None:
                if number == 1:
                    await put(job.store, job.source, "in-2.tar", tar([("zz.x", b"new")]))
                    await job.store.delete(job.source, ["in-3.tar"])

            job.when_read = change
            await job.run()
            first = merged(sorted(MADE[:100], key=lambda record: record[0][0]))
            assert job.made() == [*first, ("zz.x", b"new")]

    asyncio.run(run())


@pytest.mark.parametrize("extension", [".tar", ".tgz"])
@pytest.mark.parametrize("phase", ["extraction", "sorting", "creation", "the end"])
def test_an_abort_in_each_phase_leaves_nothing_half_done(tmp_path: Path, phase: str, extension: str) -> None:
    async def run() -> None:
        contents = shards(MADE, 4, extension)
        spec = {"input_extension": extension, "output_extension": ".tar"}
        async with Sorting.begin(tmp_path, contents, spec) as job:
            loop = asyncio.get_running_loop()
            task = asyncio.ensure_future(job.run())

            async def abort() -> None:
                task.cancel()

            async def when_read(number: int) -> None:
                if phase == "extraction" and number == 2:
                    await abort()
                if phase == "sorting" and number == 9:
                    # It takes effect where the job next waits: for a thread that writes the plan.
                    loop.call_soon(task.cancel)

            async def when_made(number: int) -> None:
                if (phase == "creation" and number == 1) or (phase == "the end" and number == 4):
                    await abort()

            job.when_read, job.when_made = when_read, when_made
            with suppress(asyncio.CancelledError):
                await task
            assert task.cancelled()
            # What was written is whole, and the first of it all.
            made = job.made()
            assert made == BY_NAME[: len(made)]
            assert bool(made) == (phase in ("creation", "the end"))
            for name, content in contents.items():
                assert read(job.store, job.source, name) == content
        assert problems(tmp_path) == []

    asyncio.run(run())


def test_an_abort_in_the_bucket_of_the_input_changes_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        contents = shards(MADE, 4)
        spec = {"output_format": "in-{0..99}"}
        async with Sorting.begin(tmp_path, contents, spec, same=True) as job:
            task = asyncio.ensure_future(job.run())
            while job.progress.created < 2:  # noqa: ASYNC110 (it counts, and tells nobody)
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert task.cancelled()
            assert {name: read(job.store, job.source, name) for name in job.names(job.source)} == contents
        assert problems(tmp_path) == []

    asyncio.run(run())


@pytest.mark.parametrize("most", [16_384, 100], ids=["memory", "number"])
def test_too_many_shards_for_the_bucket_of_the_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(sorting, "_HELD_MAX", most)

    async def run() -> None:
        made = records(1500, size=4000)
        contents = shards(made, 4)
        spec = {"output_format": "in-{0..9999}", "output_shard_size": "1"}
        async with Sorting.begin(tmp_path, contents, spec, same=True) as job:
            with pytest.raises(ApiError, match="sort into another bucket"):
                await job.run()
            assert (job.progress.created == 0) is (most == 100)  # a number that is too large is known before
            assert {name: read(job.store, job.source, name) for name in job.names(job.source)} == contents

    asyncio.run(run())


@pytest.mark.parametrize("room", [0.3, 1.2, 1.7])
def test_no_room_at_some_moment(tmp_path: Path, room: float) -> None:
    """The capacity ends while a shard is decompressed, or while shards are written."""
    made = records(300, size=8000)
    contents = shards(made, 4, ".tgz")
    stored = sum(map(len, contents.values()))

    async def run() -> None:
        capacity = int(stored * (1 + room))
        spec = {"input_extension": ".tgz", "output_extension": ".tar", "output_shard_size": "100KB"}
        async with Sorting.begin(tmp_path, contents, spec, capacity=capacity) as job:
            with pytest.raises(StoreFull):
                await job.run()
            order = merged(sorted(made, key=lambda record: record[0][0]))
            found = job.made()
            assert found == order[: len(found)]
            for name, content in contents.items():
                assert read(job.store, job.source, name) == content
        assert problems(tmp_path) == []

    asyncio.run(run())


def test_memory_is_bounded_for_a_shard_of_many_members(tmp_path: Path) -> None:
    count = 30_000
    content = tar([(f"{number * 7919 % count:020}.x", b"") for number in range(count)])

    async def run() -> int:
        spec = {"output_shard_size": "", "output_format": "out-{0..2}"}
        async with Sorting.begin(tmp_path, {"in-0.tar": content}, spec) as job:
            tracemalloc.start()
            try:
                await job.run()
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert [name for name, _ in job.made()] == [f"{number:020}.x" for number in range(count)]
        return peak

    # Items of all members would take more than 10 MiB; they get 2, and what is read and written at the time comes on top.
    assert asyncio.run(run()) < 8 << 20


def test_a_bucket_that_is_destroyed_is_no_bucket_of_missing_shards(tmp_path: Path) -> None:
    async def run() -> None:
        node = Node(ServerSettings(tmp_path))
        await node.start()
        try:
            bucket = await node.store.create_bucket(bucket_id("in"), lambda _: pack(BucketProps()))
            await put(node.store, bucket, "in-0.tar", tar([("a.x", b"1")]))
            spec = {"input_bck": {"name": "in"}, "input_format": {"template": "in-{0..9}"}, "output_format": "o-{0..9}"}
            found = input_shards(node, check_specification(convert(spec, Specification), {}), bucket)
            name, content = await found.__anext__()
            assert (name, content is not None) == ("in-0.tar", True)
            assert await found.__anext__() == ("in-1.tar", None)
            await node.store.destroy_bucket(bucket.id)
            with pytest.raises(ApiError, match="destroyed meanwhile"):
                await found.__anext__()
        finally:
            await node.stop()

    asyncio.run(run())


# -- real servers --


@pytest.mark.parametrize("targets", [1, 3])
def test_a_disk_that_is_full_while_shards_are_made(tmp_path: Path, targets: int) -> None:
    made = records(400, size=100_000)
    with small_disk_at(tmp_path / "disk", 96) as disk, LocalCluster(disk / "data", targets=targets) as cluster:
        client = cluster.client()
        source, target = client.bucket("in").create(), client.bucket("out").create()
        places = Places(cluster, client, source, target)
        places.put(shards(made, 4))
        filler = client.bucket("filler").create()
        numbers = iter(range(1000))

        def filled() -> bool:
            with suppress(AISError):  # it looks at the disk now and then only
                filler.object(f"f{next(numbers)}").get_writer().put_content(bytes(1 << 20))
            return shutil.disk_usage(disk).free < 30 << 20

        until(filled)
        assert "full" in places.failed(output_shard_size="1MB", create_concurrency_max_limit=1)
        found = merged(places.made(target))
        assert found == merged(sorted(made, key=lambda record: record[0][0]))[: len(found)]
        filler.delete()
        # With room it goes on from the start.
        until(lambda: bool(places.sort(output_shard_size="1MB")[0]))
        assert merged(places.made(target)) == merged(sorted(made, key=lambda record: record[0][0]))
        until(lambda: problems(cluster.path, recovered=False) == [])


def test_a_bomb_meets_the_capacity(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.x")
    info.size = 200 << 20
    out = io.BytesIO()
    with gzip.open(out, "wb", 9) as file:
        file.write(info.tobuf())
        for _ in range(200):
            file.write(bytes(1 << 20))
    with LocalCluster(tmp_path / "data", capacity=32 << 20) as cluster:
        client = cluster.client()
        places = Places(cluster, client, client.bucket("in").create(), client.bucket("out").create())
        places.put({"in-0.tgz": out.getvalue()})
        assert "capacity" in places.failed(input_extension=".tgz", output_extension=".tar")
        until(lambda: problems(cluster.path, recovered=False) == [])
        with Caller(cluster.url) as call:  # the room is there again
            assert call.put("in", "large", bytes(20 << 20)).status == 200


@pytest.mark.parametrize("by", ["its own call", "the general call", "the end of the server"])
def test_a_running_job_is_aborted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    async def never_done(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(sort, "sort_shards", never_done)

    def calls(url: str) -> str:
        with Caller(url) as call:
            for name in ("in", "out"):
                call.make_bucket(name)
            spec = {"input_bck": {"name": "in"}, "output_bck": {"name": "out"}, "output_format": "o-{0..9}"}
            started = call("POST", "/v1/sort", json.dumps({**spec, "input_format": {"template": "i-{0..9}"}}).encode())
            assert started.status == 200
            job_id = started.body.decode()
            got = call("DELETE", f"/v1/sort?uuid={job_id}")
            assert (got.status, "still in progress" in str(got.error["message"])) == (400, True)
            listed = json.loads(call("GET", "/v1/sort?only_active=true").body)
            assert [info["id"] for info in listed] == [job_id]
            if by == "its own call":
                assert call("DELETE", f"/v1/sort/abort?uuid={job_id}").status == 200
            elif by == "the general call":
                assert call.action("PUT", "/v1/cluster", "stop", {"ID": job_id}).status == 200
            else:
                return job_id

            def told() -> dict[str, Any]:
                (info,) = json.loads(call("GET", f"/v1/sort?uuid={job_id}").body).values()
                found: dict[str, Any] = info
                return found

            until(lambda: bool(told()["archived"]))
            assert told()["aborted"]
            assert told()["Metrics"]["errors"] == [f"dsort job {job_id} aborted"]
            assert json.loads(call("GET", "/v1/sort?only_active=true").body) == []
            return job_id

    async def run() -> None:
        node = Node(ServerSettings(tmp_path))
        await node.start()
        try:
            job_id = await asyncio.to_thread(calls, node.url)
        finally:
            await node.stop()
        async with opened(tmp_path) as store:
            info = Sorts(store).find(job_id)
            assert info is not None
            assert (info.aborted, info.archived) == (True, True)
            if by == "the end of the server":
                assert info.metrics.errors == ["the server was stopped"]

    asyncio.run(run())


def test_a_job_that_cannot_be_noted_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full() -> None:
        raise StoreFull("the disk with the data folder is full")

    def start(self: Sorts, progress: Progress) -> asyncio.Future[None]:
        noted = noting(self, progress)
        noted.cancel()
        return asyncio.ensure_future(full())

    noting = Sorts.start
    monkeypatch.setattr(Sorts, "start", start)

    def calls(url: str) -> None:
        with Caller(url) as call:
            call.make_bucket("in")
            spec = {"input_bck": {"name": "in"}, "output_format": "o-{0..9}", "input_format": {"template": "i-{0..9}"}}
            got = call("POST", "/v1/sort", json.dumps(spec).encode())
            assert (got.status, "full" in str(got.error["message"])) == (507, True)
            until(lambda: all(info["archived"] for info in json.loads(call("GET", "/v1/sort").body)))

    async def run() -> None:
        node = Node(ServerSettings(tmp_path))
        await node.start()
        try:
            await asyncio.to_thread(calls, node.url)
            assert node.control.jobs.select(running=True) == []
        finally:
            await node.stop()

    asyncio.run(run())
