"""Properties of buckets do what they say, on one node and on several targets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from aistore.sdk.errors import AISError
from aistore.sdk.list_object_flag import ListObjectFlag
from calling import Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aistore import LocalCluster
    from aistore.sdk import Bucket, Client

ALL = str((1 << 64) - 1)
GET, HEAD, PUT, APPEND, DELETE = 1, 2, 4, 8, 16


@pytest.fixture
def bucket(there: Client) -> Iterator[Bucket]:
    made = there.bucket("props-bucket").create()
    yield made
    made.make_request("PATCH", "set-bprops", {"access": ALL})
    made.delete()


@pytest.fixture
def other(there: Client) -> Iterator[Bucket]:
    made = there.bucket("props-other").create()
    yield made
    made.delete()


def change(bucket: Bucket, **leaves: object) -> None:
    assert bucket.make_request("PATCH", "set-bprops", leaves).status_code == 200


def properties(bucket: Bucket) -> dict[str, object]:
    found: dict[str, object] = json.loads(bucket.head()["Ais-Bucket-Props"])
    return found


def put(bucket: Bucket, name: str, content: bytes = b"content") -> None:
    bucket.object(name).get_writer().put_content(content)


def test_new_objects_have_the_checksum_that_is_asked_for_and_old_ones_keep_theirs(bucket: Bucket) -> None:
    digits = {"xxhash": 16, "xxhash2": 16, "md5": 32, "crc32c": 8, "sha256": 64, "sha512": 128}
    for kind in digits:
        change(bucket, checksum={"type": kind})
        put(bucket, kind)
    change(bucket, checksum={"type": "none"})
    put(bucket, "none")
    for kind, length in digits.items():
        props = bucket.object(kind).props
        assert (props.checksum_type, len(props.checksum_value)) == (kind, length)
        assert bucket.object(kind).get_reader().read_all() == b"content"
    assert bucket.object("none").props.checksum_value == ""
    listed = {entry.name: len(entry.checksum) for entry in bucket.list_all_objects(props="name,checksum")}
    assert listed == {**digits, "none": 0}


def test_versions_count_while_versioning_is_on(bucket: Bucket) -> None:
    def versions() -> list[str]:
        return [entry.version for entry in bucket.list_all_objects(props="name,version")]

    put(bucket, "a")
    put(bucket, "a")
    assert versions() == ["2"]
    change(bucket, versioning={"enabled": False})
    put(bucket, "a")
    put(bucket, "b")
    assert versions() == ["2", ""]
    change(bucket, versioning={"enabled": True})
    put(bucket, "a")
    put(bucket, "b")
    assert versions() == ["3", "1"]


def test_a_range_may_have_a_checksum_of_its_own(where: LocalCluster, bucket: Bucket) -> None:
    put(bucket, "a", b"0123456789")
    put(bucket, "part", b"234")
    with Caller(where.url) as call:

        def checksum(name: str, **headers: str) -> str | None:
            return call.get(bucket.name, name, headers).headers["Ais-Checksum-Value"]

        assert checksum("a", Range="bytes=2-4") == checksum("a")
        change(bucket, checksum={"enable_read_range": True, "validate_warm_get": True})
        assert checksum("a", Range="bytes=2-4") == checksum("part")
        assert call.get(bucket.name, "a").body == b"0123456789"


def refused(call: Callable[[], object], operation: str) -> None:
    with pytest.raises(AISError, match=f"{operation} access denied") as caught:
        call()
    assert caught.value.status_code == 403


def test_what_access_does_not_allow_is_refused_and_changes_nothing(bucket: Bucket, other: Bucket) -> None:
    put(bucket, "kept")
    put(other, "theirs")
    change(bucket, access=str(GET | HEAD))
    assert bucket.object("kept").get_reader().read_all() == b"content"
    for call, operation in (
        (lambda: put(bucket, "new"), "PUT"),
        (lambda: bucket.object("new").get_writer().append_content(b"x"), "APPEND"),
        (lambda: bucket.object("new").multipart_upload().create(), "PUT"),
        (lambda: other.object("theirs").copy(bucket.object("new")), "PUT"),
        (lambda: other.copy(bucket), "PUT"),
        (lambda: other.objects(obj_names=["theirs"]).copy(bucket), "PUT"),
        (lambda: other.objects(obj_names=["theirs"]).archive("new.tar", to_bck=bucket), "PUT"),
        (lambda: bucket.object("kept").delete(), "DELETE-OBJECT"),
        (lambda: bucket.objects(obj_names=["kept"]).delete(), "DELETE-OBJECT"),
        (lambda: bucket.object("kept").get_writer().set_custom_props({"a": "b"}), "UPDATE-OBJECT"),
        (lambda: bucket.rename("props-renamed"), "MOVE-BUCKET"),
        (bucket.delete, "DESTROY-BUCKET"),
    ):
        refused(call, operation)
    assert [entry.name for entry in bucket.list_all_objects()] == ["kept"]
    assert other.object("theirs").get_reader().read_all() == b"content"
    change(bucket, access=str(GET | HEAD | PUT | DELETE))
    put(bucket, "new")
    bucket.object("kept").delete()


def test_reset_brings_the_defaults_back_and_keeps_the_content(bucket: Bucket) -> None:
    before = properties(bucket)
    put(bucket, "a")
    change(
        bucket,
        checksum={"type": "md5"},
        versioning={"enabled": False},
        lru={"enabled": True, "dont_evict_time": "5m"},
        chunks={"objsize_limit": "1GiB", "chunk_size": "64MiB"},
        rate_limit={"frontend": {"enabled": True, "max_tokens": 10}},
        features="16",
        write_policy={"md": "delayed"},
        extra={"custom": "a note"},
        access="7",
    )
    changed = properties(bucket)
    assert changed["features"] == "16"
    assert changed["extra"] == {"aws": {}, "gcp": {}, "oci": {}, "custom": "a note"}
    assert bucket.make_request("PATCH", "reset-bprops").content == b""
    assert properties(bucket) == {**before, "created": "0"}
    assert bucket.object("a").get_reader().read_all() == b"content"


def test_properties_of_a_copy_are_its_own(there: Client, bucket: Bucket) -> None:
    change(bucket, checksum={"type": "sha256"})
    put(bucket, "a")
    copy = there.bucket("props-copy")
    there.job(bucket.copy(copy)).wait()
    try:
        assert properties(copy)["checksum"] == properties(bucket)["checksum"]
        change(copy, checksum={"type": "md5"}, access=str(GET))
        put(bucket, "b")
        assert bucket.object("b").props.checksum_type == "sha256"
        assert properties(bucket)["access"] == ALL
    finally:
        change(copy, access=ALL)
        copy.delete()


def test_a_copy_deletes_nothing_where_nothing_may_be_deleted(there: Client, bucket: Bucket, other: Bucket) -> None:
    put(bucket, "a")
    change(bucket, access=str(int(ALL) & ~DELETE))
    with pytest.raises(AISError) as caught:
        other.copy(bucket, sync=True)
    assert caught.value.status_code == 403
    there.job(other.copy(bucket)).wait()
    assert bucket.object("a").get_reader().read_all() == b"content"


@pytest.mark.parametrize(
    "value",
    [
        {"bid": "1"},
        {"provider": "aws"},
        {"access": 1},
        {"checksum": {"type": "sha1"}},
        {"lru": {"dont_evict_time": "soon"}},
        {"unknown": {}},
        {"write_policy": {"data": "never"}},
    ],
)
def test_a_change_that_is_refused_changes_nothing(bucket: Bucket, value: dict[str, object]) -> None:
    before = properties(bucket)
    with pytest.raises(AISError) as caught:
        bucket.make_request("PATCH", "set-bprops", {"features": "2", **value})
    assert caught.value.status_code == 400
    assert properties(bucket) == before


def test_presence_filters_of_head(bucket: Bucket) -> None:
    for presence in range(6):
        answer = bucket.make_request("HEAD", "", params={**bucket.qparam, "presence": str(presence)})
        assert json.loads(answer.headers["Ais-Bucket-Props"])["provider"] == "ais"
    with pytest.raises(AISError) as caught:
        bucket.make_request("HEAD", "", params={**bucket.qparam, "presence": "x"})
    assert caught.value.status_code == 400


FULL = "name,size,checksum,atime,version,location,custom,copies,cached,status,ec,target_url,node"


def test_listings_fill_what_is_asked_for(bucket: Bucket) -> None:
    for name in ("a/1", "a/2", "b"):
        put(bucket, name)
    asked = {"size": "size", "checksum": "checksum", "atime": "atime", "version": "version", "location": "location"}
    for props, field in asked.items():
        (entry,) = bucket.list_all_objects("b", props=f"name,{props}")
        assert getattr(entry, field)
        assert [one for one in asked.values() if getattr(entry, one)] == [field]
    (entry,) = bucket.list_all_objects("b", props=FULL)
    assert (entry.size, entry.version, entry.copies, entry.flags) == (7, "1", 1, 64)
    assert entry.location.startswith("t[")
    listed = [entry.name for entry in bucket.list_all_objects("", props="name,bogus")]
    assert listed == ["a/1", "a/2", "b"]


@pytest.mark.parametrize("flag", list(ListObjectFlag))
def test_every_flag_lists_a_native_bucket_or_says_why_not(bucket: Bucket, flag: ListObjectFlag) -> None:
    for name in ("a/1", "a/2", "b"):
        put(bucket, name)
    if flag in (ListObjectFlag.NOT_CACHED, ListObjectFlag.DIFF, ListObjectFlag.NBI):
        with pytest.raises(AISError) as caught:
            bucket.list_all_objects(flags=[flag])
        assert caught.value.status_code == 400
        return
    listed = bucket.list_all_objects(flags=[flag])
    expected = ["a/", "b"] if flag == ListObjectFlag.NO_RECURSION else ["a/1", "a/2", "b"]
    assert [entry.name for entry in listed] == expected
    assert all(entry.is_cached() for entry in listed if not entry.name.endswith("/"))
    assert {entry.size for entry in listed if not entry.name.endswith("/")} == (
        {0} if flag == ListObjectFlag.NAME_ONLY else {7}
    )
