"""Remote buckets over the S3 endpoint: fetched when they are read, written through."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backends.conftest import Remote


@pytest.fixture
def s3(remote: Remote) -> Iterator[Any]:
    remote.here.head()  # from then on the cluster knows it
    made = boto3.client(
        "s3",
        endpoint_url=f"{remote.near.url}/s3",
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",
        config=Config(retries={"max_attempts": 1}),
    )
    yield made
    made.close()


def test_cold_objects_are_fetched_and_kept(remote: Remote, s3: Any) -> None:
    content = random.Random(1).randbytes(3 << 20)
    remote.put("dir/cold", content)
    head = s3.head_object(Bucket=remote.name, Key="dir/cold")
    assert head["ContentLength"] == len(content)
    assert s3.get_object(Bucket=remote.name, Key="dir/cold", Range="bytes=5-9")["Body"].read() == content[5:10]
    assert s3.get_object(Bucket=remote.name, Key="dir/cold")["Body"].read() == content
    assert s3.get_object(Bucket=remote.name, Key="dir/cold")["Body"].read() == content
    assert remote.cached() == {"dir/cold"}


def test_what_is_written_is_in_the_backend(remote: Remote, s3: Any) -> None:
    content = random.Random(2).randbytes(11 << 20)
    s3.put_object(Bucket=remote.name, Key="small", Body=b"small")
    in_parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    s3.upload_fileobj(io.BytesIO(content), remote.name, "large", Config=in_parts)
    s3.copy_object(Bucket=remote.name, Key="copy", CopySource={"Bucket": remote.name, "Key": "small"})
    assert (remote.there("small"), remote.there("large"), remote.there("copy")) == (b"small", content, b"small")
    assert s3.get_object(Bucket=remote.name, Key="large")["Body"].read() == content
    s3.delete_object(Bucket=remote.name, Key="small")
    s3.delete_objects(Bucket=remote.name, Delete={"Objects": [{"Key": "large"}, {"Key": "copy"}]})
    assert [remote.there(name) for name in ("small", "large", "copy")] == [None] * 3
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(Bucket=remote.name, Key="large")


def test_listings_go_page_by_page_through_what_the_backend_has(remote: Remote, s3: Any) -> None:
    names = ["a", "b/1", "b/2", "b0", "c/x/1", "d"]
    for name in names:
        remote.put(name, b"x")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=remote.name, PaginationConfig={"PageSize": 2})
    assert [one["Key"] for page in pages for one in page.get("Contents", [])] == names
    pages = s3.get_paginator("list_objects").paginate(
        Bucket=remote.name, Delimiter="/", PaginationConfig={"PageSize": 2}
    )
    found = list(pages)
    assert [one["Key"] for page in found for one in page.get("Contents", [])] == ["a", "b0", "d"]
    assert [one["Prefix"] for page in found for one in page.get("CommonPrefixes", [])] == ["b/", "c/"]
    level = s3.list_objects_v2(Bucket=remote.name, Prefix="b", Delimiter="/")
    assert ([one["Key"] for one in level["Contents"]], level["CommonPrefixes"]) == (["b0"], [{"Prefix": "b/"}])
