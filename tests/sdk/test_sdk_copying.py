"""Copies of buckets, groups and objects, and new names for buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aistore.sdk.errors import AISError, ErrBckNotFound, ErrObjNotFound, InvalidBckProvider

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.sdk import Bucket, Client, Job


@pytest.fixture
def other(client: Client, bucket: Bucket) -> Iterator[Bucket]:
    """A bucket of this test that does not exist."""
    made = client.bucket(f"{bucket.name}-other")
    yield made
    made.delete(missing_ok=True)


def fill(bucket: Bucket, **objects: str) -> None:
    for name, text in objects.items():
        bucket.object(name).get_writer().put_content(text)


def objects_of(job: Job) -> int:
    return sum(snap.stats.objects for snap in job.get_details().list_snapshots() if snap.stats is not None)


def contents(bucket: Bucket) -> dict[str, bytes]:
    return {entry.name: bucket.object(entry.name).get_reader().read_all() for entry in bucket.list_objects_iter()}


def test_a_copied_bucket_outlives_its_original(client: Client, bucket: Bucket, other: Bucket) -> None:
    fill(bucket, a="one", b="two" * 5000)
    job = client.job(bucket.copy(other))
    assert job.wait().success
    assert objects_of(job) == 2
    bucket.delete()
    assert contents(other) == {"a": b"one", "b": b"two" * 5000}


def test_which_objects_are_copied_and_how_they_are_called(client: Client, bucket: Bucket, other: Bucket) -> None:
    fill(bucket, **{"in/a.jpeg": "1", "in/b.txt": "2", "out/c": "3"})
    client.job(bucket.copy(other, prefix_filter="in/", prepend="new-", ext={"jpeg": "jpg"}, num_workers=2)).wait()
    assert contents(other) == {"new-in/a.jpg": b"1", "new-in/b.txt": b"2"}


@pytest.mark.parametrize("force", [False, True])
def test_what_is_there_is_replaced(client: Client, bucket: Bucket, other: Bucket, force: bool) -> None:
    other.create()
    fill(bucket, a="new", b="two")
    fill(other, a="old", c="its own")
    assert client.job(bucket.copy(other, force=force)).wait().success
    assert contents(other) == {"a": b"new", "b": b"two", "c": b"its own"}


def test_a_dry_run_makes_nothing(client: Client, bucket: Bucket, other: Bucket) -> None:
    fill(bucket, a="one")
    job = client.job(bucket.copy(other, dry_run=True))
    assert job.wait().success
    assert objects_of(job) == 1
    with pytest.raises(ErrBckNotFound):
        other.list_all_objects()


def test_sync_deletes_what_is_gone(client: Client, bucket: Bucket, other: Bucket) -> None:
    fill(bucket, a="one", b="two")
    client.job(bucket.copy(other)).wait()
    bucket.object("a").delete()
    client.job(bucket.copy(other, sync=True)).wait()
    assert contents(other) == {"b": b"two"}


def test_copies_that_are_refused(bucket: Bucket, other: Bucket) -> None:
    with pytest.raises(AISError, match="onto itself"):
        bucket.copy(bucket)
    with pytest.raises(AISError, match="incompatible"):
        bucket.copy(other, prepend="x", sync=True)
    with pytest.raises(ErrBckNotFound):
        other.copy(bucket)


def test_names_are_no_buckets_and_objects(bucket: Bucket) -> None:
    fill(bucket, a="1")
    group = bucket.objects(obj_names=["a"])
    name: Any = "elsewhere"
    for call in (bucket.copy, group.copy, lambda to: group.archive("a.tar", to_bck=to), bucket.object("a").copy):
        with pytest.raises(TypeError, match=r"not 'elsewhere'"):
            call(name)
    with pytest.raises(TypeError, match="'jpeg': 'jpg'"):
        bucket.copy(bucket, ext=name)


def test_a_group_is_copied_with_each_requests_own_wishes(client: Client, bucket: Bucket, other: Bucket) -> None:
    fill(bucket, **{f"o-{i}": str(i) for i in range(5)})
    other.create()
    first = bucket.objects(obj_template="o-{1..2}").copy(other, prepend="x/")
    second = bucket.objects(obj_names=["o-4", "gone"]).copy(other, prepend="y/")
    assert first == second  # the second request joined the job
    job = client.job(second[0])
    job.wait_for_idle()
    assert "gone" in job.status().err
    assert sorted(contents(other)) == ["x/o-1", "x/o-2", "y/o-4"]
    job.abort()


def test_an_object_is_copied_with_its_metadata(bucket: Bucket, other: Bucket) -> None:
    other.create()
    bucket.object("o").get_writer().put_content(b"data", custom_metadata={"k": "v"})
    response = bucket.object("o").copy(other.object("dir/o2"))
    assert response.status_code == 200
    assert contents(other) == {"dir/o2": b"data"}
    assert other.object("dir/o2").head().custom_metadata == {"k": "v"}
    with pytest.raises(ErrObjNotFound):
        bucket.object("none").copy(other.object("x"))


def test_a_renamed_bucket_has_its_objects_under_the_new_name(client: Client, bucket: Bucket, other: Bucket) -> None:
    fill(bucket, a="one")
    old, new = bucket.name, other.name
    assert client.job(bucket.rename(new)).wait().success
    assert (bucket.name, contents(bucket)) == (new, {"a": b"one"})
    with pytest.raises(ErrBckNotFound):
        client.bucket(old).list_all_objects()
    client.bucket(old).create()
    with pytest.raises(AISError, match="already exists"):
        client.bucket(old).rename(new)
    client.bucket(old).delete()
    with pytest.raises(InvalidBckProvider):
        client.bucket("cloud", provider="aws").rename("x")
