"""Jobs over the asyncio face: waited for, looked at, and aborted as over the blocking one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from aistore.sdk.errors import AISError, JobInfoNotFound


@pytest.fixture
def bucket(client: Any) -> Any:
    made = client.bucket("aio-jobs").create()
    for number in range(20):
        made.object(f"{number:02}").get_writer().put_content(b"12345")
    yield made
    made.delete()


def test_jobs_are_waited_for_and_looked_at(client: Any, bucket: Any) -> None:
    began = datetime.now(timezone.utc) - timedelta(seconds=1)
    deletion = client.job(bucket.objects(obj_template="{00..09}").delete())
    for wait in (deletion.wait, deletion.wait_for_idle, deletion.wait_single_node):
        assert wait(timeout=30).success
    assert deletion.status().uuid == deletion.job_id
    (snap,) = deletion.get_details().list_snapshots()
    assert (snap.stats.objects, snap.stats.bytes) == (10, 50)
    assert [found.id for found in deletion.get_within_timeframe(began)] == [deletion.job_id]
    with pytest.raises(JobInfoNotFound):
        deletion.get_within_timeframe(began + timedelta(hours=1))
    assert deletion.get_total_time() >= timedelta()
    started = client.job(job_kind="lru").start()
    assert client.job(started).wait().success
    assert {status.uuid for status in client.cluster().list_jobs_status()} >= {deletion.job_id, started}


def test_an_idle_job_is_aborted(client: Any, bucket: Any) -> None:
    job = client.job(bucket.objects(obj_names=["10"]).copy(bucket, prepend="copy-")[0])
    assert job.wait(timeout=30).success
    assert f"copy-listrange[{job.job_id}]" in client.cluster().list_running_jobs()
    assert job.get_total_time() is None
    job.abort()
    assert job.wait().error == "user abort"
    assert len(bucket.list_all_objects("copy-")) == 1
    with pytest.raises(AISError) as caught:
        client.job("Unknwn01x").wait()
    assert caught.value.status_code == 404
