"""dSort from and into remote buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archives import tar, unpacked
from shards import DEADLINE, merged, records, shards

if TYPE_CHECKING:
    from aistore.sdk import Client
    from aistore.sdk.types import BucketModel
    from backends.conftest import Remote

MADE = records(60)
BY_NAME = merged(sorted(MADE, key=lambda record: record[0][0]))


def spec(source: BucketModel, target: BucketModel, **more: Any) -> dict[str, Any]:
    return {
        "input_bck": source.as_dict(),
        "input_format": {"template": "in-{00..11}"},
        "output_bck": target.as_dict(),
        "output_format": "out-{0..99}",
        "output_shard_size": "1KB",
        **more,
    }


def test_shards_that_are_not_cached(remote: Remote, near_client: Client) -> None:
    contents = {name.replace("-", "-0"): content for name, content in shards(MADE, 4).items()}
    for name, content in contents.items():
        remote.put(name, content)
    target = near_client.bucket(f"sorted-{remote.name}").create()
    try:
        job = near_client.dsort()
        job.start(spec(remote.here.as_model(), target.as_model()))
        result = job.wait(DEADLINE, verbose=False)
        assert result, result
        made = merged(
            unpacked(".tar", target.object(entry.name).get_reader().read_all())
            for entry in sorted(target.list_all_objects(), key=lambda entry: int(entry.name[4:-4]))
        )
        assert made == BY_NAME
        assert remote.cached() == set(contents)
    finally:
        target.delete()


def test_shards_are_written_through(remote: Remote, near_client: Client) -> None:
    source = near_client.bucket(f"unsorted-{remote.name}").create()
    try:
        source.object("in-00.tar").get_writer().put_content(tar([("b.x", b"2"), ("a.x", b"1" * 20_000)]))
        job = near_client.dsort()
        job.start(spec(source.as_model(), remote.here.as_model()))
        result = job.wait(DEADLINE, verbose=False)
        assert result, result
        there = [remote.there(f"out-{number}.tar") for number in range(3)]
        assert [unpacked(".tar", one) for one in there if one is not None] == [
            [("a.x", b"1" * 20_000)],
            [("b.x", b"2")],
        ]
    finally:
        source.delete()


def test_shards_of_a_bucket_in_front_of_a_remote_one_are_not_replaced_there(
    remote: Remote, near_client: Client
) -> None:
    content = tar([("b.x", b"2"), ("a.x", b"1")])
    remote.put("in-00.tar", content)
    front = near_client.bucket(f"front-{remote.name}").create()
    try:
        front.make_request("PATCH", "set-bprops", {"backend_bck": remote.here.as_model().as_dict()})
        job = near_client.dsort()
        for source, target in ((front, remote.here), (remote.here, front)):
            job.start(spec(source.as_model(), target.as_model(), output_format="in-{00..11}"))
            result = job.wait(DEADLINE, verbose=False)
            assert "one of the input shards" in (result.error or "")
            assert remote.there("in-00.tar") == content
    finally:
        front.make_request("PATCH", "set-bprops", {"backend_bck": {"name": "", "provider": ""}})
        front.delete()


def test_remote_shards_do_not_replace_those_that_are_sorted(remote: Remote, near_client: Client) -> None:
    content = tar([("b.x", b"2"), ("a.x", b"1")])
    remote.put("in-00.tar", content)
    bucket = remote.here.as_model()
    job = near_client.dsort()
    job.start(spec(bucket, bucket, output_format="in-{00..11}"))
    result = job.wait(DEADLINE, verbose=False)
    assert not result
    assert "one of the input shards" in (result.error or "")
    assert remote.there("in-00.tar") == content
    job.start(spec(bucket, bucket))
    assert job.wait(DEADLINE, verbose=False)
    there = remote.there("out-0.tar")
    assert there is not None
    assert unpacked(".tar", there) == [("a.x", b"1"), ("b.x", b"2")]
