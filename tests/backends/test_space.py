"""Room for what comes from elsewhere is made by evicting what came from elsewhere, and nothing else."""

from __future__ import annotations

import http.client
import json
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from aistore import LocalCluster
from aistore.sdk import Namespace
from aistore.sdk.errors import AISError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.sdk import Bucket, Client

MIB = 1 << 20


@pytest.fixture
def far() -> Iterator[LocalCluster]:
    with LocalCluster() as started:
        yield started


@pytest.fixture
def near(far: LocalCluster) -> Iterator[LocalCluster]:
    with LocalCluster(capacity=10 * MIB, backends={"ais": {"far": far.url}}) as started:
        yield started


@pytest.fixture
def clients(far: LocalCluster, near: LocalCluster) -> Iterator[tuple[Client, Client]]:
    with far.client() as there, near.client() as here:
        there.bucket("data").create()
        for number in range(12):
            there.bucket("data").object(f"o{number:02}").get_writer().put_content(os.urandom(MIB))
        yield there, here


def _cached(bucket: Bucket) -> list[str]:
    return [entry.name for entry in bucket.list_all_objects(props="name,size,cached") if entry.is_cached()]


def test_a_full_cache_lets_the_least_recently_read_go_and_never_what_is_only_here(
    clients: tuple[Client, Client],
) -> None:
    there, here = clients
    own = here.bucket("own").create()
    own.object("precious").get_writer().put_content(b"p" * MIB)
    data = here.bucket("data", "ais", Namespace(uuid="far"))
    for number in range(12):
        wanted = there.bucket("data").object(f"o{number:02}").get_reader().read_all()
        assert data.object(f"o{number:02}").get_reader().read_all() == wanted
    left = _cached(data)
    assert "o11" in left
    assert "o00" not in left
    assert own.object("precious").get_reader().read_all() == b"p" * MIB


def test_a_cache_full_of_what_is_only_here_refuses_and_keeps_it(clients: tuple[Client, Client]) -> None:
    _, here = clients
    own = here.bucket("own").create()
    for number in range(9):
        own.object(str(number)).get_writer().put_content(os.urandom(MIB))
    data = here.bucket("data", "ais", Namespace(uuid="far"))
    data.object("o00").get_reader().read_all()
    with pytest.raises(AISError) as caught:
        here.bucket("own").object("too-much").get_writer().put_content(os.urandom(3 * MIB))
    assert caught.value.status_code == 507
    assert len(own.list_all_objects()) == 9


def test_a_job_evicts_down_to_the_low_watermark(clients: tuple[Client, Client], near: LocalCluster) -> None:
    _, here = clients
    data = here.bucket("data", "ais", Namespace(uuid="far"))
    for number in range(9):
        data.object(f"o{number:02}").get_reader().read_all()
    here.job(job_kind="lru").start()  # below the high watermark: nothing to do
    assert len(_cached(data)) == 9
    _configure(data, {"lru": {"dont_evict_time": "0s"}})
    _set_marks(near, lowwm=30, highwm=50)
    job = here.job(here.job(job_kind="lru").start())
    job.wait_single_node()
    assert len(_cached(data)) == 3
    assert _cached(data) == ["o06", "o07", "o08"]


def test_what_was_read_a_moment_ago_is_spared_by_the_job(clients: tuple[Client, Client], near: LocalCluster) -> None:
    _, here = clients
    data = here.bucket("data", "ais", Namespace(uuid="far"))
    for number in range(9):
        data.object(f"o{number:02}").get_reader().read_all()
    _set_marks(near, lowwm=30, highwm=50)
    here.job(here.job(job_kind="lru").start()).wait_single_node()
    assert len(_cached(data)) == 9


def test_a_bucket_with_a_backend_caches_that_and_keeps_what_was_its_own(
    clients: tuple[Client, Client],
) -> None:
    there, here = clients
    both = here.bucket("both").create()
    both.object("mine").get_writer().put_content(b"only here")
    uuid = there.cluster().get_uuid()
    _configure(both, {"backend_bck": {"name": "data", "provider": "ais", "namespace": {"uuid": uuid, "name": ""}}})
    assert len(both.object("o00").get_reader().read_all()) == MIB
    both.object("new").get_writer().put_content(b"through")
    assert there.bucket("data").object("new").get_reader().read_all() == b"through"
    both.make_request("DELETE", "evict-remote-bck", params={"provider": "ais"})
    assert both.object("mine").get_reader().read_all() == b"only here"
    assert _cached(both) == []
    job = both.make_request("DELETE", "evict-listrange", {"objnames": ["mine"]}).text
    assert "nowhere else" in (here.job(job).wait().error or "")
    assert both.object("mine").get_reader().read_all() == b"only here"


def _configure(bucket: Bucket, value: dict[str, object]) -> None:
    bucket.make_request("PATCH", "set-bprops", value)


def _set_marks(near: LocalCluster, **marks: int) -> None:
    body = json.dumps({"action": "set-config", "value": {"space": marks}})
    connection = http.client.HTTPConnection(urlsplit(near.url).netloc, timeout=60)
    try:
        connection.request("PUT", "/v1/cluster", body)
        assert connection.getresponse().status == 200
    finally:
        connection.close()
