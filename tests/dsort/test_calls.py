"""The calls on dSort jobs, and specifications that are refused (protocol/40 B2, B3, B7)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from archives import tar
from calling import Caller
from shards import DEADLINE
from waiting import until

if TYPE_CHECKING:
    from shards import Places

ALL_ACCESS = str((1 << 64) - 1)

BAD: list[tuple[dict[str, Any], str]] = [
    ({"input_format": None}, "input_format"),
    ({"input_format": {"template": "in-{1..0}"}}, "input_format"),
    ({"input_format": {"template": "in-{0..99999999}"}}, "too large"),
    ({"input_format": {"objnames": ["../x"]}}, "input_format"),
    ({"input_extension": ".rar"}, "input_extension"),
    ({"input_format": {"template": "in-{0..9}.tgz"}}, "input_extension"),
    ({"output_format": "out"}, "prefix-only"),
    ({"output_format": ""}, "empty range"),
    ({"output_format": "../out-{0..9}"}, "output_format"),
    ({"output_format": "x" * 2000 + "{0..9}"}, "output_format"),
    ({"output_format": "out-{0..9223372036854775807}"}, "too large"),
    ({"output_format": "out-" + "{1..1}" * 100_000}, "too large"),
    ({"input_format": {"template": "{0..9}/../in"}}, "input_format"),
    ({"output_format": "out-{0..9}.zip"}, "output_extension"),
    ({"output_format": "out-%d", "output_shard_size": ""}, "must be set"),
    ({"output_format": "out-%d", "output_shard_size": "0"}, "must be set"),
    ({"output_format": "out-%s"}, "output_format"),
    ({"output_shard_size": "-1"}, "output_shard_size"),
    ({"output_shard_size": "many"}, "output_shard_size"),
    ({"ekm_file": "http://x/y", "output_shard_size": ""}, "must be set"),
    ({"ekm_file": "file:///etc/passwd"}, "ekm_file"),
    ({"ekm_file": "map"}, "ekm_file"),
    ({"ekm_file": "http:///map"}, "ekm_file"),
    ({"ekm_file": "http://[x/"}, "ekm_file"),
    ({"ekm_file": "http://x:99999/"}, "ekm_file"),
    ({"algorithm": {"kind": "bogus"}}, "unknown kind"),
    ({"algorithm": {"kind": "content", "content_key_type": "int"}}, "begin with a dot"),
    ({"algorithm": {"kind": "content", "extension": "key", "content_key_type": "int"}}, "begin with a dot"),
    ({"algorithm": {"kind": "content", "extension": ".key", "content_key_type": "date"}}, "content_key_type"),
    ({"algorithm": {"kind": "shuffle", "seed": "-1"}}, "seed"),
    ({"algorithm": {"kind": "shuffle", "seed": "x"}}, "seed"),
    ({"algorithm": {"kind": "shuffle", "seed": "9223372036854775808"}}, "seed"),
    ({"algorithm": "alphanumeric"}, "unmarshal"),
    ({"max_mem_usage": "0%"}, "max_mem_usage"),
    ({"max_mem_usage": "100%"}, "max_mem_usage"),
    ({"max_mem_usage": "lots"}, "max_mem_usage"),
    ({"create_concurrency_max_limit": -1}, "create_concurrency_max_limit"),
    ({"extract_concurrency_max_limit": -1}, "extract_concurrency_max_limit"),
    ({"dsorter_type": "quick"}, "dsorter_type"),
    ({"Config": {"missing_shards": "panic"}}, "missing_shards"),
    ({"description": "x" * 5000}, "description"),
    ({"output_bck": {"name": "a@b"}}, "output_bck"),
]


@pytest.mark.parametrize(("more", "says"), BAD, ids=lambda one: str(one)[:50])
def test_bad_specifications_are_refused_at_once(one: Places, more: dict[str, Any], says: str) -> None:
    with Caller(one.cluster.url) as call:
        got = call("POST", "/v1/sort", json.dumps(one.spec(**more)).encode())
        assert got.status == 400
        assert says in str(got.error["message"])
        assert one.client.dsort().list_jobs(regex="^$", only_active=True) == []


def test_keys_in_any_case_and_unknown_ones(one: Places) -> None:
    one.put({"in-0.tar": tar([("a.x", b"1")])})
    spec = {key.upper(): value for key, value in one.spec().items()}
    job = one.client.dsort()
    job.start({**spec, "extension": ".tar", "ekm_sep": ",", "Algorithm": {"Kind": "MD5".lower(), "more": 1}})
    assert job.wait(DEADLINE, verbose=False)


def test_an_expression_that_would_take_long_is_refused(one: Places) -> None:
    with Caller(one.cluster.url) as call:
        got = call("GET", "/v1/sort?regex=(.%3F){900}")
        assert (got.status, "too large" in str(got.error["message"])) == (400, True)


def test_jobs_are_listed_and_removed(places: Places) -> None:
    places.put({"in-0.tar": tar([("a.x", b"1")])})
    job = places.client.dsort()
    job_id = job.start(places.spec(description=f"list of {places.source.name}"))
    assert job_id.startswith("srt-")
    assert job.wait(DEADLINE, verbose=False)
    pattern = f"^list of {places.source.name}$"
    assert [info.id for info in job.list_jobs(pattern)] == [job_id]
    assert job.list_jobs(pattern, only_active=True) == []
    assert job_id in [info.id for info in job.list_jobs()]
    job.abort()  # it is over: nothing happens
    (info,) = job.list_jobs(pattern)
    assert not info.aborted
    job.remove()
    assert job.list_jobs(pattern) == []
    with Caller(places.cluster.url) as call:
        assert call("GET", f"/v1/sort?uuid={job_id}").status == 404
        assert call("DELETE", f"/v1/sort?uuid={job_id}").status == 404
        assert call("GET", "/v1/sort?regex=(").status == 400
        assert call("GET", "/v1/sort/other").status == 400
        assert call("GET", f"/v1/sort?regex={'x' * 5000}").status == 400


def test_a_bucket_that_may_not_be_read_or_written(one: Places) -> None:
    with Caller(one.cluster.url) as call:
        for bucket in (one.target, one.source):
            path = f"/v1/buckets/{bucket.name}"
            assert call.action("PATCH", path, "set-bprops", {"access": "0"}).status == 200
            got = call("POST", "/v1/sort", json.dumps(one.spec()).encode())
            assert (got.status, "access denied" in str(got.error["message"])) == (403, True)
            assert call.action("PATCH", path, "set-bprops", {"access": ALL_ACCESS}).status == 200


def test_a_missing_output_bucket_is_made_like_the_input(places: Places) -> None:
    places.put({"in-0.tar": tar([("a.x", b"1")])})
    places.target.delete()
    places.source.summary()
    assert places.sorted() == [[("a.x", b"1")]]


def test_the_general_calls_on_jobs(one: Places) -> None:
    one.put({"in-0.tar": tar([("a.x", b"1")])})
    job = one.client.dsort()
    job.start(one.spec())
    assert job.wait(DEADLINE, verbose=False)
    found = one.client.job(job.dsort_id)
    until(lambda: all(snap.end_time > "0002" for snap in found.get_details().list_snapshots()))
    snaps = found.get_details().list_snapshots()
    assert [snap.kind for snap in snaps] == ["dsort"]
    assert [(snap.stats.objects, snap.stats.bytes) for snap in snaps if snap.stats] == [(1, 1)]
