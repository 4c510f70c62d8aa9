"""Append sessions: nothing of them is lost or doubled, whatever fails in between."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import zlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, urlsplit

import pytest

from aistore import LocalCluster
from aistore.server.api.append import _make_handle, _Session
from calling import Caller, Got, where
from serving import Raw, request
from store_truth import is_settled, problems
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

BIG = bytes(range(256)) * 400


@pytest.fixture(scope="module", params=[1, 3])
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with LocalCluster(targets=request.param) as started:
        yield started


@pytest.fixture
def call(cluster: LocalCluster) -> Iterator[Caller]:
    """Calls on a cluster with an empty bucket `b`."""
    with Caller(cluster.url) as caller:
        caller.make_bucket("b")
        yield caller
    with Caller(cluster.url) as caller:
        assert caller.action("DELETE", "/v1/buckets/b", "destroy-bck").status == 200
    until(lambda: is_settled(cluster.path) and problems(cluster.path, recovered=False) == [])


def sessions(cluster: LocalCluster) -> set[str]:
    return {path.name for path in (cluster.path / "work").glob("*")}


def append(call: Caller, name: str, content: bytes, handle: str = "") -> Got:
    return call("PUT", f"{where('b', name)}?append_type=append&append_handle={quote(handle)}", content)


def flush(call: Caller, name: str, handle: str) -> Got:
    return call("PUT", f"{where('b', name)}?append_type=flush&append_handle={quote(handle)}")


def handle_of(got: Got) -> str:
    assert got.status == 200, got.body
    return got.headers["Ais-Append-Handle"]


@pytest.mark.parametrize("parts", [[b""], [b"a"], [b"a", b"", b"b"], [BIG, b"c", BIG], [b"x" * 8192], [b"x" * 8193]])
def test_what_is_appended_is_there_after_the_flush(cluster: LocalCluster, call: Caller, parts: list[bytes]) -> None:
    before = sessions(cluster)
    for round_ in range(2):  # the second goes on with the object of the first
        handle = ""
        for part in parts:
            handle = handle_of(append(call, "o", part, handle))
        assert call.get("b", "o").status == (200 if round_ else 404)
        assert flush(call, "o", handle).status == 200
        got = call.get("b", "o")
        assert got.body == b"".join(parts) * (round_ + 1)
        assert got.headers["Ais-Version"] == str(round_ + 1)
        assert sessions(cluster) == before
        assert flush(call, "o", handle).status == 200  # flushed before: nothing happens
        assert append(call, "o", b"late", handle).status == 404


def test_a_request_that_is_repeated_counts_once(call: Caller) -> None:
    first = handle_of(append(call, "o", BIG))
    second = handle_of(append(call, "o", b"second", first))
    assert handle_of(append(call, "o", b"second", first)) == second
    third = handle_of(append(call, "o", b"third", second))
    assert flush(call, "o", third).status == 200
    assert call.get("b", "o").body == BIG + b"secondthird"


def test_a_repetition_that_comes_late_changes_nothing(call: Caller) -> None:
    first = handle_of(append(call, "o", b"first"))
    second = handle_of(append(call, "o", BIG, first))
    third = handle_of(append(call, "o", b"third", second))
    for repeated in (BIG, BIG[:70_000], BIG[:10], b""):
        assert append(call, "o", repeated, first).status == 200
    fourth = handle_of(append(call, "o", b"fourth", third))
    assert flush(call, "o", fourth).status == 200
    assert call.get("b", "o").body == b"first" + BIG + b"thirdfourth"


@pytest.mark.parametrize("other", [b"x" * len(BIG), BIG[:70_000] + b"x", b"x"])
def test_something_else_at_an_earlier_place_never_leaves_a_hole(call: Caller, other: bytes) -> None:
    """It cuts the session there; who goes on from further behind is refused instead of getting zeros."""
    first = handle_of(append(call, "o", b"first"))
    second = handle_of(append(call, "o", BIG, first))
    third = handle_of(append(call, "o", BIG, second))
    again = handle_of(append(call, "o", other, first))
    assert append(call, "o", b"fourth", third).status == 404
    assert flush(call, "o", third).status == 404
    assert call.get("b", "o").status == 404
    assert flush(call, "o", again).status == 200
    assert call.get("b", "o").body == b"first" + other


def test_an_append_that_is_cut_off_can_be_repeated(cluster: LocalCluster, call: Caller) -> None:
    first = handle_of(append(call, "o", b"first"))
    path = f"{where('b', 'o')}?append_type=append&append_handle={quote(first)}"

    def cut_off() -> Iterator[bytes]:
        yield BIG * 5
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Caller(cluster.url) as other:
        other("PUT", path, cut_off(), {"Content-Length": str(len(BIG) * 6)})
    # The server may be at it still, or only come to it later.
    while (got := append(call, "o", BIG * 6, first)).status == 409:
        pass
    while (last := append(call, "o", b"last", handle_of(got))).status == 409:
        pass
    while (flushed := flush(call, "o", handle_of(last))).status == 409:
        pass
    assert flushed.status == 200
    assert call.get("b", "o").body == b"first" + BIG * 6 + b"last"


def test_a_session_that_could_not_begin_leaves_no_file(cluster: LocalCluster, call: Caller) -> None:
    location = call.redirected("PUT", "/v1/objects/b/o?append_type=append")
    before = sessions(cluster)
    with Raw(urlsplit(location).port or 0) as raw:
        raw.send(request("PUT", location.removeprefix(f"http://{urlsplit(location).netloc}"), BIG)[:-1])
        raw.end()
        raw.rest()
    until(lambda: sessions(cluster) == before)


def test_sessions_survive_a_kill_and_flushed_ones_do_not_come_back(cluster: LocalCluster, call: Caller) -> None:
    open_session = handle_of(append(call, "open", BIG))
    flushed = handle_of(append(call, "flushed", BIG))
    assert flush(call, "flushed", flushed).status == 200
    os.kill(cluster.pid, signal.SIGKILL)
    cluster.restart()
    with Caller(cluster.url) as again:
        assert again.get("b", "flushed").body == BIG
        assert append(again, "flushed", b"late", flushed).status == 404
        more = handle_of(append(again, "open", b"more", open_session))
        assert flush(again, "open", more).status == 200
        assert again.get("b", "open").body == BIG + b"more"


def test_sessions_at_once(call: Caller) -> None:
    """Each has its own snapshot, and the last flush wins."""
    call.put("b", "o", b"seed")
    one, two = handle_of(append(call, "o", b"-one")), handle_of(append(call, "o", b"-two"))
    assert flush(call, "o", one).status == 200
    assert call.get("b", "o").body == b"seed-one"
    assert flush(call, "o", two).status == 200
    assert call.get("b", "o").body == b"seed-two"


def test_a_session_takes_one_request_at_a_time(cluster: LocalCluster, call: Caller) -> None:
    first = handle_of(append(call, "o", b"first"))
    location = call.redirected("PUT", f"/v1/objects/b/o?append_type=append&append_handle={quote(first, safe='')}")
    path = location.removeprefix(f"http://{urlsplit(location).netloc}")
    slow = request("PUT", path, BIG)

    def in_the_way() -> bool:
        """A slow request, and whether it came before another one."""
        with Raw(urlsplit(location).port or 0) as raw:
            raw.send(slow[:-1])
            if append(call, "o", b"other", first).status == 200:
                return False
            assert flush(call, "o", first).status == 409
            raw.send(slow[-1:])
            assert raw.answer().status == 200
            return True

    until(in_the_way)
    until(lambda: flush(call, "o", first).status == 200)
    assert call.get("b", "o").body == b"first"


def test_a_flush_with_a_wrong_checksum_can_be_repeated(call: Caller) -> None:
    handle = handle_of(append(call, "o", BIG))
    path = f"{where('b', 'o')}?append_type=flush&append_handle={quote(handle)}"
    got = call("PUT", path, None, {"Ais-Checksum-Type": "xxhash2", "Ais-Checksum-Value": "0" * 16})
    assert (got.status, json.loads(got.body)["tcode"]) == (500, "ErrBadCksum")
    assert call.get("b", "o").status == 404
    assert flush(call, "o", handle).status == 200
    assert call.get("b", "o").body == BIG


def test_who_may_append_reads_nothing_by_that(call: Caller) -> None:
    """A session begins with what its object holds: flushed elsewhere, or with states that were made up, it would tell that."""
    assert call.put("b", "secret", b"what it holds").status == 200
    call.make_bucket("mine")
    handle = handle_of(append(call, "secret", b""))
    target, work, kind, state = handle.split("|")
    size, crc, seal = base64.urlsafe_b64decode(state).decode().split(".")
    assert size == "13"
    made_up = [f"{a}.{b}.{seal}" for a, b in (("1", crc), (size, str(zlib.crc32(b"what it holds"))), ("0", "0"))]
    for name, one in [("other", handle), *(("secret", sealed(target, work, kind, state)) for state in made_up)]:
        assert "is no session of" in str(flush(call, name, one).error["message"])
        assert append(call, name, b"", one).status == 400
    there = call("PUT", f"{where('mine', 'secret')}?append_type=flush&append_handle={quote(handle)}")
    assert there.status == 400
    assert call.action("DELETE", "/v1/buckets/mine", "destroy-bck").status == 200
    assert flush(call, "secret", handle).status == 200
    assert call.get("b", "secret").body == b"what it holds"


def sealed(target: str, work: str, kind: str, state: str) -> str:
    return f"{target}|{work}|{kind}|{base64.urlsafe_b64encode(state.encode()).decode()}"


def test_what_was_lost_is_not_flushed(cluster: LocalCluster, call: Caller) -> None:
    assert call.put("b", "o", BIG).status == 200
    handle = handle_of(append(call, "o", b"more"))
    work = cluster.path / "work" / handle.split("|")[1]
    content = work.read_bytes()
    work.write_bytes(BIG + bytes(4))
    got = flush(call, "o", handle)
    assert (got.status, got.error["tcode"]) == (410, "ErrBadCksum")
    assert call.get("b", "o").body == BIG
    work.write_bytes(content)
    assert flush(call, "o", handle).status == 200
    assert call.get("b", "o").body == BIG + b"more"


def test_only_what_is_added_needs_room(cluster: LocalCluster, call: Caller) -> None:
    """A session may be longer than what is left of the disk: its bytes have their place already."""
    target, work, _, _ = handle_of(append(call, "o", b"begin")).split("|")
    size = shutil.disk_usage(cluster.path).free + (1 << 30)
    os.truncate(cluster.path / "work" / work, size)  # sparse
    with contextlib.closing(sqlite3.connect(cluster.path / "catalog.db")) as catalog:
        [(key,)] = catalog.execute("SELECT value FROM meta WHERE key = 'handle key'")
        [(bid,)] = catalog.execute("SELECT id FROM bucket WHERE name = 'b'")
    bucket = SimpleNamespace(bid=bid)
    node = SimpleNamespace(
        handle_key=key.encode(),
        target_id=target,
        props=lambda _: SimpleNamespace(checksum=SimpleNamespace(type="none")),
    )
    handle = _make_handle(cast("Node", node), cast("Bucket", bucket), "o", _Session(work, size, 0))
    for content in (b"more", BIG):
        assert append(call, "o", content, handle).status == 200
    (cluster.path / "work" / work).unlink()


def test_the_capacity_is_that_of_whole_sessions(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "data", capacity="1MiB") as cluster, Caller(cluster.url) as call:
        call.make_bucket("b")
        handle = ""
        for _ in range(10):
            handle = handle_of(append(call, "o", BIG, handle))
        assert append(call, "o", BIG, handle).status == 507
        assert flush(call, "o", handle).status == 200
        assert call.get("b", "o").body == BIG * 10


def test_content_that_was_cut_short_is_not_gone_on_with(cluster: LocalCluster, call: Caller) -> None:
    assert call.put("b", "o", BIG).status == 200
    [content] = [path for path in (cluster.path / "content").rglob("*") if path.is_file()]  # nothing is left of others
    os.truncate(content, len(BIG) - 1)
    before = sessions(cluster)
    got = append(call, "o", b"more")
    assert got.status == 410
    assert f"has {len(BIG) - 1} bytes, not {len(BIG)}" in str(got.error["message"])
    assert sessions(cluster) == before
    assert call.delete("b", "o").status == 200
