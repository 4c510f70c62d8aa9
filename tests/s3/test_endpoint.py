"""The endpoint itself: bodies, listings, errors and hostile input, as bytes on the wire."""

from __future__ import annotations

import base64
import hashlib
import random
import re
import zlib
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistore import Client
from aistore.server.api.s3.body import AwsChunked
from aistore.wire.crc32c import Crc32c
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from aistore import LocalCluster
    from calling import Caller, Got

SIZES = (0, 1, 5000, 70_000, 1_500_000)
NAMES = sorted(["a", "a/", "a/1", "a/b/1", "a/b/2", "a0", "b", "dir/x", "dir/y/z", "dir2/x", "e\u00e9/1", "x&y", "z"])
NAMES.remove("a/")


def code(answer: Got) -> tuple[int, str]:
    found = re.search(b"<Code>(.*?)</Code>", answer.body)
    assert found is not None, answer
    return answer.status, found[1].decode()


def coded(content: bytes, chunk: int, trailer: str = "") -> bytes:
    """A body in `aws-chunked`."""
    out = [
        b"%x;chunk-signature=0\r\n%b\r\n" % (len(content[at : at + chunk]), content[at : at + chunk])
        for at in range(0, len(content), chunk)
    ]
    return b"".join([*out, b"0\r\n", trailer.encode(), b"\r\n"])


def crc32(content: bytes) -> str:
    return base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()


def streaming(size: int) -> dict[str, str]:
    return {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": str(size),
        "x-amz-trailer": "x-amz-checksum-crc32",
    }


# -- bodies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("chunk", [100, 65_536, 1 << 20])
def test_coded_bodies_are_decoded(call: Caller, size: int, chunk: int) -> None:
    content = random.Random(size).randbytes(size)
    body = coded(content, max(chunk, size // 100), f"x-amz-checksum-crc32:{crc32(content)}\r\n")
    assert call("PUT", "/s3/raw/o", body, streaming(size)).status == 200
    assert call("GET", "/s3/raw/o").body == content


def test_chunks_of_one_byte_are_decoded(call: Caller) -> None:
    content = random.Random(1).randbytes(10_000)
    body = coded(content, 1, f"x-amz-checksum-crc32:{crc32(content)}\r\n")
    assert call("PUT", "/s3/raw/o", body, streaming(len(content))).status == 200
    assert call("GET", "/s3/raw/o").body == content


@pytest.mark.parametrize("size", SIZES[1:])
def test_what_comes_with_another_checksum_is_not_stored(call: Caller, size: int) -> None:
    content = random.Random(size).randbytes(size)
    wrong = content[:-1] + bytes([content[-1] ^ 1])
    crc32c = Crc32c()
    crc32c.update(wrong)
    for headers, expected in (
        ({"Content-MD5": base64.b64encode(hashlib.md5(wrong).digest()).decode()}, "BadDigest"),
        ({"x-amz-checksum-crc32": crc32(wrong)}, "BadDigest"),
        ({"x-amz-checksum-crc32c": base64.b64encode(crc32c.digest()).decode()}, "BadDigest"),
        ({"x-amz-checksum-sha1": base64.b64encode(hashlib.sha1(wrong).digest()).decode()}, "BadDigest"),
        ({"x-amz-content-sha256": hashlib.sha256(wrong).hexdigest()}, "XAmzContentSHA256Mismatch"),
        ({"Content-MD5": "not base64"}, "InvalidDigest"),
    ):
        assert code(call("PUT", "/s3/raw/o", content, headers)) == (400, expected)
    body = coded(content, 60_000, f"x-amz-checksum-crc32:{crc32(wrong)}\r\n")
    assert code(call("PUT", "/s3/raw/o", body, streaming(size))) == (400, "BadDigest")
    assert code(call("PUT", "/s3/raw/o", coded(content, 60_000), streaming(size))) == (400, "MalformedTrailerError")
    right = coded(content, 60_000, f"x-amz-checksum-crc32:{crc32(content)}\r\n")
    assert code(call("PUT", "/s3/raw/o", right, streaming(size + 1))) == (400, "IncompleteBody")
    assert code(call("PUT", "/s3/raw/o", right, streaming(size - 1))) == (400, "IncompleteBody")
    assert code(call("GET", "/s3/raw/o")) == (404, "NoSuchKey")
    assert b"<Upload>" not in call("GET", "/s3/raw?uploads").body


def test_coded_bodies_need_a_length(call: Caller) -> None:
    headers = {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
    assert code(call("PUT", "/s3/raw/o", coded(b"x", 1), headers)) == (411, "MissingContentLength")


@settings(max_examples=60)
@given(st.binary(max_size=400), st.integers(1, 200), st.lists(st.integers(1, 50)))
def test_decoder_does_not_care_where_its_input_is_cut(content: bytes, chunk: int, cuts: list[int]) -> None:
    data, decoder, out = coded(content, chunk, "x-a: b\r\n"), AwsChunked(), b""
    for cut in [*cuts, len(data)]:
        out += b"".join(decoder.feed(data[:cut]))
        data = data[cut:]
    assert (out, decoder.done, decoder.trailers) == (content, True, {"x-a": "b"})


@pytest.mark.parametrize(
    "data",
    [b"zz\r\n", b"-1\r\nx\r\n", b"1\nx\r\n0\r\n\r\n", b"1\r\nxy\r\n0\r\n\r\n", b"0\r\n\r\nmore", b"0\r\nno colon\r\n\r\n", b"f" * 5000,
     b"0\r\n" + b"a: b\r\n" * 9000],
)  # fmt: skip
def test_malformed_coding_is_refused(data: bytes) -> None:
    decoder = AwsChunked()
    with pytest.raises(ApiError, match="malformed"):
        for at in range(0, len(data), 700):
            decoder.feed(data[at : at + 700])


def test_a_body_of_crumbs_is_refused() -> None:
    data = b"3f;a\r\n%b\r\n" % bytes(63)
    AwsChunked().feed(data * 10_000)
    AwsChunked().feed(b"40\r\n%b\r\n" % bytes(64) * 10_001)
    with pytest.raises(ApiError, match="shorter than 64 bytes"):
        AwsChunked().feed(data * 10_001)


# -- listings ------------------------------------------------------------------------------------------------------


def listed(prefix: str, delimiter: str, after: str) -> list[str]:
    """What a listing holds, keys and common prefixes in one order."""
    found = set()
    for name in NAMES:
        if name.startswith(prefix):
            at = name.find(delimiter, len(prefix)) if delimiter else -1
            found.add(name if at < 0 else name[: at + len(delimiter)])
    return sorted(one for one in found if one > after)


def fields(body: bytes, name: str) -> list[str]:
    return [one.decode().replace("&amp;", "&") for one in re.findall(f"<{name}>(.*?)</{name}>".encode(), body)]


def test_every_listing_is_what_a_model_says(call: Caller) -> None:
    for name in NAMES:
        assert call("PUT", f"/s3/raw/{quote(name)}", b"x").status == 200
    for prefix in ("", "a", "a/", "d", "none"):
        for delimiter in ("", "/", "/b", "i"):
            for after in ("", "a", "a/1", "a/zzz", "dir/y", "e"):
                for size in (1, 2, 1000):
                    query = {"prefix": prefix, "delimiter": delimiter, "max-keys": str(size)}
                    assert pages(call, "2", {**query, "start-after": after}) == listed(prefix, delimiter, after)
                    assert pages(call, "1", {**query, "marker": after}) == listed(prefix, delimiter, after)
                assert pages(call, "versions", {**query, "key-marker": after}) == listed(prefix, delimiter, after)


def pages(call: Caller, kind: str, query: dict[str, str]) -> list[str]:
    """All entries of a listing, page by page; common prefixes come behind the keys of a page."""
    found: list[str] = []
    mark = {"1": "NextMarker", "2": "NextContinuationToken", "versions": "NextKeyMarker"}[kind]
    while True:
        more = {"1": {}, "2": {"list-type": "2"}, "versions": {"versions": ""}}[kind]
        body = call("GET", f"/s3/raw?{urlencode({**query, **more})}").body
        page = sorted([*fields(body, "Key"), *re_prefixes(body)])
        assert len(page) <= int(query["max-keys"])
        found += page
        if fields(body, "IsTruncated") == ["false"]:
            return found
        query = {
            **query,
            {"1": "marker", "2": "continuation-token", "versions": "key-marker"}[kind]: fields(body, mark)[0],
        }


def re_prefixes(body: bytes) -> list[str]:
    return fields(body, "CommonPrefixes><Prefix") or [
        one.decode().replace("&amp;", "&") for one in re.findall(b"<CommonPrefixes><Prefix>(.*?)</Prefix>", body)
    ]


def test_names_that_xml_cannot_hold_are_listed_encoded(call: Caller, cluster: LocalCluster) -> None:
    with Client(cluster.url) as client:
        client.bucket("raw").object("odd\x01 name").get_writer().put_content(b"x")
    assert fields(call("GET", "/s3/raw?encoding-type=url").body, "Key") == ["odd%01%20name"]
    assert fields(call("GET", "/s3/raw").body, "Key") == ["odd\ufffd name"]


def test_bad_listings_are_refused(call: Caller) -> None:
    for query in ("max-keys=x", "max-keys=-1", "list-type=2&continuation-token=%25%25"):
        assert code(call("GET", f"/s3/raw?{query}")) == (400, "InvalidArgument")
    assert fields(call("GET", "/s3/raw?max-keys=0").body, "IsTruncated") == ["false"]


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<Delete>",
        b"<Other/>",
        b"<Delete></Delete>",
        b'<!DOCTYPE d [<!ENTITY a "b">]><Delete><Object><Key>&a;</Key></Object></Delete>',
        b'<!DOCTYPE d SYSTEM "file:///etc/passwd"><Delete><Object><Key>k</Key></Object></Delete>',
        b"<Delete>" + b"<a>" * 50 + b"</a>" * 50 + b"</Delete>",
        b"<Delete>" + b"<a/>" * 250_000 + b"</Delete>",
        b"<Delete><Object><Key>" + b"k" * 100_000 + b"</Key></Object></Delete>",
        b"<Delete>" + b"<Object><Key>k</Key></Object>" * 1001 + b"</Delete>",
        b'<?xml version="1.0" encoding="none"?><Delete/>',
        '<?xml version="1.0" encoding="utf-16"?><Delete><Object><Key>k</Key></Object></Delete>'.encode("utf-16"),
        b"<Delete "
        + b" ".join(b'a%d=">"' % number for number in range(20_000))
        + b"><Object><Key>k</Key></Object></Delete>",
    ],
)
def test_hostile_documents_are_refused(call: Caller, document: bytes) -> None:
    assert code(call("POST", "/s3/raw?delete", document)) == (400, "MalformedXML")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "?prefix=%ff"),
        ("GET", "?marker=%ed%a0%80&delimiter=/"),
        ("GET", "?versions&key-marker=%ff"),
        ("GET", "/o?uploadId=%ff"),
        ("PUT", "/o?uploadId=%ff&partNumber=1"),
        ("DELETE", "/o?uploadId=%ff"),
    ],
)
def test_a_query_that_is_no_text_is_refused(call: Caller, method: str, path: str) -> None:
    assert code(call(method, f"/s3/raw{path}", b"x" if method == "PUT" else None)) == (400, "InvalidArgument")


def test_a_source_that_is_no_text_is_refused(call: Caller) -> None:
    for source in ("/%ff/o", "/raw/%ff"):
        assert code(call("PUT", "/s3/raw/o", b"", {"x-amz-copy-source": source})) == (400, "InvalidArgument")


def test_documents_have_a_bound(call: Caller) -> None:
    answer = call("POST", "/s3/raw?delete", b"<Delete>" + b" " * (9 << 20) + b"</Delete>")
    assert code(answer) == (413, "EntityTooLarge")


def test_access_of_the_bucket_holds_over_s3(call: Caller) -> None:
    assert call("PUT", "/s3/raw/k", b"x").status == 200
    document = b"<Delete><Object><Key>k</Key></Object></Delete>"
    refused = {"PUT": "/s3/raw/k", "DELETE": "/s3/raw/k", "GET": "/s3/raw/k", "POST": "/s3/raw/k?uploads"}
    none = b'{"action":"set-bprops","value":{"access":"0"}}'
    assert call("PATCH", "/v1/buckets/raw", none, {"Content-Type": "application/json"}).status == 200
    try:
        for method, path in refused.items():
            assert code(call(method, path, b"x" if method == "PUT" else b"")) == (403, "AccessDenied"), method
        assert code(call("POST", "/s3/raw?delete", document)) == (403, "AccessDenied")
        assert code(call("GET", "/s3/raw")) == (403, "AccessDenied")
        assert call("HEAD", "/s3/raw/k").status == 403
        assert code(call("DELETE", "/s3/raw")) == (403, "AccessDenied")
    finally:
        value = b'{"action":"set-bprops","value":{"access":"18446744073709551615"}}'
        call("PATCH", "/v1/buckets/raw", value, {"Content-Type": "application/json"})


def test_a_name_in_two_namespaces_is_ambiguous(call: Caller) -> None:
    create = b'{"action":"create-bck"}'
    assert (
        call("POST", "/v1/buckets/raw?namespace=%23other", create, {"Content-Type": "application/json"}).status == 200
    )
    try:
        assert code(call("GET", "/s3/raw")) == (404, "AmbiguousBucketName")
    finally:
        call(
            "DELETE",
            "/v1/buckets/raw?namespace=%23other",
            b'{"action":"destroy-bck"}',
            {"Content-Type": "application/json"},
        )
    assert call("GET", "/s3/raw").status == 200


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/s3", (405, "MethodNotAllowed")),
        ("PATCH", "/s3/raw", (405, "MethodNotAllowed")),
        ("PATCH", "/s3/raw/k", (405, "MethodNotAllowed")),
        ("POST", "/s3/raw", (501, "NotImplemented")),
        ("GET", "/s3/raw/k?tagging", (501, "NotImplemented")),
        ("GET", "/s3/raw/k?versionId=7", (501, "NotImplemented")),
        ("GET", "/s3/raw/k?partNumber=1", (501, "NotImplemented")),
        ("PUT", "/s3/..", (400, "InvalidBucketName")),
        ("PUT", "/s3/raw/a/../b", (400, "InvalidArgument")),
        ("GET", "/s3/raw/a/../b", (404, "NoSuchKey")),
        ("PUT", "/s3/raw/k?uploadId=none-of-these&partNumber=0", (400, "InvalidArgument")),
        ("PUT", "/s3/raw/k?uploadId=none-of-these&partNumber=10001", (400, "InvalidArgument")),
        ("GET", "/s3/raw/k?uploadId=none-of-these", (404, "NoSuchUpload")),
    ],
)
def test_errors_are_xml_with_their_codes(call: Caller, method: str, path: str, expected: tuple[int, str]) -> None:
    answer = call(method, path, b"x" if method in ("PUT", "POST", "PATCH") else None)
    assert (code(answer), answer.headers["Content-Type"]) == (expected, "application/xml")


def test_an_overwrite_by_a_native_client_has_another_entity_tag(call: Caller) -> None:
    upload = fields(call("POST", "/s3/raw/k?uploads").body, "UploadId")[0]
    tag = call("PUT", f"/s3/raw/k?uploadId={upload}&partNumber=1", b"part").headers["ETag"]
    part = f"<Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>"
    document = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
    assert call("POST", f"/s3/raw/k?uploadId={upload}", document).status == 200
    before = call("HEAD", "/s3/raw/k").headers["ETag"]
    assert before.endswith('-1"')
    assert call("PUT", "/v1/objects/raw/k", b"other").status == 200
    assert call("HEAD", "/s3/raw/k").headers["ETag"].startswith('"v1-')
