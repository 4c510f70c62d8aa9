"""Flipped bits in a part of an object: whoever reads that part gets none of it, by whatever way; who reads another part does, until it is found."""

from __future__ import annotations

import http.client
import io
import os
import random
import sqlite3
import tarfile
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from aistore import LocalCluster
from aistore.sdk import ArchiveConfig
from aistore.sdk.archive_config import ArchiveMode
from aistore.server.store.pieces import PIECE
from calling import Caller, Got, where
from store_truth import problems
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BIG = random.Random(3).randbytes(11 * PIECE + 1234)
BAD = 5 * PIECE + 4321
"""Where a bit is flipped."""
KINDS = ("xxhash2", "none", "crc32c")


@pytest.fixture(scope="module", params=[1, 3])
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with LocalCluster(targets=request.param) as started:
        with Caller(started.url) as caller:
            for kind in KINDS:
                caller.make_bucket(kind)
                props = {"checksum": {"type": kind}}
                assert caller.action("PATCH", f"/v1/buckets/{kind}", "set-bprops", props).status == 200
        yield started
        with Caller(started.url) as caller:
            for kind in KINDS:
                assert caller.action("DELETE", f"/v1/buckets/{kind}", "destroy-bck").status == 200
        until(lambda: problems(started.path, recovered=False) == [])


@pytest.fixture
def call(cluster: LocalCluster) -> Iterator[Caller]:
    """Calls on a cluster with buckets called as the types of checksum of their objects `big`, which are undamaged."""
    with Caller(cluster.url) as caller:
        for kind in KINDS:
            assert caller.put(kind, "big", BIG).status == 200
        yield caller


def test_whatever_is_written_has_sums(cluster: LocalCluster) -> None:
    client = cluster.client()
    bucket = client.bucket("written").create()
    try:
        for name in ("a", "b"):
            bucket.object(name).get_writer().put_content(BIG)
        bucket.object("a").copy(bucket.object("copy"))
        writer = bucket.object("appended").get_writer()
        handle = writer.append_content(BIG[:PIECE])
        writer.append_content(b"", writer.append_content(BIG, handle), flush=True)
        job = bucket.objects(obj_names=["a", "b"]).archive("all.tar")[0]
        assert client.job(job).wait(timeout=60).success
        with Caller(cluster.url) as call:
            pieces = [BIG[at : at + 99_999] for at in range(0, len(BIG), 99_999)]
            assert call("PUT", where("written", "chunked"), pieces).status == 200
        with closing(sqlite3.connect(cluster.path / "catalog.db")) as db:
            sql = "SELECT DISTINCT content FROM object o JOIN bucket b ON b.id = o.bucket WHERE b.name = 'written' AND layout > 0"
            contents = {content for (content,) in db.execute(sql)}
            assert len(contents) == 5
            summed = {key >> 20 for (key,) in db.execute("SELECT id FROM sums")}
            assert contents <= summed
        damaged = summed - contents  # by other tests, perhaps
        until(lambda: problems(cluster.path, recovered=False, lost=damaged) == [])
    finally:
        bucket.delete()


def file_of(cluster: LocalCluster, bucket: str, name: str) -> Path:
    sql = "SELECT content FROM object o JOIN bucket b ON b.id = o.bucket WHERE b.name = ? AND o.name = ?"
    with closing(sqlite3.connect(cluster.path / "catalog.db")) as db:
        (content,) = db.execute(sql, (bucket, name)).fetchone()
    (path,) = (cluster.path / "content").glob(f"*/{content:016x}")
    return path


def flip(cluster: LocalCluster, bucket: str, name: str = "big", at: int = BAD) -> None:
    path = file_of(cluster, bucket, name)
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 32]))
    # Where the clock for this goes by 10 ms, it would be as old as it was.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))


def is_refused(got: Got) -> None:
    assert (got.status, got.error["tcode"]) == (410, "ErrBadCksum"), got.body[:200]


def ranged(call: Caller, bucket: str, start: int, length: int) -> Got:
    return call.get(bucket, "big", {"Range": f"bytes={start}-{start + length - 1}"})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 1000, 100_000])
def test_a_range_that_touches_it_is_refused(cluster: LocalCluster, call: Caller, kind: str, length: int) -> None:
    flip(cluster, kind)
    for start in (0, 4 * PIECE, 5 * PIECE - length, 6 * PIECE, len(BIG) - length):
        got = ranged(call, kind, start, length)
        assert (got.status, got.body) == (206, BIG[start : start + length])
    is_refused(ranged(call, kind, 6 * PIECE - length, length))  # of the same piece, if not the byte itself
    is_refused(ranged(call, kind, 0, 10))
    is_refused(call.get(kind, "big"))
    assert call.put(kind, "big", BIG).status == 200
    assert ranged(call, kind, BAD, length).body == BIG[BAD : BAD + length]


def never_leaves(call: Caller, path: str, headers: dict[str, str], good: bytes, before: int) -> None:
    """An answer that is cut before the damaged piece, or a refusal; and then a refusal."""
    try:
        got = call("GET", path, None, headers)
    except http.client.IncompleteRead as cut:
        assert good.startswith(cut.partial)
        assert len(cut.partial) <= before
    except ConnectionError:
        pass
    else:
        is_refused(got)
    until(lambda: call("GET", path, None, headers).status == 410)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [0, BAD, 10 * PIECE, len(BIG) - 1])
def test_nothing_of_a_damaged_piece_leaves(cluster: LocalCluster, call: Caller, kind: str, at: int) -> None:
    flip(cluster, kind, at=at)
    never_leaves(call, where(kind, "big"), {"Range": f"bytes=1-{len(BIG) - 1}"}, BIG[1:], at // PIECE * PIECE - 1)


@pytest.mark.parametrize("kind", ["none", "crc32c"])
def test_whole_content_without_a_usable_checksum(cluster: LocalCluster, call: Caller, kind: str) -> None:
    assert call.get(kind, "big").body == BIG
    flip(cluster, kind)
    never_leaves(call, where(kind, "big"), {}, BIG, 5 * PIECE)
    copied = call("POST", f"{where(kind, 'big')}", b"")  # nothing is made of it either
    assert copied.status >= 400
    small = BIG[:50_000]
    assert call.put(kind, "small", small).status == 200
    assert call.get(kind, "small").body == small
    flip(cluster, kind, "small", 40_000)
    is_refused(call.get(kind, "small"))
    assert call.delete(kind, "small").status == 200


def tar() -> tuple[bytes, dict[str, tuple[int, int]]]:
    """A TAR, and where its members lie."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for number in range(8):
            size = 2 * PIECE if number % 2 else 3000
            info = tarfile.TarInfo(f"m{number}")
            info.size = size
            archive.addfile(info, io.BytesIO(random.Random(number).randbytes(size)))
    made.seek(0)
    with tarfile.open(fileobj=made) as archive:
        return made.getvalue(), {one.name: (one.offset_data, one.size) for one in archive}


@pytest.mark.parametrize("member", ["m2", "m3"])
@pytest.mark.parametrize("indexed", [True, False])
def test_a_member_of_an_archive(cluster: LocalCluster, call: Caller, member: str, indexed: bool) -> None:
    data, places = tar()
    assert call.put("none", "a.tar", data).status == 200
    path = f"{where('none', 'a.tar')}?archpath="
    if indexed:
        assert call("GET", f"{path}m0").status == 200
    start, size = places[member]
    flip(cluster, "none", "a.tar", start + size - 1)
    if indexed:  # else all heads are looked at first, with the pieces that they are in
        assert call("GET", f"{path}m7").body == data[places["m7"][0] :][: places["m7"][1]]
    is_refused(call("GET", path + member))
    is_refused(call("GET", f"{path}m7"))


def test_a_head_that_is_gone_is_not_the_end_of_an_archive(cluster: LocalCluster, call: Caller) -> None:
    data, places = tar()
    assert call.put("none", "a.tar", data).status == 200
    with file_of(cluster, "none", "a.tar").open("r+b") as file:
        file.seek(places["m5"][0] - 512)
        file.write(bytes(512))
    is_refused(call("GET", f"{where('none', 'a.tar')}?archpath=m7"))


def batch_of(cluster: LocalCluster, name: str, **what: Any) -> bytes:
    client = cluster.client()
    batch = client.batch(bucket=client.bucket("none")).add(name, **what)
    return b"".join(content for _, content in batch.get())


def batch_of_a_range(cluster: LocalCluster) -> bytes:
    return batch_of(cluster, "big", start=BAD - 10, length=100)


def batch_of_much(cluster: LocalCluster) -> bytes:
    return batch_of(cluster, "big", start=10, length=9 * PIECE)


def whole_in_a_batch(cluster: LocalCluster) -> bytes:
    return batch_of(cluster, "big")


def small_in_a_batch(cluster: LocalCluster) -> bytes:
    client = cluster.client()
    batch = client.batch(bucket=client.bucket("none")).add("good").add("good").add("small")
    return b"".join(content for _, content in batch.get())


def member_in_a_batch(cluster: LocalCluster) -> bytes:
    return batch_of(cluster, "a.tar", archpath="m3")


def in_parallel(cluster: LocalCluster) -> bytes:
    return cluster.client().bucket("none").object("big").get_reader(num_workers=3).read_all().tobytes()


def extracted(cluster: LocalCluster) -> bytes:
    config = ArchiveConfig(regex="m", mode=ArchiveMode.PREFIX)
    return cluster.client().bucket("none").object("a.tar").get_reader(archive_config=config).read_all()


@pytest.mark.parametrize(
    "read",
    [batch_of_a_range, batch_of_much, whole_in_a_batch, small_in_a_batch, member_in_a_batch, in_parallel, extracted],
)
def test_other_ways_to_a_part(cluster: LocalCluster, call: Caller, read: Callable[[LocalCluster], bytes]) -> None:
    data, places = tar()
    assert call.put("none", "a.tar", data).status == 200
    for name in ("good", "small"):
        assert call.put("none", name, BIG[:30_000]).status == 200
    good = read(cluster)
    assert good
    flip(cluster, "none")
    flip(cluster, "none", "small", 20_000)
    flip(cluster, "none", "a.tar", places["m3"][0] + 17)
    with pytest.raises(Exception, match=r"(?i)xxh3|damaged|early|incomplete|cut|broke|BAD DATA"):
        read(cluster)


def test_a_range_over_s3(cluster: LocalCluster, call: Caller) -> None:
    flip(cluster, "none")
    path = "/s3/none/big"
    assert call("GET", path, None, {"Range": "bytes=5-9"}).body == BIG[5:10]
    assert call("GET", path, None, {"Range": f"bytes={BAD}-{BAD + 9}"}).status == 400
    assert call("GET", path, None, {"Range": "bytes=5-9"}).status == 400


def test_a_scrub_says_which_piece(cluster: LocalCluster, call: Caller) -> None:
    for kind in KINDS:
        flip(cluster, kind)
    client = cluster.client()
    job = client.job(client.job(job_kind="scrub").start(force=True))
    assert not job.wait(timeout=60).success
    findings: Any = job.findings()
    told = {one["where"]: one["text"] for one in findings["problems"]}
    for kind in KINDS:
        assert f"bytes {5 * PIECE}-{6 * PIECE - 1}: xxh3(" in told[f"ais://{kind}/big"]
        is_refused(ranged(call, kind, 0, 1))
