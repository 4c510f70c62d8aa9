"""Writes go through: the backend first, then the cache; and what is evicted is only ever the cached copy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from aistore.sdk.errors import AISError
from aistore.sdk.list_object_flag import ListObjectFlag

if TYPE_CHECKING:
    from aistore.sdk import Bucket, Client
    from backends.conftest import Remote

BIG = os.urandom(1 << 16) * 100  # 6.25 MiB


@pytest.mark.parametrize("content", [b"", b"small", BIG], ids=["empty", "small", "big"])
def test_what_is_put_is_in_the_backend_and_in_the_cache(remote: Remote, content: bytes) -> None:
    remote.here.object("new").get_writer().put_content(content)
    assert remote.there("new") == content
    assert remote.cached() == {"new"}
    remote.place.relay.cut_off()
    assert remote.read("new") == content


def test_what_is_deleted_is_gone_there_and_here(remote: Remote) -> None:
    remote.put("a", b"1")
    assert remote.read("a") == b"1"
    remote.here.object("a").delete()
    assert remote.there("a") is None
    with pytest.raises(remote.not_found):
        remote.read("a")


def test_a_put_that_the_backend_refuses_changes_nothing(remote: Remote) -> None:
    remote.here.object("kept").get_writer().put_content(b"old")
    remote.place.relay.cut_off()
    with pytest.raises(AISError) as caught:
        remote.here.object("kept").get_writer().put_content(b"new")
    assert caught.value.status_code == 410
    assert remote.read("kept") == b"old"
    with pytest.raises(AISError):
        remote.here.object("kept").delete()
    assert remote.read("kept") == b"old"


def test_evicting_a_bucket_leaves_its_backend_alone(remote: Remote) -> None:
    remote.put("a", b"1")
    remote.read("a")
    remote.place.relay.cut_off()
    remote.here.evict(keep_md=True)
    remote.place.relay.refuses = False
    assert remote.cached() == set()
    remote.here.evict()
    assert remote.there("a") == b"1"
    assert remote.read("a") == b"1"


def test_groups_are_prefetched_and_evicted(remote: Remote, near_client: Client) -> None:
    for name in ("p-1", "p-2", "p-3", "q"):
        remote.put(name, name.encode())
    group = remote.here.objects(obj_template="p-{1..2}")
    assert near_client.job(group.prefetch()).wait().success
    assert remote.cached() == {"p-1", "p-2"}
    whole = remote.here.objects(obj_template="p-")
    assert near_client.job(whole.prefetch(num_workers=2)).wait().success
    assert remote.cached() == {"p-1", "p-2", "p-3"}
    evicted = near_client.job(remote.here.objects(obj_names=["p-1", "p-3"]).evict())
    assert evicted.wait().success
    assert remote.cached() == {"p-2"}
    assert remote.there("p-1") == b"p-1"
    near_client.job(whole.delete()).wait()
    assert [remote.there(name) for name in ("p-1", "p-2", "p-3", "q")] == [None, None, None, b"q"]


def test_prefetching_the_latest_refreshes_what_was_changed(remote: Remote, near_client: Client) -> None:
    remote.put("a", b"one")
    remote.read("a")
    remote.put("a", b"other")
    near_client.job(remote.here.objects(obj_names=["a"]).prefetch()).wait()
    assert remote.read("a") == b"one"
    near_client.job(remote.here.objects(obj_names=["a"]).prefetch(latest=True)).wait()
    assert remote.read("a") == b"other"


def test_a_missing_name_is_an_error_of_the_job_and_no_more(remote: Remote, near_client: Client) -> None:
    remote.put("there", b"1")
    result = near_client.job(remote.here.objects(obj_names=["there", "missing"]).prefetch()).wait()
    assert "missing" in (result.error or "")
    assert remote.cached() == {"there"}


def test_large_objects_are_prefetched_in_ranges(remote: Remote, near_client: Client) -> None:
    remote.put("big", BIG)
    remote.put("small", b"1")
    group = remote.here.objects(obj_names=["big", "small"])
    near_client.job(group.prefetch(blob_threshold=2 << 20)).wait()
    assert remote.read("big") == BIG
    assert remote.cached() == {"big", "small"}
    assert remote.place.relay.requests("GET", "big") >= 2


def test_a_blob_download_is_a_job(remote: Remote, near_client: Client) -> None:
    remote.put("big", BIG)
    job = near_client.job(remote.here.object("big").blob_download(chunk_size=1 << 20, num_workers=3), "blob-download")
    job.wait_single_node()
    assert remote.cached() == {"big"}
    assert remote.read("big") == BIG
    assert remote.here.object("big").blob_download() == ""


def test_listing_shows_what_is_there_and_what_of_it_is_cached(remote: Remote) -> None:
    names = ["a", "d/1", "d/2", "d/e/3", "dd", "z"]
    for name in names:
        remote.put(name, name.encode())
    remote.read("d/1")
    found = {entry.name: entry for entry in remote.here.list_all_objects(props="name,size,version,custom,cached")}
    assert sorted(found) == names
    assert {name: entry.size for name, entry in found.items()} == {name: len(name) for name in names}
    assert [name for name, entry in found.items() if entry.is_cached()] == ["d/1"]
    assert [one.name for one in remote.here.list_all_objects(page_size=2)] == names
    assert [one.name for one in remote.here.list_all_objects(prefix="d")] == ["d/1", "d/2", "d/e/3", "dd"]
    assert [one.name for one in remote.here.list_all_objects(prefix="d/")] == ["d/1", "d/2", "d/e/3"]
    assert [one.name for one in remote.here.list_all_objects(flags=[ListObjectFlag.CACHED])] == ["d/1"]
    uncached = remote.here.list_all_objects(props="name,cached", flags=[ListObjectFlag.NOT_CACHED])
    assert [one.name for one in uncached] == [name for name in names if name != "d/1"]
    level = remote.here.list_all_objects(flags=[ListObjectFlag.NO_RECURSION])
    assert [one.name for one in level] == ["a", "d/", "dd", "z"]


def test_objects_are_copied_out_of_and_into_remote_buckets(remote: Remote, near_client: Client, bucket: Bucket) -> None:
    near = near_client.bucket(bucket.name).create(exist_ok=True)
    remote.put("big", BIG)
    remote.here.object("big").copy(near.object("in"))
    assert near.object("in").get_reader().read_all() == BIG
    for name, content in (("in", BIG), ("small", b"s")):
        near.object(name).get_writer().put_content(content)
        near.object(name).copy(remote.here.object(f"out-{name}"))
        assert remote.there(f"out-{name}") == content
        assert remote.read(f"out-{name}") == content
    near.delete()


def test_custom_metadata_goes_to_the_backend_and_comes_back(remote: Remote) -> None:
    remote.here.object("a").get_writer().put_content(b"1", custom_metadata={"color": "red"})
    assert remote.here.object("a").head().custom_metadata["color"] == "red"
    remote.here.evict()
    assert remote.read("a") == b"1"
    assert remote.here.object("a").head().custom_metadata["color"] == "red"


def test_replaced_custom_metadata_leaves_the_copy_one_that_can_be_evicted(remote: Remote) -> None:
    remote.put("a", b"1")
    remote.read("a")
    remote.here.object("a").get_writer().set_custom_props({"k": "v"}, replace_existing=True)
    assert remote.here.object("a").head().custom_metadata["k"] == "v"
    remote.here.evict()
    assert remote.read("a") == b"1"
