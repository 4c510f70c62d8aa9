"""Fuzzing of what reads S3's own forms: signatures, chunks of bodies, documents, copy sources, times and tokens."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from aistore.http1.head import BadHead, find_head_end, parse_request
from aistore.http1.incoming import Request
from aistore.server.api.s3 import xml
from aistore.server.api.s3.body import AwsChunked
from aistore.server.api.s3.headers import COPY_SOURCE, check_conditions, copy_source, user_metadata
from aistore.server.api.s3.listing import _decode_token, page_size
from aistore.server.api.s3.signature import ChunkSignatures, signature_of
from aistore.wire.errors import ApiError
from fuzz.engine import Target

if TYPE_CHECKING:
    from collections.abc import Hashable

_NOW: Final = 1_795_343_400.0  # 2026-11-22T10:30:00Z
_NOBODY: Any = None
_MOMENT: Final = b"20261122T103000Z"
_SCOPE: Final = b"AK/20261122/us-east-1/s3/aws4_request"
_HASH: Final = hashlib.sha256().hexdigest().encode()


def _request(data: bytes) -> Request:
    """The request that a head is. Raises `BadHead`."""
    end = find_head_end(data)
    if end < 0:
        raise BadHead(400, "incomplete")
    return Request(parse_request(data[:end]), data[end:], None, _NOBODY)


def _signature(data: bytes) -> Hashable:
    request = _request(data)
    found = signature_of(request, _NOW)
    if found is None:
        return "none"
    try:
        found.check(request, "secret")
    except ApiError as error:
        return error.tcode, found.in_query, len(found.names)
    raise AssertionError("a signature that nobody made is accepted")


def _headers(data: bytes) -> Hashable:
    """What is made of the other headers and parameters of a request."""
    request = _request(data)
    kind: list[object] = []
    for read in (
        lambda: user_metadata(request),
        lambda: check_conditions(request, "tag", _NOW),
        lambda: copy_source(request) if COPY_SOURCE in request.headers else None,
        lambda: page_size(request, "max-keys"),
        lambda: _decode_token(request.params.get("continuation-token", "")),
    ):
        try:
            read()
            kind.append("good")
        except ApiError as error:
            kind.append(error.status)
    return tuple(kind)


def _xml(data: bytes) -> Hashable:
    outermost = ("CompleteMultipartUpload", "Delete", "CreateBucketConfiguration")[data[0] % 3 if data else 0]
    root = xml.parse(data[1:], outermost)
    return outermost, min(len(root.children), 3), bool(root.text.strip())


def _aws_chunked(data: bytes) -> Hashable:
    """The first byte says in which pieces it comes."""
    step, data = 1 + (data[0] if data else 0) % 29, data[1:]
    at_once, in_pieces = AwsChunked(), AwsChunked()
    signed = AwsChunked(ChunkSignatures(b"key", _MOMENT.decode(), _SCOPE.decode(), "seed", has_trailer=True))
    kind: list[object] = []
    try:
        signed.feed(data)
        kind.append(signed.done)
    except ApiError as error:
        kind.append(error.tcode)
    content = b"".join(at_once.feed(data))
    pieces = b"".join(
        bytes(piece) for at in range(0, len(data), step) for piece in in_pieces.feed(data[at : at + step])
    )
    assert (pieces, in_pieces.done, in_pieces.trailers) == (content, at_once.done, at_once.trailers)
    return *kind, at_once.done, bool(content), bool(at_once.trailers)


_IN_HEADER: Final = (
    b"GET /s3/b/k?list-type=2&prefix=a%2Fb HTTP/1.1\r\nHost: h\r\nx-amz-date: " + _MOMENT + b"\r\nx-amz-content-sha256: " + _HASH
    + b"\r\nAuthorization: AWS4-HMAC-SHA256 Credential=" + _SCOPE + b", SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=" + _HASH
    + b"\r\n\r\n"
)  # fmt: skip
_IN_QUERY: Final = (
    b"GET /b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + _SCOPE.replace(b"/", b"%2F") + b"&X-Amz-Date=" + _MOMENT
    + b"&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Signature=" + _HASH + b" HTTP/1.1\r\nHost: h\r\n\r\n"
)  # fmt: skip
_WORDS: Final = (
    b"\r\n", b"%", b"%2F", b"%ff", b"%C4%80", b"+", b"&", b"=", b";", b",", b"/", b"\xff", b"\xe2\x82\xac", b"Signature=", b"Credential=", b"SignedHeaders=",
    b"host;", b"x-amz-date", b"Date: Sun, 22 Nov 2026 10:30:00 +9999\r\n", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", b"UNSIGNED-PAYLOAD", b"X-Amz-Expires=0",
    b"x-amz-meta-a: b\r\n", b"AWS ", b"AWSAccessKeyId=x", b"T", b"Z", b"99999999",
)  # fmt: skip

TARGETS: Final = (
    Target("S3 signatures", _signature, (ApiError, BadHead), (_IN_HEADER, _IN_QUERY, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), _WORDS),
    Target(
        "S3 headers",
        _headers,
        (BadHead,),
        (
            b"PUT /s3/b/k HTTP/1.1\r\nHost: a\r\nx-amz-copy-source: /b/k%20x?versionId=null\r\nx-amz-meta-key: v\r\n\r\n",
            b'GET /s3/b?max-keys=10&continuation-token=YS9i HTTP/1.1\r\nHost: a\r\nIf-None-Match: "tag", W/"x"\r\nIf-Modified-Since: Sun, 22 Nov 2026 10:30:00 GMT\r\n\r\n',
            b'GET /s3/b/k HTTP/1.1\r\nHost: a\r\nIf-Match: *\r\nIf-Unmodified-Since: Sun, 06-Nov-94 08:49:37 GMT\r\n\r\n',
        ),
        (*_WORDS, b"If-Match: ", b"If-Modified-Since: ", b"?versionId=", b"max-keys=", b"continuation-token=", b"_-8", b"Mon, 01 Jan 0001 00:00:00 -9999", b"99999 "),
    ),
    Target(
        "S3 XML",
        _xml,
        (ApiError,),
        (
            b'\x00<?xml version="1.0" encoding="UTF-8"?><CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Part><ETag>"a"</ETag><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>',
            b"\x01<Delete><Quiet>true</Quiet><Object><Key>a&amp;b&#x41;</Key></Object><Object><Key>c</Key></Object></Delete>",
            b"\x02<s:CreateBucketConfiguration xmlns:s='x'><LocationConstraint>eu</LocationConstraint></s:CreateBucketConfiguration>",
        ),
        (b"<!DOCTYPE a [<!ENTITY x 'y'>]>", b"&x;", b"&lt;", b"&#0;", b"&#xD800;", b"<![CDATA[", b"]]>", b"<!--", b"-->", b"<?a b?>", b"<a>" * 40, b"</a>", b"encoding='utf-16'", b"encoding='x'", b"\xff\xfe<\x00", b"xmlns:x=''", b"<Part>", b"\x00", b"<", b">", b"'"),
    ),
    Target(
        "aws-chunked bodies",
        _aws_chunked,
        (ApiError,),
        (
            b"\x055;chunk-signature=" + _HASH + b"\r\nhello\r\n0;chunk-signature=" + _HASH + b"\r\n\r\n",
            b"\x055;chunk-signature=0123\r\nhello\r\n0;chunk-signature=45\r\n\r\n",
            b"\x013\r\nabc\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\nx-amz-trailer-signature:0\r\n\r\n",
        ),
        (b"\r\n", b"\n", b"0\r\n\r\n", b";", b"ffffffffffff", b"5\r\nhello\r\n", b":", b"a:b\r\n", b"\x00", b"\xff", b" ", b";chunk-signature=", b"x-amz-trailer-signature:", _HASH),
    ),
)  # fmt: skip
