"""Readers and writers of the same objects: every answer is one whole version."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from aistore import LocalCluster
from calling import Caller
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS = 1.0
# In the catalog, in a file that is read at once, in a file that is sent piece by piece.
SIZES = (500, 20_000, 700_000)


def version_of(number: int, size: int) -> bytes:
    """Content that tells its number and size all the way through."""
    stamp = b"%08d/%08d;" % (number, size)
    return (stamp * (size // len(stamp) + 1))[:size]


def check_whole(body: bytes) -> int:
    number, size = int(body[:8]), int(body[9:17])
    assert body == version_of(number, size)
    return number


class Crew:
    """Threads that do something again and again until the time is over or one of them finds something wrong."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self.failures: list[BaseException] = []
        self.done = 0

    def add(self, work: Callable[[Caller, int], None]) -> None:
        def run() -> None:
            try:
                with Caller(self._url) as call:
                    turn = 0
                    while not self._stop.is_set():
                        work(call, turn)
                        turn += 1
                        self.done += 1
            except BaseException as error:
                self.failures.append(error)
                self._stop.set()

        self._threads.append(threading.Thread(target=run))

    def work(self) -> None:
        for thread in self._threads:
            thread.start()
        self._stop.wait(SECONDS)
        until(lambda: self.done > len(self._threads) or self._stop.is_set())
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert self.failures == []


@pytest.fixture
def strict_cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path / "data", durability="strict") as started:
        yield started


@pytest.mark.parametrize("kind", ["cluster", "cluster3", "strict_cluster"])
def test_a_reader_sees_one_whole_version(kind: str, request: pytest.FixtureRequest) -> None:
    cluster: LocalCluster = request.getfixturevalue(kind)
    bucket = f"whole-{kind}"
    with Caller(cluster.url) as call:
        call.make_bucket(bucket)
        call.put(bucket, "o", version_of(0, SIZES[0]))
    crew = Crew(cluster.url)

    def overwrite(call: Caller, turn: int) -> None:
        content = version_of(turn, SIZES[turn % 3] + turn % 7)
        assert call.put(bucket, "o", content).status == 200

    def delete(call: Caller, turn: int) -> None:
        assert call.delete(bucket, "o").status in (200, 404)
        time.sleep(0.02)

    def read(call: Caller, turn: int) -> None:
        got = call.get(bucket, "o")
        if got.status == 404:
            return
        assert got.status == 200, got.body[:300]
        check_whole(got.body)

    def read_range(call: Caller, turn: int) -> None:
        got = call.get(bucket, "o", {"Range": "bytes=0-450"})
        if got.status == 404:
            return
        assert got.status == 206, got.body[:300]
        total = int(got.headers["Content-Range"].rpartition("/")[2])
        assert got.body == version_of(int(got.body[:8]), total)[:451]
        tail = call.get(bucket, "o", {"Range": "bytes=-35"})
        if tail.status == 206:
            stamp = re.search(rb"(\d{8})/(\d{8});", tail.body)  # 35 bytes hold a whole one wherever they begin
            assert stamp is not None
            assert tail.body == version_of(int(stamp[1]), int(stamp[2]))[-35:]

    crew.add(overwrite)
    crew.add(overwrite)
    crew.add(delete)
    crew.add(read)
    crew.add(read)
    crew.add(read_range)
    crew.work()


@pytest.mark.parametrize("kind", ["cluster", "cluster3"])
def test_no_version_number_is_handed_out_twice(kind: str, request: pytest.FixtureRequest) -> None:
    cluster: LocalCluster = request.getfixturevalue(kind)
    bucket = f"versions-{kind}"
    with Caller(cluster.url) as call:
        call.make_bucket(bucket)
    seen: list[int] = []

    def write(number: int) -> None:
        with Caller(cluster.url) as call:
            for turn in range(40):
                content = b"%d-%d" % (number, turn) * (1 if turn % 2 else 3000)
                seen.append(int(call.put(bucket, "o", content).headers["Ais-Version"]))

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(seen) == list(range(1, 161))


@pytest.mark.parametrize("kind", ["cluster", "cluster3"])
def test_copies_carry_content_and_checksum_of_one_version(kind: str, request: pytest.FixtureRequest) -> None:
    """Into a bucket with another type of checksum the content is hashed first; it may be replaced meanwhile."""
    cluster: LocalCluster = request.getfixturevalue(kind)
    source, target = f"from-{kind}", f"to-{kind}"
    with Caller(cluster.url) as call:
        call.make_bucket(source)
        call.make_bucket(target)
        assert (
            call.action("PATCH", f"/v1/buckets/{target}", "set-bprops", {"checksum": {"type": "crc32c"}}).status == 200
        )
        call.put(source, "o", version_of(0, SIZES[1]))
    crew = Crew(cluster.url)

    def overwrite(call: Caller, turn: int) -> None:
        assert call.put(source, "o", version_of(turn, SIZES[turn % 3])).status == 200

    def copy(call: Caller, turn: int) -> None:
        uname = quote(f"ais/@#/{target}/c", safe="")
        assert call("PUT", f"/v1/objects/{source}/o?object_to={uname}").status == 200
        got = call.get(target, "c")
        check_whole(got.body)
        assert got.headers["Ais-Checksum-Type"] == "crc32c"
        assert got.headers["Ais-Checksum-Value"] == f"{crc32c(got.body):08x}"

    crew.add(overwrite)
    crew.add(copy)
    crew.work()


def crc32c(data: bytes) -> int:
    from aistore.wire.crc32c import Crc32c

    hasher = Crc32c()
    hasher.update(data)
    return int(hasher.hexdigest(), 16)


@pytest.mark.parametrize("kind", ["cluster", "cluster3"])
def test_destroying_a_bucket_under_load(kind: str, request: pytest.FixtureRequest) -> None:
    """Calls see the bucket or not; a new bucket of the same name is empty."""
    cluster: LocalCluster = request.getfixturevalue(kind)
    bucket = f"destroyed-{kind}"
    crew = Crew(cluster.url)
    lock = threading.Lock()

    def destroy_and_create(call: Caller, turn: int) -> None:
        with lock:
            call.make_bucket(bucket)
            assert call.names(bucket) == []
        for i in range(5):
            assert call.put(bucket, f"own{i}", version_of(i, SIZES[i % 2])).status == 200
        assert call.action("DELETE", f"/v1/buckets/{bucket}", "destroy-bck").status == 200

    def use(call: Caller, turn: int) -> None:
        with lock:  # not while the new bucket is looked at
            put = call.put(bucket, "own1", version_of(turn, SIZES[turn % 3]))
        assert put.status in (200, 404), put.body
        got = call.get(bucket, "own1")
        assert got.status in (200, 404), got.body[:300]
        if got.status == 200:
            check_whole(got.body)

    crew.add(destroy_and_create)
    crew.add(use)
    crew.add(use)
    crew.work()
