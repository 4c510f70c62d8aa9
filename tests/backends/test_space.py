"""Room for what comes from elsewhere is made by evicting what came from elsewhere, and nothing else."""

from __future__ import annotations

import http.client
import json
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aistore import LocalCluster
from aistore.sdk import Namespace
from aistore.sdk.errors import AISError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


def test_room_is_made_for_whatever_is_stored(far: LocalCluster, tmp_path: Path) -> None:
    content = os.urandom(3 * MIB)
    (tmp_path / "file").write_bytes(content)
    backends = {"ais": {"far": far.url}}
    with (
        LocalCluster(capacity=10 * MIB, backends=backends, promote_root=tmp_path) as near,
        far.client() as there,
        near.client() as here,
    ):
        there.bucket("data").create()
        for number in range(9):
            there.bucket("data").object(f"o{number}").get_writer().put_content(os.urandom(MIB))
        data, own = here.bucket("data", "ais", Namespace(uuid="far")), here.bucket("own").create()

        def append() -> None:
            writer = own.object("new").get_writer()
            writer.append_content(b"", writer.append_content(content), flush=True)

        def put_in_pieces() -> None:
            own.object("new").get_writer().put_content(iter([content]))

        def put_a_member() -> None:
            url = urlsplit(near.url)
            connection = http.client.HTTPConnection(url.netloc, timeout=60)
            connection.request("PUT", "/v1/objects/own/new.tar?archpath=m", content)
            assert connection.getresponse().status == 200
            connection.close()

        def promote() -> None:
            own.object("new").promote(str(tmp_path / "file"))

        def archive() -> None:
            own.object("one").get_writer().put_content(content)
            assert here.job(own.objects(obj_names=["one"]).archive("new.tar")[0]).wait_for_idle().success

        for store in (append, put_in_pieces, put_a_member, promote, archive):
            for number in range(9):
                assert len(data.object(f"o{number}").get_reader().read_all()) == MIB
            store()
            (new,) = (entry for entry in own.list_all_objects() if entry.name.startswith("new"))
            assert new.size >= len(content), store
            assert len(_cached(data)) < 8, store
            here.job(own.objects(obj_template="*").delete()).wait()


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
    here.job(here.job(job_kind="lru").start()).wait_single_node()  # below the high watermark: nothing to do
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


def test_what_was_copied_from_a_backend_is_the_bucket_s_own_when_it_gets_another_one(
    clients: tuple[Client, Client],
) -> None:
    there, here = clients
    there.bucket("empty").create()
    data = here.bucket("data", "ais", Namespace(uuid="far"))
    own = here.bucket("own").create()
    data.object("o00").copy(own.object("copy"))
    own.object("named").get_writer().put_content(b"mine", custom_metadata={"source": "ais"})
    uuid = there.cluster().get_uuid()
    _configure(own, {"backend_bck": {"name": "empty", "provider": "ais", "namespace": {"uuid": uuid, "name": ""}}})
    own.make_request("DELETE", "evict-remote-bck", params={"provider": "ais"})
    assert own.object("named").get_reader().read_all() == b"mine"
    assert len(own.object("copy").get_reader().read_all()) == MIB


def test_three_targets_make_room_and_keep_what_is_only_here(far: LocalCluster) -> None:
    with (
        LocalCluster(capacity=10 * MIB, targets=3, backends={"ais": {"far": far.url}}) as near,
        far.client() as there,
        near.client() as here,
    ):
        there.bucket("data").create()
        for number in range(16):
            there.bucket("data").object(f"o{number:02}").get_writer().put_content(os.urandom(MIB))
        own = here.bucket("own").create()
        own.object("precious").get_writer().put_content(b"p" * 3 * MIB)
        data = here.bucket("data", "ais", Namespace(uuid="far"))
        for number in range(16):
            wanted = there.bucket("data").object(f"o{number:02}").get_reader().read_all()
            assert data.object(f"o{number:02}").get_reader().read_all() == wanted
        assert "o15" in _cached(data)
        assert "o00" not in _cached(data)
        _configure(data, {"lru": {"dont_evict_time": "0s"}})
        _set_marks(near, lowwm=40, highwm=45)
        here.job(here.job(job_kind="lru").start()).wait_single_node()
        assert len(_cached(data)) == 1
        assert own.object("precious").get_reader().read_all() == b"p" * 3 * MIB


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["own", "read", "write", "evict", "lru", "copy"]), st.integers(0, 11)),
        min_size=5,
        max_size=25,
    )
)
def test_nothing_that_is_only_here_is_ever_evicted(
    filled: tuple[Client, Client, LocalCluster], steps: list[tuple[str, int]]
) -> None:
    """Whatever is read, written, evicted and copied: native objects stay, and remote ones are what their backend has."""
    there, here, _ = filled
    data = here.bucket("data", "ais", Namespace(uuid="far"))
    own = here.bucket(f"own-{uuid4().hex[:8]}").create()
    mine: dict[str, bytes] = {}
    try:
        for what, number in steps:
            name = f"o{number:02}"
            if what == "own" and len(mine) < 6:
                mine[name] = os.urandom(MIB // 2)
                own.object(name).get_writer().put_content(mine[name])
            elif what == "copy" and len(mine) < 6:
                data.object(name).copy(own.object(name))
                mine[name] = there.bucket("data").object(name).get_reader().read_all()
            elif what == "read":
                assert len(data.object(name).get_reader().read_all()) == MIB
            elif what == "write":
                data.object(name).get_writer().put_content(os.urandom(MIB))
            elif what == "evict":
                here.job(data.objects(obj_names=[name]).evict()).wait()
            elif what == "lru":
                here.job(here.job(job_kind="lru").start(force=True)).wait_single_node()
        for name, content in mine.items():
            assert own.object(name).get_reader().read_all() == content
        for number in range(12):
            name = f"o{number:02}"
            assert (
                data.object(name).get_reader().read_all() == there.bucket("data").object(name).get_reader().read_all()
            )
    finally:
        own.delete()


@pytest.fixture
def filled(
    far: LocalCluster, near: LocalCluster, clients: tuple[Client, Client]
) -> tuple[Client, Client, LocalCluster]:
    """Both clusters, with low watermarks and nothing spared."""
    data = clients[1].bucket("data", "ais", Namespace(uuid="far"))
    data.head()
    _configure(data, {"lru": {"dont_evict_time": "0s"}})
    _set_marks(near, lowwm=30, highwm=50)
    return *clients, near


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
