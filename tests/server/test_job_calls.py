"""Jobs as clients see them, on one node and on several targets: they move, wait, are aborted, and are remembered."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from aistore import LocalCluster
from aistore.sdk.errors import AISError, JobInfoNotFound
from calling import Caller
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aistore.sdk import Bucket, Client
    from aistore.sdk.types import JobSnap

MANY = 16_000


@pytest.fixture
def full(where: LocalCluster, there: Client) -> Iterator[Bucket]:
    """A bucket of many objects, of one byte each."""
    few = there.bucket("jobs-few").create(exist_ok=True)
    many = there.bucket("jobs-many").create()
    with Caller(where.url) as call:
        for number in range(MANY // 8):
            assert call.put(few.name, f"{number:05}", b"x").status == 200
    for number in range(8):
        assert there.job(few.copy(many, prepend=f"{number}/")).wait(timeout=60).success
    yield many
    many.delete()
    few.delete()


def counted(client: Client, job_id: str) -> tuple[int, bool]:
    """Objects so far over all targets, and whether it has ended."""
    snaps = client.job(job_id).get_details().list_snapshots()
    return sum(snap.stats.objects for snap in snaps if snap.stats), all(ended(snap) for snap in snaps)


def ended(snap: JobSnap) -> bool:
    return not snap.end_time.startswith("0001")


def test_counters_move_while_a_job_runs(there: Client, full: Bucket) -> None:
    job_id = full.objects(obj_template="*").delete()
    seen = set()
    over = False
    while not over:
        objects, over = counted(there, job_id)
        seen.add(objects)
    assert max(seen) == MANY
    assert any(0 < objects < MANY for objects in seen)
    assert full.list_all_objects() == []


def test_an_aborted_job_stops_and_tells_what_it_had_done(there: Client, full: Bucket) -> None:
    job_id = full.objects(obj_template="*").delete()
    until(lambda: counted(there, job_id)[0] > 0)
    job = there.job(job_id)
    job.abort()
    result = job.wait(timeout=60)
    assert (result.success, result.error) == (False, "user abort")
    status = job.status()
    assert status.aborted
    assert status.end_time
    (left,) = {len(full.list_all_objects()) for _ in range(2)}  # nothing happens any more
    assert counted(there, job_id) == (MANY - left, True)
    assert {snap.abort_err for snap in job.get_details().list_snapshots()} == {"user abort"}
    job.abort()  # of one that has ended: nothing
    assert job.status() == status


def test_waits_agree_about_a_job_that_has_ended(there: Client) -> None:
    bucket = there.bucket("jobs-waits").create()
    try:
        bucket.object("a").get_writer().put_content(b"12345")
        began = datetime.now(timezone.utc) - timedelta(seconds=1)
        for job_id in (
            bucket.objects(obj_names=["a"]).copy(bucket, prepend="copy-")[0],
            bucket.objects(obj_names=["a"]).delete(),
        ):
            job = there.job(job_id)
            for wait in (job.wait, job.wait_for_idle):
                assert wait(timeout=30).success
            assert any(snap.id == job_id for snap in job.get_within_timeframe(began))
            with pytest.raises(JobInfoNotFound):
                job.get_within_timeframe(datetime.now(timezone.utc) + timedelta(hours=1))
        assert job.wait_single_node(timeout=30).success
        took = job.get_total_time()
        assert took is not None
        assert timedelta() <= took < timedelta(minutes=1)
    finally:
        bucket.delete()


def test_an_unknown_job_is_an_error_at_once(there: Client) -> None:
    job = there.job("Unknwn01x")
    for call in (job.status, job.wait, job.wait_for_idle, job.get_details):
        with pytest.raises(AISError) as caught:
            call()
        assert caught.value.status_code == 404
    job.abort()


def test_kinds_of_several_machines(there: Client) -> None:
    targets = there.cluster().get_info().tmap
    rebalance = there.job(job_kind="rebalance")
    if len(targets) == 1:
        with pytest.raises(AISError, match="not enough targets"):
            rebalance.start()
    else:
        first, second = rebalance.start(), rebalance.start()
        assert re.fullmatch("g[0-9]+", first)
        assert int(second[1:]) == int(first[1:]) + 1
        assert there.job(second).wait(timeout=30).success
    with pytest.raises(AISError) as caught:
        there.job(job_kind="resilver").start()
    assert caught.value.status_code == 501
    for target in targets:
        assert there.job(there.job(job_kind="resilver").start(daemon_id=target)).wait(timeout=30).success


def test_copies_and_slices_are_taken_note_of_and_no_more(there: Client) -> None:
    bucket = there.bucket("jobs-mirror").create()
    try:
        bucket.object("a").get_writer().put_content(b"12345")

        def props() -> dict[str, dict[str, object]]:
            document: dict[str, dict[str, object]] = json.loads(bucket.head()["Ais-Bucket-Props"])
            return document

        answer = bucket.make_request("PATCH", "set-bprops", value={"mirror": {"enabled": True, "copies": 3}})
        job = there.job(answer.text)
        assert job.wait(timeout=30).success
        assert {snap.kind for snap in job.get_details().list_snapshots()} == {"make-n-copies"}
        assert counted(there, answer.text) == (1, True)
        assert (props()["mirror"]["enabled"], props()["mirror"]["copies"]) == (True, 3)
        # The same again is no work; one copy turns it off.
        again = bucket.make_request("PATCH", "set-bprops", value={"mirror": {"copies": 3}})
        assert again.text == ""
        assert there.job(bucket.make_request("POST", "make-n-copies", value=1).text).wait().success  # type: ignore[arg-type]  # a number
        assert (props()["mirror"]["enabled"], props()["mirror"]["copies"]) == (False, 1)
        assert [entry.copies for entry in bucket.list_all_objects(props="name,copies")] == [1]
        slices = {"enabled": True, "data_slices": 1, "parity_slices": 1}
        if len(there.cluster().get_info().tmap) == 1:
            with pytest.raises(AISError, match="requires at least 3 targets"):
                bucket.make_request("PATCH", "set-bprops", value={"ec": slices})
        else:
            with pytest.raises(AISError) as caught:
                bucket.make_request("PATCH", "set-bprops", value={"ec": slices, "mirror": {"enabled": True}})
            assert caught.value.status_code == 409
            answer = bucket.make_request("PATCH", "set-bprops", value={"ec": slices})
            assert there.job(answer.text).wait(timeout=30).success
            assert props()["ec"]["enabled"] is True
        assert bucket.object("a").get_reader().read_all() == b"12345"
    finally:
        bucket.delete()


@pytest.mark.parametrize("targets", [1, 3])
def test_history_is_there_after_a_restart(tmp_path: Path, targets: int) -> None:
    with LocalCluster(tmp_path, durability="relaxed", targets=targets) as cluster:
        with cluster.client() as client:
            bucket = client.bucket("b").create()
            bucket.object("a").get_writer().put_content(b"12345")
            done = client.job(bucket.objects(obj_names=["a", "missing"]).delete())
            done.wait()
            copy = client.job(bucket.objects(obj_names=["b"]).copy(bucket, prepend="x")[0])
            copy.abort()
            copy.wait()
            before = [done.status(), copy.status()]
            details = done.get_details()
        cluster.restart()
        with cluster.client() as client:
            assert [client.job(status.uuid).status() for status in before] == before
            assert client.job(done.job_id).get_details() == details
            assert {status.uuid for status in client.cluster().list_jobs_status()} >= {done.job_id, copy.job_id}
            assert client.cluster().list_running_jobs() == []


def test_a_blob_download_is_started_by_name_too() -> None:
    from aistore.sdk import Namespace

    with LocalCluster() as far, LocalCluster(backends={"ais": {"far": far.url}}) as near, Caller(near.url) as call:
        far.client().bucket("src").create().object("o").get_writer().put_content(b"12345")
        with near.client() as client:
            bucket = client.bucket("src", namespace=Namespace(uuid="far"))

            def start(name: str) -> tuple[int, str]:
                value = {"Kind": "blob-download", "Bck": {"name": "src", "namespace": {"uuid": "far", "name": ""}}}
                message = {"action": "start", "name": name, "value": value}
                got = call("PUT", "/v1/cluster", json.dumps(message).encode())
                return got.status, got.body.decode()

            assert start("")[0] == 400
            assert start("missing")[0] == 404
            status, job_id = start("o")
            assert status == 200
            assert client.job(job_id, "blob-download").wait_single_node(timeout=30).success
            assert [entry.is_cached() for entry in bucket.list_all_objects(props="name,size,cached")] == [True]
            assert start("o") == (200, "")
