"""No room left: writes are refused with 507, reads and deletes go on, and writes resume when there is room."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from aistore import LocalCluster
from calling import Caller, Got, where
from disks import small_disk_at
from store_truth import content_sizes, is_settled, problems
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aistore.server.store.durability import Durability

MIB = 1 << 20
CAPACITY = 4 * MIB


def refused(got: Got) -> bool:
    if got.status != 507:
        return False
    assert got.error["tcode"] == "ErrCapExceeded"
    assert str(got.error["message"]).startswith("out of space: ")
    return True


@pytest.fixture(scope="module", params=[1, 3])
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with LocalCluster(targets=request.param, capacity=CAPACITY) as started:
        yield started


@pytest.fixture
def call(cluster: LocalCluster) -> Iterator[Caller]:
    """Calls on a cluster with an empty bucket `b`."""
    with Caller(cluster.url) as caller:
        caller.make_bucket("b")
        yield caller
    with Caller(cluster.url) as caller:
        assert caller.action("DELETE", "/v1/buckets/b", "destroy-bck").status == 200
        caller.make_bucket("room")
        until(lambda: caller.put("room", "o", bytes(CAPACITY - 10_000)).status == 200)  # the purge makes room
        assert caller.action("DELETE", "/v1/buckets/room", "destroy-bck").status == 200
        until(lambda: is_settled(cluster.path) and problems(cluster.path, recovered=False) == [])


@pytest.mark.parametrize("size", [4_000, 30_000, 500_000])
def test_the_capacity_is_kept(call: Caller, size: int) -> None:
    stored = 0
    while (got := call.put("b", f"o{stored}", b"%08d" % stored + bytes(size - 8))).status == 200:
        stored += 1
        assert stored * size < 2 * CAPACITY
    assert refused(got)
    assert stored * size > CAPACITY // 2
    assert call.get("b", f"o{stored}").status == 404
    # reads go on, small writes that still fit too
    for i in (0, stored - 1):
        assert call.get("b", f"o{i}").body == b"%08d" % i + bytes(size - 8)
    assert call("PATCH", where("b", "o0"), b'{"value": {"k": "v"}}').status == 200
    for i in range(2):
        assert call.delete("b", f"o{i}").status == 200
    until(lambda: call.put("b", "again", bytes(size)).status == 200)
    assert call.get("b", "again").body == bytes(size)


def chunks(total: int) -> list[bytes]:
    return [bytes(100_000)] * (total // 100_000)


def test_a_body_of_unknown_length_is_cut_where_it_fills_the_capacity(cluster: LocalCluster, call: Caller) -> None:
    def content_bytes() -> int:
        return sum(content_sizes(cluster.path).values())

    before = content_bytes()
    for _ in range(2):
        assert refused(call("PUT", where("b", "o"), chunks(20 * MIB)))
        assert call.get("b", "o").status == 404
        until(lambda: content_bytes() <= before)
    assert call("PUT", where("b", "o"), chunks(MIB)).status == 200


def test_uploads_at_once_count_together(call: Caller, cluster: LocalCluster) -> None:
    """Each would fit alone."""
    import threading

    statuses: list[int] = []

    def upload(number: int) -> None:
        with Caller(cluster.url) as own:
            got = own.put("b", f"same{number}", bytes(3 * MIB))
            assert got.status == 200 or refused(got)
            statuses.append(got.status)

    # To one target process: several do not know of each other's uploads, only of what is stored.
    threads = [threading.Thread(target=upload, args=(0,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 200 in statuses
    stored = [name for name in call.names("b") if call.get("b", name).status == 200]
    assert len(stored) == 1


def test_append_sessions_fit_into_the_capacity(call: Caller) -> None:
    handle, size = "", 0
    path = f"{where('b', 'o')}?append_type="
    while True:
        got = call("PUT", f"{path}append&append_handle={quote(handle)}", bytes(MIB))
        if got.status != 200:
            break
        handle, size = got.headers["Ais-Append-Handle"], size + MIB
        assert size <= CAPACITY
    assert refused(got)
    assert call.put("b", "other", bytes(CAPACITY - 100_000)).status == 200
    assert refused(call("PUT", f"{path}flush&append_handle={quote(handle)}"))
    assert call.get("b", "o").status == 404
    assert call.delete("b", "other").status == 200
    # what was appended is still there
    until(lambda: call("PUT", f"{path}flush&append_handle={quote(handle)}").status == 200)
    assert call.get("b", "o").body == bytes(size)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 MiB."""
    with small_disk_at(tmp_path / "disk", 64) as folder:
        yield folder


@pytest.mark.parametrize(("durability", "targets"), [("strict", 1), ("relaxed", 3)])
def test_a_full_disk(small_disk: Path, durability: Durability, targets: int) -> None:
    size = 2_000_000
    with (
        LocalCluster(small_disk / "data", durability=durability, targets=targets) as cluster,
        Caller(cluster.url) as call,
    ):
        call.make_bucket("b")
        for _ in range(2):  # it can be full again and again
            until((cluster.path / "reserve").exists)
            stored = len(call.names("b"))
            while (got := call.put("b", f"o{stored}", b"%08d" % stored + bytes(size - 8))).status == 200:
                stored += 1
            assert refused(got)
            foreign = small_disk / "foreign"
            with foreign.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(bytes(MIB))
            assert refused(call.put("b", f"o{stored}", bytes(size)))
            assert call.get("b", "o0").body == b"%08d" % 0 + bytes(size - 8)
            assert call.delete("b", f"o{stored - 1}").status == 200
            foreign.unlink()
            for i in range(1, stored - 1):
                assert call.delete("b", f"o{i}").status == 200
            until(lambda: call.put("b", "o1", b"%08d" % 1 + bytes(size - 8)).status == 200)
            assert call.names("b") == ["o0", "o1"]
        cluster.restart()
        with Caller(cluster.url) as again:
            assert again.get("b", "o1").body == b"%08d" % 1 + bytes(size - 8)
    assert problems(small_disk / "data") == []
