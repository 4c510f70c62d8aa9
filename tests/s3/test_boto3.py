"""boto3 works by pointing it at `/s3`, as it is and with the patch for clusters that redirect."""

from __future__ import annotations

import io
import random
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from aistore import Client

if TYPE_CHECKING:
    from s3.conftest import Endpoint

ODD_KEY = "dir/ä b+c&<>'\"%2F.txt"
LARGE = 32 << 20


def refusal(what: Any, **arguments: Any) -> tuple[str, int]:
    """Code and status of the error that a call ends in."""
    with pytest.raises(ClientError) as raised:
        what(**arguments)
    response = raised.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_objects_keep_content_and_metadata_under_any_key(s3: Any, bck: str) -> None:
    content = random.Random(1).randbytes(5000)
    put = s3.put_object(Bucket=bck, Key=ODD_KEY, Body=content, Metadata={"foo": "bar", "source": "mine"})
    got = s3.get_object(Bucket=bck, Key=ODD_KEY)
    assert (got["Body"].read(), got["Metadata"]) == (content, {"foo": "bar", "source": "mine"})
    head = s3.head_object(Bucket=bck, Key=ODD_KEY)
    assert (head["ETag"], head["ContentLength"], head["Metadata"]) == (put["ETag"], 5000, got["Metadata"])
    assert s3.get_object(Bucket=bck, Key=ODD_KEY, Range="bytes=-3")["Body"].read() == content[-3:]
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bck)["Contents"]] == [ODD_KEY]
    s3.put_object(Bucket=bck, Key=ODD_KEY, Body=b"other")
    assert s3.head_object(Bucket=bck, Key=ODD_KEY)["Metadata"] == {}
    s3.delete_object(Bucket=bck, Key=ODD_KEY)
    assert refusal(s3.get_object, Bucket=bck, Key=ODD_KEY) == ("NoSuchKey", 404)


def test_transfer_manager_moves_large_objects_in_parts(s3: Any, bck: str) -> None:
    content = random.Random(2).randbytes(LARGE)
    s3.upload_fileobj(io.BytesIO(content), bck, "large", ExtraArgs={"Metadata": {"a": "b"}})
    head = s3.head_object(Bucket=bck, Key="large")
    assert (head["ContentLength"], head["Metadata"], head["ETag"][-3:]) == (LARGE, {"a": "b"}, '-4"')
    back = io.BytesIO()
    s3.download_fileobj(bck, "large", back)
    assert back.getvalue() == content
    s3.copy({"Bucket": bck, "Key": "large"}, bck, "copy")  # by parts too
    copied = s3.get_object(Bucket=bck, Key="copy")
    assert (copied["Body"].read(), copied["Metadata"]) == (content, {"a": "b"})
    assert s3.list_multipart_uploads(Bucket=bck).get("Uploads", []) == []


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_streamed_bodies_come_with_checksums_behind_them(s3: Any, bck: str, algorithm: str) -> None:
    for size in (0, 1, 70_000, 3 << 20):
        content = random.Random(size).randbytes(size)
        s3.put_object(Bucket=bck, Key="o", Body=io.BytesIO(content), ChecksumAlgorithm=algorithm)
        assert s3.get_object(Bucket=bck, Key="o")["Body"].read() == content


def test_objects_are_the_same_for_native_clients(s3: Any, bck: str, endpoint: Endpoint) -> None:
    s3.put_object(Bucket=bck, Key="k", Body=b"over s3", Metadata={"who": "boto3"})
    with Client(endpoint.url.removesuffix("/s3"), token=endpoint.token) as client:
        bucket = client.bucket(bck)
        reader = bucket.object("k").get_reader()
        assert reader.read_all() == b"over s3"
        assert bucket.object("k").get_reader().head().custom_metadata == {"who": "boto3"}
        bucket.object("n").get_writer().put_content(b"natively")
        bucket.object("n").get_writer().set_custom_props({"Color": "red"})
    got = s3.get_object(Bucket=bck, Key="n")
    assert (got["Body"].read(), got["Metadata"]) == (b"natively", {"color": "red"})


def test_threads_share_a_client(s3: Any, bck: str) -> None:
    def there_and_back(n: int) -> bool:
        content = random.Random(n).randbytes(10_000 * n)
        s3.put_object(Bucket=bck, Key=f"t/{n}", Body=content)
        return bool(s3.get_object(Bucket=bck, Key=f"t/{n}")["Body"].read() == content)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(there_and_back, range(32)))
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bck, PaginationConfig={"PageSize": 5})
    assert sum(page["KeyCount"] for page in pages) == 32


def test_copies_have_the_metadata_that_was_asked_for(s3: Any, bck: str) -> None:
    s3.put_object(Bucket=bck, Key="a", Body=b"content", Metadata={"n": "1"})
    source = {"Bucket": bck, "Key": "a"}
    s3.copy_object(Bucket=bck, Key="b", CopySource=source)
    s3.copy_object(Bucket=bck, Key="c", CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "2"})
    s3.copy_object(Bucket=bck, Key="c", CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "3"})
    s3.copy_object(Bucket=bck, Key="a", CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "4"})
    found = {key: s3.get_object(Bucket=bck, Key=key) for key in "abc"}
    assert {key: one["Metadata"]["n"] for key, one in found.items()} == {"a": "4", "b": "1", "c": "3"}
    assert {one["Body"].read() for one in found.values()} == {b"content"}
    assert refusal(s3.copy_object, Bucket=bck, Key="a", CopySource=source) == ("InvalidRequest", 400)
    assert refusal(s3.copy_object, Bucket=bck, Key="d", CopySource={"Bucket": bck, "Key": "none"}) == ("NoSuchKey", 404)


def test_many_are_deleted_at_once(s3: Any, bck: str) -> None:
    for key in "abc":
        s3.put_object(Bucket=bck, Key=key, Body=b"x")
    objects = [{"Key": key} for key in ("a", "b", "never was")]
    answer = s3.delete_objects(Bucket=bck, Delete={"Objects": objects})
    assert answer["Deleted"] == objects
    assert [one["Key"] for one in s3.list_objects(Bucket=bck)["Contents"]] == ["c"]
    assert "Deleted" not in s3.delete_objects(Bucket=bck, Delete={"Objects": [{"Key": "c"}], "Quiet": True})
    assert "Contents" not in s3.list_objects(Bucket=bck)


def test_presigned_urls_are_read_by_anybody(s3: Any, bck: str) -> None:
    s3.put_object(Bucket=bck, Key=ODD_KEY, Body=b"signed")
    url = s3.generate_presigned_url("get_object", {"Bucket": bck, "Key": ODD_KEY})
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.read() == b"signed"


def test_conditions_hold_or_nothing_is_done(s3: Any, bck: str) -> None:
    first = s3.put_object(Bucket=bck, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    failed = ("PreconditionFailed", 412)
    assert refusal(s3.put_object, Bucket=bck, Key="k", Body=b"2", IfNoneMatch="*") == failed
    second = s3.put_object(Bucket=bck, Key="k", Body=b"2", IfMatch=first)["ETag"]
    assert refusal(s3.put_object, Bucket=bck, Key="k", Body=b"3", IfMatch=first) == failed
    assert refusal(s3.put_object, Bucket=bck, Key="none", Body=b"3", IfMatch=first) == ("NoSuchKey", 404)
    assert refusal(s3.get_object, Bucket=bck, Key="k", IfMatch=first) == failed
    assert refusal(s3.get_object, Bucket=bck, Key="k", IfNoneMatch=second) == ("304", 304)
    when = s3.head_object(Bucket=bck, Key="k")["LastModified"]
    assert refusal(s3.head_object, Bucket=bck, Key="k", IfModifiedSince=when) == ("304", 304)
    assert refusal(s3.head_object, Bucket=bck, Key="k", IfUnmodifiedSince="Thu, 01 Jan 2015 00:00:00 GMT") == (
        "412",
        412,
    )
    assert s3.get_object(Bucket=bck, Key="k", IfMatch=second, IfUnmodifiedSince=when)["Body"].read() == b"2"


def test_uploads_in_parts_are_listed_aborted_and_compared(s3: Any, bck: str) -> None:
    where = {"Bucket": bck, "Key": "m"}
    upload = s3.create_multipart_upload(**where)["UploadId"]
    tags = {n: s3.upload_part(**where, UploadId=upload, PartNumber=n, Body=b"%d" % n * 100)["ETag"] for n in (1, 2, 3)}
    assert [one["UploadId"] for one in s3.list_multipart_uploads(Bucket=bck)["Uploads"]] == [upload]
    pages = s3.get_paginator("list_parts").paginate(**where, UploadId=upload, PaginationConfig={"PageSize": 2})
    assert {part["PartNumber"]: part["ETag"] for page in pages for part in page["Parts"]} == tags

    def complete(*parts: tuple[int, str]) -> Any:
        named = [{"PartNumber": number, "ETag": tag} for number, tag in parts]
        return {**where, "UploadId": upload, "MultipartUpload": {"Parts": named}}

    done = s3.complete_multipart_upload
    assert refusal(done, **complete((2, tags[2]), (1, tags[1]))) == ("InvalidPartOrder", 400)
    assert refusal(done, **complete((1, tags[1]), (2, tags[1]), (3, tags[3]))) == ("InvalidPart", 400)
    assert refusal(done, **complete((1, tags[1]))) == ("InvalidPart", 400)
    made = done(**complete(*tags.items()))
    assert s3.head_object(**where)["ETag"] == made["ETag"]
    assert s3.get_object(**where)["Body"].read() == b"1" * 100 + b"2" * 100 + b"3" * 100
    assert refusal(done, **complete(*tags.items())) == ("NoSuchUpload", 404)
    upload = s3.create_multipart_upload(**where)["UploadId"]
    s3.abort_multipart_upload(**where, UploadId=upload)
    assert refusal(s3.upload_part, **where, UploadId=upload, PartNumber=1, Body=b"x") == ("NoSuchUpload", 404)


def test_buckets_come_go_and_count_versions(s3: Any, bck: str) -> None:
    assert bck in [one["Name"] for one in s3.list_buckets()["Buckets"]]
    s3.head_bucket(Bucket=bck)
    assert refusal(s3.create_bucket, Bucket=bck) == ("BucketAlreadyExists", 409)
    assert s3.get_bucket_location(Bucket=bck)["LocationConstraint"] is None
    s3.put_bucket_versioning(Bucket=bck, VersioningConfiguration={"Status": "Suspended"})
    assert s3.get_bucket_versioning(Bucket=bck)["Status"] == "Suspended"
    assert refusal(s3.get_bucket_tagging, Bucket=bck) == ("NotImplemented", 501)
    assert refusal(s3.list_objects_v2, Bucket="none-of-them") == ("NoSuchBucket", 404)
