"""Copies of buckets and of many objects out of, into and between remote buckets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from aistore.sdk.errors import AISError
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.sdk import Bucket, Client
    from backends.conftest import Remote

BIG = os.urandom(1 << 16) * 100  # 6.25 MiB
CONTENTS = {"t/a.jpg": b"a", "t/b.txt": b"b" * 20_000, "t/big": BIG, "u": b"u"}


@pytest.fixture
def native(remote: Remote, near_client: Client) -> Iterator[Bucket]:
    """A bucket of the caching cluster's own."""
    made = near_client.bucket(f"n-{remote.name}").create()
    yield made
    made.delete(missing_ok=True)


def _fill(remote: Remote) -> None:
    for name, content in CONTENTS.items():
        remote.put(name, content)


def _read(bucket: Bucket) -> dict[str, bytes]:
    return {entry.name: bucket.object(entry.name).get_reader().read_all() for entry in bucket.list_all_objects()}


def _names(bucket: Bucket) -> list[str]:
    return [entry.name for entry in bucket.list_all_objects()]


def _errors(client: Client, job_id: str) -> str:
    """What a job says went wrong."""
    client.job(job_id).wait(timeout=60)
    return client.job(job_id).status().err


def test_a_group_of_a_remote_bucket_is_copied_with_what_is_not_cached(
    remote: Remote, native: Bucket, near_client: Client
) -> None:
    _fill(remote)
    remote.read("t/a.jpg")
    (job,) = remote.here.objects(obj_template="t/").copy(native, prepend="p-")
    assert near_client.job(job).wait(timeout=60).success
    assert _read(native) == {f"p-{name}": content for name, content in CONTENTS.items() if name.startswith("t/")}
    remote.place.relay.cut_off()
    remote.here.evict()
    assert native.object("p-t/big").get_reader().read_all() == BIG  # the copy is not the cache's


def test_a_remote_bucket_is_copied_as_far_as_it_is_cached_or_as_a_whole(
    remote: Remote, native: Bucket, near_client: Client
) -> None:
    _fill(remote)
    remote.read("u")
    near_client.job(remote.here.copy(native)).wait(timeout=60)
    assert _read(native) == {"u": b"u"}
    uname = f"ais/@#/{native.name}/"
    value = {"prefix": "t/", "ext": {"jpg": "png"}}
    answer = remote.here.make_request(
        "POST", "copy-bck", value=value, params={**remote.here.qparam, "bck_to": uname, "presence": "0"}
    )
    assert near_client.job(answer.text).wait(timeout=60).success
    assert _read(native) == {"t/a.png": b"a", "t/b.txt": b"b" * 20_000, "t/big": BIG, "u": b"u"}


def test_a_bucket_is_copied_into_a_remote_one(remote: Remote, native: Bucket, near_client: Client) -> None:
    for name, content in CONTENTS.items():
        native.object(name).get_writer().put_content(content)
    job = near_client.job(native.copy(remote.here, prefix_filter="t/", prepend="c/", ext={"jpg": "png"}))
    assert job.wait(timeout=60).success
    assert job.status().end_time
    assert {name: remote.there(name) for name in ("c/t/a.png", "c/t/b.txt", "c/t/big", "c/u")} == {
        "c/t/a.png": b"a",
        "c/t/b.txt": b"b" * 20_000,
        "c/t/big": BIG,
        "c/u": None,
    }
    assert remote.read("c/t/big") == BIG


def test_objects_of_a_remote_bucket_are_copied_within_it(remote: Remote, near_client: Client) -> None:
    _fill(remote)
    (job,) = remote.here.objects(obj_template="t/").copy(remote.here, prepend="t/z-")
    assert near_client.job(job).wait(timeout=60).success
    names = [entry.name for entry in remote.here.list_all_objects()]
    assert names == sorted([*CONTENTS, *(f"t/z-{name}" for name in CONTENTS if name != "u")])
    assert remote.there("t/z-t/big") == BIG


def test_the_latest_is_copied_where_that_is_asked_for(remote: Remote, native: Bucket) -> None:
    remote.put("a", b"one")
    remote.read("a")
    remote.put("a", b"other")
    group = remote.here.objects(obj_names=["a"])
    group.copy(native)
    until(lambda: _read(native) == {"a": b"one"})
    group.copy(native, latest=True)
    until(lambda: _read(native) == {"a": b"other"})


def test_synchronizing_deletes_copies_of_what_is_gone(remote: Remote, native: Bucket, near_client: Client) -> None:
    for name in ("s-1", "s-2", "s-3"):
        remote.put(name, name.encode())
    group = remote.here.objects(obj_template="s-")
    group.copy(native)
    until(lambda: _names(native) == ["s-1", "s-2", "s-3"])
    native.object("other").get_writer().put_content(b"own")
    remote.place.delete(remote.name, "s-2")
    group.copy(native, sync=True)
    until(lambda: _names(native) == ["other", "s-1", "s-3"])
    native.object("s-3").delete()
    native.object("s-4").get_writer().put_content(b"4")
    near_client.job(native.copy(remote.here, prefix_filter="s-", sync=True)).wait(timeout=60)
    assert [remote.there(f"s-{i}") for i in (1, 2, 3, 4)] == [b"s-1", None, None, b"4"]


def test_synchronizing_deletes_nothing_when_the_source_cannot_be_asked(
    remote: Remote, native: Bucket, near_client: Client
) -> None:
    remote.put("s-1", b"1")
    group = remote.here.objects(obj_template="s-")
    group.copy(native)
    until(lambda: _names(native) == ["s-1"])
    remote.place.relay.cut_off()
    assert "unreachable" in _errors(near_client, group.copy(native, sync=True)[0])
    assert _read(native) == {"s-1": b"1"}


def test_a_dry_run_counts_and_changes_nothing(remote: Remote, native: Bucket, near_client: Client) -> None:
    _fill(remote)
    native.object("n").get_writer().put_content(b"n")
    for job_id in (
        remote.here.objects(obj_template="t/").copy(native, dry_run=True)[0],
        native.copy(remote.here, dry_run=True),
    ):
        assert near_client.job(job_id).wait(timeout=60).success
    assert _read(native) == {"n": b"n"}
    assert remote.there("n") is None
    assert remote.cached() == set()


def test_a_missing_name_is_an_error_of_the_job(remote: Remote, native: Bucket, near_client: Client) -> None:
    remote.put("there", b"1")
    group = remote.here.objects(obj_names=["there", "gone"])
    assert "gone does not exist" in _errors(near_client, group.copy(native)[0])
    assert _read(native) == {"there": b"1"}


def test_a_backend_that_does_not_answer_ends_a_copy_into_it(
    remote: Remote, native: Bucket, near_client: Client
) -> None:
    native.object("a").get_writer().put_content(b"1")
    remote.here.head()
    remote.place.relay.cut_off()
    job = near_client.job(native.copy(remote.here))
    assert not job.wait(timeout=60).success
    assert remote.place.relay.address in job.status().err
    remote.place.relay.refuses = False
    assert remote.there("a") is None


def test_remote_buckets_are_not_renamed(remote: Remote, native: Bucket) -> None:
    with pytest.raises(AISError, match="can only rename AIS"):
        remote.here.make_request("POST", "move-bck", params={**remote.here.qparam, "bck_to": f"ais/@#/{native.name}x/"})
    uname = f"{remote.here.provider.value}/@#/other/"
    if remote.place.provider != "ais":
        with pytest.raises(AISError, match="can only rename to AIS"):
            native.make_request("POST", "move-bck", params={**native.qparam, "bck_to": uname})
