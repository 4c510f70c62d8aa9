"""Waiting for an object that a remote backend is still delivering (protocol/00 19.2)."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from aistore.transport.blocking import Transport
from aistore.transport.cold_get import applies, poll, wait_bounds
from aistore.transport.errors import ReadTimeout
from aistore.transport.request import Request, Timeout
from peer import Peer, PeerConnection
from policies import Policy
from waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from aistore.transport.retry import ColdGetRules


@dataclass
class Rules:
    """What a `ColdGetConf` has."""

    est_bandwidth_bps: int = 1_250_000_000
    max_cold_wait: int = 180
    enable_remote_head: bool = True


@pytest.mark.parametrize(
    ("size", "bandwidth", "longest", "bounds"),
    [
        (0, 1_250_000_000, 180, (2, 2)),
        (100_000_000, 1_250_000_000, 180, (2, 2)),
        (10_000_000_000, 1_250_000_000, 180, (2, 32)),
        (100_000_000_000, 1_250_000_000, 180, (10, 90)),
        (20_000_000, 1_250_000, 300, (4, 64)),
        (50_000_000, 1_250_000, 300, (10, 150)),
        (10_000_000_000, 0, 180, (2, 32)),
    ],
)
def test_pauses_follow_the_size(size: int, bandwidth: int, longest: int, bounds: tuple[float, float]) -> None:
    assert wait_bounds(size, bandwidth, longest) == bounds


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "objects/b/o", "provider=aws", True),
        ("GET", "objects/b/o", "provider=gcp&namespace=x", True),
        ("GET", "objects/b/o", "provider=ais", False),
        ("GET", "objects/b/o", "", False),
        ("PUT", "objects/b/o", "provider=aws", False),
        ("GET", "buckets/b", "provider=aws", False),
    ],
)
def test_only_reads_of_remote_objects_wait(method: str, path: str, query: str, expected: bool) -> None:
    assert applies(Request(method, path, query)) is expected


def run(rules: Rules | None, statuses: list[int], size: str | None = None) -> tuple[list[str], list[float], int]:
    """Requests and pauses of a poll whose lock answers with `statuses` in turn, and the number of looks."""
    clock = [0.0]
    steps = poll(Request("GET", "objects/b/a%20b", "provider=aws&namespace=%40x%23y&pid=p"), rules, lambda: clock[0])
    requests, pauses = [], []
    step = next(steps)
    while True:
        try:
            if isinstance(step, float):
                pauses.append(step)
                clock[0] += step
                step = steps.send((0, None))
                continue
            requests.append(f"{step.method} {step.path}?{step.query}")
            step = steps.send((statuses.pop(0), None) if step.method == "POST" else (200 if size else 404, size))
        except StopIteration as end:
            return requests, pauses, end.value


def test_an_object_that_is_not_locked_is_asked_for_at_once() -> None:
    for status in (200, 202, 400, 404, 503):
        requests, pauses, looks = run(None, [status])
        assert (requests, pauses, looks) == (["POST objects/b/a%20b?provider=aws&namespace=%40x%23y"], [], 1)


def test_a_locked_object_is_polled_with_growing_pauses() -> None:
    requests, pauses, looks = run(Rules(), [423] * 6 + [200], "10000000000")
    assert pauses == [2, 4, 8, 16, 32]
    assert looks == 7
    assert requests[1] == "HEAD objects/b/a%20b?provider=aws&namespace=%40x%23y&presence=0&props=size"
    assert [r.partition(" ")[0] for r in requests] == ["POST", "HEAD"] + ["POST"] * 6


def test_polling_ends_with_the_longest_wait() -> None:
    _, pauses, _ = run(Rules(max_cold_wait=20), [423] * 100, "100000000000")
    assert sum(pauses) <= 20


def test_the_backend_is_not_asked_for_the_size_when_switched_off() -> None:
    requests, _, _ = run(Rules(enable_remote_head=False), [423, 200])
    assert requests[1].endswith("&presence=2&props=size")


def locked(times: int, stalled: threading.Event) -> Callable[[PeerConnection], None]:
    """A server whose object stays locked for so many looks; GETs stall meanwhile, which it tells."""
    looks = [0]

    def script(connection: PeerConnection) -> None:
        while True:
            received = connection.request()
            if received.method == "POST":
                assert json.loads(received.body) == {"action": "check-lock", "name": "", "value": None}
                looks[0] += 1
                connection.answer(423 if looks[0] <= times else 200)
            elif received.method == "HEAD":
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 123\r\n\r\n")
            elif looks[0] > times:
                connection.answer(200, b"from afar")
            else:
                stalled.set()
                connection.wait_for_end()
                return

    return script


def test_a_cold_get_waits_and_then_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    stalled = threading.Event()
    monkeypatch.setattr("aistore.transport.blocking.time.sleep", pauses.append)

    def begin(request: Request, rules: ColdGetRules | None) -> Generator[Request | float, tuple[int, str | None], int]:
        assert stalled.wait(DEADLINE)  # it has timed out, but may not have been heard yet
        transport.timeout = Timeout(5, DEADLINE)  # for what is answered
        return poll(request, rules)

    monkeypatch.setattr("aistore.transport.cold_get.poll", begin)
    with Peer(locked(3, stalled)) as peer:
        transport = Transport(peer.url, timeout=Timeout(5, 0.1), retry=Policy(2, cold=Rules()))
        assert transport.exchange(Request("GET", "objects/b/o", "provider=aws")).content == b"from afar"
        assert [r.method for r in peer.requests] == ["GET", "POST", "HEAD", "POST", "POST", "POST", "GET"]
        transport.close()
    assert pauses == [2, 2, 0]


def stalling(method: str) -> Callable[[PeerConnection], None]:
    """A server that does not answer this request."""

    def script(connection: PeerConnection) -> None:
        assert connection.request().method == method
        connection.wait_for_end()

    return script


def test_a_failure_while_waiting_is_logged_and_the_read_fails_as_before(caplog: pytest.LogCaptureFixture) -> None:
    with Peer(*map(stalling, ("GET", "POST", "GET"))) as peer, caplog.at_level(logging.WARNING, "aistore.transport"):
        transport = Transport(peer.url, timeout=Timeout(5, 0.05), retry=Policy(2))
        with pytest.raises(ReadTimeout, match="2 attempts"):
            transport.exchange(Request("GET", "objects/b/o", "provider=aws"))
        assert len(peer.seen(3)) == 3
    assert "waiting for" in caplog.text


def test_an_object_of_the_cluster_is_not_waited_for() -> None:
    with Peer(stalling("GET")) as peer:
        transport = Transport(peer.url, timeout=Timeout(5, 0.05), retry=Policy(2))
        with pytest.raises(ReadTimeout):
            transport.exchange(Request("GET", "objects/b/o", "provider=ais"))
        assert len(peer.seen(2)) == 2
