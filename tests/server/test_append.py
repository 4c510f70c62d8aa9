"""Append sessions: nothing of them is lost or doubled, whatever fails in between."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from aistore import LocalCluster
from calling import Caller, Got, where
from store_truth import problems

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BIG = bytes(range(256)) * 400


@pytest.fixture(params=[1, 3])
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path / "data", targets=request.param, durability="relaxed") as started:
        with Caller(started.url) as call:
            call.make_bucket("b")
        yield started
    assert problems(tmp_path / "data") == []


@pytest.fixture
def call(cluster: LocalCluster) -> Iterator[Caller]:
    with Caller(cluster.url) as caller:
        yield caller


def append(call: Caller, name: str, content: bytes, handle: str = "") -> Got:
    return call("PUT", f"{where('b', name)}?append_type=append&append_handle={quote(handle)}", content)


def flush(call: Caller, name: str, handle: str) -> Got:
    return call("PUT", f"{where('b', name)}?append_type=flush&append_handle={quote(handle)}")


def handle_of(got: Got) -> str:
    assert got.status == 200, got.body
    return got.headers["Ais-Append-Handle"]


@pytest.mark.parametrize("parts", [[b""], [b"a"], [b"a", b"", b"b"], [BIG, b"c", BIG], [b"x" * 8192], [b"x" * 8193]])
def test_what_is_appended_is_there_after_the_flush(cluster: LocalCluster, call: Caller, parts: list[bytes]) -> None:
    for round_ in range(2):  # the second goes on with the object of the first
        handle = ""
        for part in parts:
            handle = handle_of(append(call, "o", part, handle))
        assert call.get("b", "o").status == (200 if round_ else 404)
        assert flush(call, "o", handle).status == 200
        got = call.get("b", "o")
        assert got.body == b"".join(parts) * (round_ + 1)
        assert got.headers["Ais-Version"] == str(round_ + 1)
        assert list((cluster.path / "work").iterdir()) == []
        assert flush(call, "o", handle).status == 200  # flushed before: nothing happens
        assert append(call, "o", b"late", handle).status == 404


def test_a_request_that_is_repeated_counts_once(call: Caller) -> None:
    first = handle_of(append(call, "o", BIG))
    second = handle_of(append(call, "o", b"second", first))
    assert handle_of(append(call, "o", b"second", first)) == second
    third = handle_of(append(call, "o", b"third", second))
    assert flush(call, "o", third).status == 200
    assert call.get("b", "o").body == BIG + b"secondthird"


def test_a_repetition_that_comes_too_late_never_leaves_a_hole(call: Caller) -> None:
    """It cuts the session back to where it was; who goes on from further behind is refused instead of getting zeros."""
    first = handle_of(append(call, "o", b"first"))
    second = handle_of(append(call, "o", BIG, first))
    third = handle_of(append(call, "o", b"third", second))
    again = handle_of(append(call, "o", BIG, first))
    assert again == second
    assert append(call, "o", b"fourth", third).status == 404
    assert flush(call, "o", third).status == 404
    assert call.get("b", "o").status == 404
    assert flush(call, "o", again).status == 200
    assert call.get("b", "o").body == b"first" + BIG


def test_an_append_that_is_cut_off_can_be_repeated(cluster: LocalCluster, call: Caller) -> None:
    first = handle_of(append(call, "o", b"first"))
    path = f"{where('b', 'o')}?append_type=append&append_handle={quote(first)}"

    def cut_off() -> Iterator[bytes]:
        yield BIG * 5
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Caller(cluster.url) as other:
        other("PUT", path, cut_off(), {"Content-Length": str(len(BIG) * 6)})
    while (
        got := append(call, "o", BIG, first)
    ).status == 409:  # the first is still there until the server sees its end
        pass
    assert flush(call, "o", handle_of(got)).status == 200
    assert call.get("b", "o").body == b"first" + BIG


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


def test_sessions_at_once(call: Caller, cluster: LocalCluster) -> None:
    """Each has its own snapshot, and the last flush wins; one session takes one request at a time."""
    call.put("b", "o", b"seed")
    one, two = handle_of(append(call, "o", b"-one")), handle_of(append(call, "o", b"-two"))
    assert flush(call, "o", one).status == 200
    assert call.get("b", "o").body == b"seed-one"
    assert flush(call, "o", two).status == 200
    assert call.get("b", "o").body == b"seed-two"
    start = handle_of(append(call, "o", b"."))
    statuses: list[int] = []

    def repeat() -> None:
        with Caller(cluster.url) as other:
            statuses.extend(append(other, "o", BIG * 3, start).status for _ in range(10))

    threads = [threading.Thread(target=repeat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 409}
    assert flush(call, "o", handle_of(append(call, "o", BIG, start))).status == 200
    assert call.get("b", "o").body == b"seed-two." + BIG


def test_a_flush_with_a_wrong_checksum_can_be_repeated(call: Caller) -> None:
    handle = handle_of(append(call, "o", BIG))
    path = f"{where('b', 'o')}?append_type=flush&append_handle={quote(handle)}"
    got = call("PUT", path, None, {"Ais-Checksum-Type": "xxhash2", "Ais-Checksum-Value": "0" * 16})
    assert (got.status, json.loads(got.body)["tcode"]) == (500, "ErrBadCksum")
    assert call.get("b", "o").status == 404
    assert flush(call, "o", handle).status == 200
    assert call.get("b", "o").body == BIG
