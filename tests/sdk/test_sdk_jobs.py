"""Jobs: what waiting waits for, without a cluster: the calls are generators, and the answers are the test's."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, TypeVar

import pytest

from aistore import AISError, Client
from aistore.calls import jobs
from aistore.calls.steps import Sleep
from aistore.sdk.errors import JobInfoNotFound, Timeout
from aistore.sdk.wait_result import WaitResult
from aistore.transport.request import Request
from peer import Peer, always

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aistore.calls.steps import Steps

T = TypeVar("T")

ZERO = "0001-01-01T00:00:00Z"


class Answer:
    """As much of a response as these calls look at."""

    def __init__(self, document: object) -> None:
        self.content = document.encode() if isinstance(document, str) else json.dumps(document).encode()


class Driver:
    """Runs a call against answers in their order; the last one is repeated. Sleeping takes no time but the call's."""

    def __init__(self, *answers: object) -> None:
        self._answers: Iterator[object] = _repeat_last(answers)
        self.asked: list[tuple[str, str, object]] = []
        self.slept: list[float] = []

    def run(self, steps: Steps[T]) -> T:
        try:
            effect = next(steps)
            while True:
                if isinstance(effect, Sleep):
                    self.slept.append(effect.seconds)
                    effect = next(steps)
                else:
                    assert isinstance(effect, Request)
                    assert isinstance(effect.body, bytes)
                    self.asked.append((effect.method, effect.query, json.loads(effect.body)))
                    effect = steps.send(Answer(next(self._answers)))  # type: ignore[arg-type]  # see Answer
        except StopIteration as done:
            result: T = done.value
            return result


def _repeat_last(answers: Iterable[object]) -> Iterator[object]:
    last: object = None
    for last in answers:
        yield last
    while True:
        yield last


def snap(**changes: object) -> dict[str, object]:
    return {"id": "jobJOBjob", "kind": "archive", "start-time": "2025-01-01T00:00:00Z", "end-time": ZERO, **changes}


def status(end_time: int = 0, err: str = "", aborted: bool = False) -> dict[str, object]:
    return {"uuid": "jobJOBjob", "err": err, "end_time": end_time, "aborted": aborted}


BUSY, IDLE = {"t1": [snap()], "t2": [snap(is_idle=True)]}, {"t1": [snap(is_idle=True)], "t2": [snap(is_idle=True)]}


def test_waiting_asks_until_the_job_has_ended() -> None:
    driver = Driver(status(), status(), status(end_time=1_735_689_600_000_000_000))
    result = driver.run(jobs.wait("jobJOBjob", "copy-bck", 60, True))
    assert result
    assert result.end_time == datetime(2025, 1, 1, tzinfo=timezone.utc)
    assert [query for _, query, _ in driver.asked] == ["what=status"] * 3
    # The first looks come quickly, later ones slow down.
    assert driver.slept == [0.05, pytest.approx(0.075)]


@pytest.mark.parametrize(("timeout", "interval"), [(0.5, 0.1), (4, 0.5), (60, 1.0), (300, 4.6875), (600, 9.375)])
def test_polls_slow_down_to_the_interval_of_the_timeout(timeout: float, interval: float) -> None:
    assert jobs.poll_interval(timeout) == interval


def test_an_idle_kind_is_done_when_it_was_idle_twice_in_a_row() -> None:
    driver = Driver(BUSY, IDLE, BUSY, IDLE, IDLE)
    assert driver.run(jobs.wait("jobJOBjob", "archive", 60, False)).success
    assert len(driver.asked) == 5


def test_an_aborted_job_is_not_waited_for() -> None:
    driver = Driver({"t1": [snap()], "t2": [snap(aborted=True, **{"abort-err": "user abort"})]})
    result = driver.run(jobs.wait("jobJOBjob", "archive", 60, True))
    assert (result.success, result.error, result.end_time) == (False, "user abort", None)
    assert driver.slept == []


def test_a_kind_that_is_not_given_is_asked_for() -> None:
    driver = Driver(IDLE)
    assert driver.run(jobs.wait("jobJOBjob", "", 60, False))
    assert driver.asked[0][2] == {"ID": "jobJOBjob", "Kind": "", "DaemonID": "", "Bck": None, "Buckets": None}
    with pytest.raises(JobInfoNotFound):
        Driver({}).run(jobs.wait("jobJOBjob", "", 60, False))


def test_one_target_that_has_finished_is_enough_for_jobs_of_one_target() -> None:
    driver = Driver({"t1": [snap()]}, {"t1": [snap()], "t2": [snap(**{"end-time": "2025-01-01T00:00:05Z"})]})
    assert driver.run(jobs.wait("jobJOBjob", "blob-download", 60, False))
    assert len(driver.asked) == 2


def test_no_snapshots_yet_is_no_end() -> None:
    driver = Driver({}, {"t1": []}, IDLE)
    assert driver.run(jobs.wait_for_idle("jobJOBjob", "archive", 60, False))
    assert len(driver.asked) == 4


def test_waiting_ends_with_its_time_though_a_cluster_asks_to_wait_longer() -> None:
    with Peer(always(503, b"", "Retry-After: 60")) as peer, pytest.raises(AISError) as error:
        Client(peer.url).job("jobJOBjob", "copy-bck").wait(timeout=1)
    assert error.value.status_code == 503


def test_a_look_at_a_job_meets_its_own_failures() -> None:
    done = WaitResult("jobJOBjob", True)

    def look() -> Steps[WaitResult | None]:
        try:
            yield Request("GET", "o")
        except LookupError:
            return done
        return None

    steps = jobs.poll("jobJOBjob", 1.0, False, look)
    next(steps)
    with pytest.raises(StopIteration) as end:
        steps.throw(LookupError())
    assert end.value.value is done


@pytest.mark.parametrize("wait", [jobs.wait, jobs.wait_for_idle, jobs.wait_single_node])
def test_waiting_ends_with_its_time(wait: object) -> None:
    assert callable(wait)
    answer = status() if wait is jobs.wait else BUSY
    with pytest.raises(Timeout, match="job 'jobJOBjob'"):
        Driver(answer).run(wait("jobJOBjob", "copy-bck", 0, True))


@pytest.mark.parametrize(
    ("answer", "success", "error"),
    [
        (status(1), True, ""),
        (status(1, err="out of luck"), False, "out of luck"),
        (status(1, aborted=True), False, "aborted"),
    ],
)
def test_how_a_job_ended(answer: dict[str, object], success: bool, error: str) -> None:
    result = Driver(answer).run(jobs.wait("jobJOBjob", "lru", 1, False))
    assert (result.success, result.error) == (success, error)


def test_total_time_is_from_the_first_start_to_the_last_end() -> None:
    first = snap(**{"end-time": "2025-01-01T00:00:05.5Z"})
    second = snap(**{"start-time": "2024-12-31T23:59:58Z", "end-time": "2025-01-01T02:00:03+02:00"})
    assert Driver({"t1": [first], "t2": [second]}).run(jobs.total_time("x", "")) == timedelta(seconds=7.5)
    assert Driver({"t1": [first], "t2": [snap()]}).run(jobs.total_time("x", "")) is None
    assert Driver({}).run(jobs.total_time("x", "")) is None
    assert Driver({"t1": [snap(**{"end-time": "soon"})]}).run(jobs.total_time("x", "")) is None


def test_jobs_of_a_time() -> None:
    done = snap(**{"end-time": "2025-01-01T00:00:05Z"})
    driver = Driver({"t1": [done, snap(id="otherOTHER", kind="lru")]})
    moment = datetime(2025, 1, 1, tzinfo=timezone.utc)
    assert [s.id for s in driver.run(jobs.within_timeframe("jobJOBjob", "", moment, None))] == ["jobJOBjob"]
    assert len(driver.run(jobs.within_timeframe("", "lru", moment, moment + timedelta(seconds=1)))) == 1
    with pytest.raises(JobInfoNotFound):
        driver.run(jobs.within_timeframe("jobJOBjob", "", moment, moment + timedelta(seconds=1)))
    with pytest.raises(ValueError, match="time zone"):
        driver.run(jobs.within_timeframe("jobJOBjob", "", datetime(2025, 1, 1), None))


def test_lists_of_jobs_may_be_null() -> None:
    assert Driver("null").run(jobs.list_status("", "")) == []
    assert Driver("null").run(jobs.list_running("", "")) == []
    driver = Driver(["lru[x]"])
    assert driver.run(jobs.list_running("lru", "t1")) == ["lru[x]"]
    assert driver.asked == [("GET", "what=running_all", {"kind": "lru", "node": "t1", "show_active": True})]


def test_starting_by_force_says_so_twice() -> None:
    driver = Driver("jobJOBjob")
    assert driver.run(jobs.start("lru", force=True)) == "jobJOBjob"
    method, query, document = driver.asked[0]
    assert (method, query) == ("PUT", "frc=true")
    assert isinstance(document, dict)
    assert document["value"]["Force"] is True


@pytest.mark.parametrize(
    ("call", "complaint"), [(lambda: jobs.abort("", ""), "abort"), (lambda: jobs.status("", "lru"), "status")]
)
def test_what_needs_an_id_asks_nothing_without(call: object, complaint: str) -> None:
    assert callable(call)
    driver = Driver({})
    with pytest.raises(ValueError, match=complaint):
        driver.run(call())
    assert driver.asked == []
