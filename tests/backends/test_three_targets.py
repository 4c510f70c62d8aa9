"""Three target processes cache in one data folder: an object is fetched once, whichever of them is asked, and by whom."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from aistore import LocalCluster
from backends.conftest import KINDS, Remote, remote_bucket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.sdk import Client
    from backends.places import Place

BIG = os.urandom(1 << 16) * 80  # 5 MiB: sent while it comes


@pytest.fixture(scope="module")
def near3(places: dict[str, Place]) -> Iterator[LocalCluster]:
    backends = {place.provider: place.options for place in places.values()}
    with LocalCluster(targets=3, backends=backends) as started:
        yield started


@pytest.fixture
def client3(near3: LocalCluster) -> Iterator[Client]:
    with near3.client() as made:
        yield made


@pytest.fixture(params=KINDS)
def remote3(
    request: pytest.FixtureRequest, places: dict[str, Place], near3: LocalCluster, client3: Client
) -> Iterator[Remote]:
    with remote_bucket(request.param, places, near3, client3) as made:
        yield made


def _targets(cluster: LocalCluster) -> list[str]:
    """Where the targets answer."""
    connection = http.client.HTTPConnection(urlsplit(cluster.url).netloc, timeout=60)
    try:
        connection.request("GET", "/v1/daemon?what=smap")
        found = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return [node["public_net"]["direct_url"] for node in found["tmap"].values()]


def _get(url: str, remote: Remote, name: str) -> bytes:
    """What one of the nodes answers."""
    asked = urlsplit(remote.here.object(name).get_url())
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("GET", f"{asked.path}?{asked.query}")
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return content
    finally:
        connection.close()


@pytest.mark.parametrize("name", ["small", "big"])
def test_64_readers_through_different_targets_cause_one_download(remote3: Remote, name: str) -> None:
    content = BIG if name == "big" else b"small"
    remote3.put(name, content)
    remote3.here.head()
    urls = _targets(remote3.near)
    assert len(urls) == 3
    before = remote3.place.relay.requests("GET", f"/{name}")
    with ThreadPoolExecutor(64) as readers:
        got = readers.map(lambda i: hashlib.sha256(_get(urls[i % 3], remote3, name)).digest(), range(64))
    assert set(got) == {hashlib.sha256(content).digest()}
    assert remote3.place.relay.requests("GET", f"/{name}") - before == 1


def test_a_job_and_readers_share_one_download(remote3: Remote, client3: Client) -> None:
    names = [f"o{i}" for i in range(6)]
    for name in names:
        remote3.put(name, BIG)
    urls = _targets(remote3.near)
    remote3.here.head()
    with ThreadPoolExecutor(12) as readers:
        job = remote3.here.objects(obj_names=names).prefetch(num_workers=6)
        got = list(readers.map(lambda i: _get(urls[i % 3], remote3, names[i % 6]) == BIG, range(12)))
    assert all(got)
    client3.job(job).wait(timeout=60)
    assert {name: remote3.place.relay.requests("GET", f"{remote3.name}/{name}") for name in names} == dict.fromkeys(
        names, 1
    )


def test_a_write_by_one_target_counts_for_the_others(remote3: Remote) -> None:
    urls = _targets(remote3.near)
    for content in (b"one", BIG, b"two"):
        remote3.here.object("a").get_writer().put_content(content)
        assert remote3.there("a") == content
        assert [_get(url, remote3, "a") for url in urls] == [content] * 3
    upload = remote3.here.object("a").multipart_upload().create()
    upload.add_part(1).put_content(BIG)
    upload.complete()
    assert remote3.there("a") == BIG
    assert [_get(url, remote3, "a") == BIG for url in urls] == [True] * 3
    remote3.here.object("a").delete()
    assert remote3.there("a") is None
    assert remote3.cached() == set()


def test_groups_are_copied_and_evicted_with_three_targets(remote3: Remote, client3: Client) -> None:
    for name in ("g-1", "g-2"):
        remote3.put(name, name.encode())
    made = client3.bucket(f"n-{remote3.name}").create()
    try:
        client3.job(remote3.here.objects(obj_template="g-").copy(made)[0]).wait(timeout=60)
        assert {e.name: made.object(e.name).get_reader().read_all() for e in made.list_all_objects()} == {
            "g-1": b"g-1",
            "g-2": b"g-2",
        }
        assert remote3.cached() == {"g-1", "g-2"}
        client3.job(remote3.here.objects(obj_names=["g-1"]).evict()).wait(timeout=60)
        assert remote3.cached() == {"g-2"}
        remote3.place.relay.cut_off()
        assert remote3.read("g-2") == b"g-2"
    finally:
        made.delete()
