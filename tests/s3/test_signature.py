"""Signatures of version 4, with botocore as the one that signs, and chunks as AWS has published them."""

from __future__ import annotations

import hashlib
import hmac
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from aistore.http1.head import parse_request
from aistore.http1.incoming import Request
from aistore.server.api.s3.body import AwsChunked, expect_checked
from aistore.server.api.s3.signature import SKEW, ChunkSignatures, signature_of
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

KEY, SECRET = "AISKEXAMPLE234567AAA", "a secret"
HOST = "127.0.0.1:8080"


def received(method: str, target: str, headers: dict[str, str] | list[tuple[str, str]], body: bytes = b"") -> Request:
    """A request as the server sees it."""
    pairs = list(headers.items()) if isinstance(headers, dict) else headers
    lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    head = parse_request(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1"))
    return Request(head, body, None, SimpleNamespace())


def signed(
    method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"", *, region: str = "us-east-1"
) -> dict[str, str]:
    """The headers with which botocore sends a request."""
    request = AWSRequest(method, f"http://{HOST}{target}", {"Host": HOST, **(headers or {})}, body)
    request.context["payload_signing_enabled"] = True
    S3SigV4Auth(Credentials(KEY, SECRET), "s3", region).add_auth(request)
    return dict(request.headers.items())


def presigned(method: str, target: str, expires: int = 60) -> str:
    request = AWSRequest(method, f"http://{HOST}{target}", {})
    S3SigV4QueryAuth(Credentials(KEY, SECRET), "s3", "eu-north-1", expires=expires).add_auth(request)
    return str(request.url).removeprefix(f"http://{HOST}")


def check(request: Request, secret: str = SECRET, now: float | None = None) -> None:
    found = signature_of(request, time.time() if now is None else now)
    assert found is not None
    assert found.key_id == KEY
    found.check(request, secret)


def refused(request: Request, secret: str = SECRET, now: float | None = None) -> str:
    with pytest.raises(ApiError) as raised:
        check(request, secret, now)
    return raised.value.tcode


name = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
parameters = st.lists(st.tuples(name, st.one_of(st.just(""), name)), max_size=4)


@given(
    method=st.sampled_from(["GET", "PUT", "DELETE", "POST"]), key=name, query=parameters, region=st.sampled_from("ab")
)
@settings(max_examples=60)
def test_what_botocore_signs_is_accepted(method: str, key: str, query: list[tuple[str, str]], region: str) -> None:
    target = f"/s3/bucket/{quote(key, safe='/~')}"
    if query:
        target += "?" + "&".join(f"{quote(one, safe='')}={quote(value, safe='')}" for one, value in query)
    headers = signed(method, target, {"x-amz-meta-a": "  two   words "}, region=region)
    check(received(method, target, headers))
    assert refused(received(method, target, headers), "another secret") == "SignatureDoesNotMatch"
    if not query and key.strip("./"):  # botocore does away with dots
        url = presigned(method, target)
        check(received(method, url, {"Host": HOST}))
        assert refused(received(method, url, {"Host": HOST}), "another secret") == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("signed_as", "sent"),
    [
        ("/s3/b/a%20b", "/s3/b/a%20b"),
        ("/s3/b/a~b", "/s3/b/a%7eb"),
        ("/s3/b//a///b", "/s3/b//a///b"),
        ("/s3/b/%2525", "/s3/b/%2525"),
        ("/s3/b?uploads=", "/s3/b?uploads"),
        ("/s3/b?prefix=a%20b&x=", "/s3/b?x&prefix=a+b"),
        ("/s3/b?a=1&a=2&b=", "/s3/b?a=2&b=&a=1"),
        ("/s3/b?k=%2F~%2A", "/s3/b?&k=/%7E*&"),
    ],
)
def test_the_same_call_may_be_written_in_several_ways(signed_as: str, sent: str) -> None:
    check(received("GET", sent, signed("GET", signed_as)))


@pytest.mark.parametrize(
    ("signed_as", "sent"),
    [
        ("/s3/b/a", "/s3/b/A"),
        ("/s3/b/a", "/s3/b//a"),
        ("/s3/b//a", "/s3/b/a"),
        ("/s3/b/%2525", "/s3/b/%25"),
        ("/s3/b/a", "/s3/b/a?versioning"),
        ("/s3/b?prefix=a", "/s3/b?prefix=b"),
        ("/s3/b?prefix=a%20b", "/s3/b?prefix=a%2Bb"),
        ("/s3/b?a=1", "/s3/b?a=1&a=1"),
        ("/s3/b?a=b&c=", "/s3/b?a=&c=b"),
    ],
)
def test_another_call_is_not_accepted(signed_as: str, sent: str) -> None:
    assert refused(received("GET", sent, signed("GET", signed_as))) == "SignatureDoesNotMatch"


def test_the_path_of_the_endpoint_may_be_signed_as_part_of_the_host() -> None:
    """As s3cmd does."""
    headers = signed("GET", "/b/o", {"Host": f"{HOST}/s3"})
    check(received("GET", "/s3/b/o", {**headers, "Host": HOST}))
    assert refused(received("GET", "/s3/s3/b/o", {**headers, "Host": HOST})) == "SignatureDoesNotMatch"
    assert refused(received("GET", "/s3/b/o", {**signed("GET", "/b/o"), "Host": HOST})) == "SignatureDoesNotMatch"


def test_blanks_and_repeated_lines_of_headers_are_as_signed() -> None:
    headers = signed("PUT", "/s3/b/o", {"x-amz-meta-a": "1,2", "x-amz-meta-b": "a b"})
    del headers["x-amz-meta-a"], headers["x-amz-meta-b"]
    pairs = [*headers.items(), ("X-Amz-Meta-A", "1"), ("x-amz-meta-a", " 2 "), ("x-amz-meta-b", "\t a \t  b  ")]
    check(received("PUT", "/s3/b/o", pairs))
    assert refused(received("PUT", "/s3/b/o", [*pairs, ("x-amz-meta-a", "3")])) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("text", ["voilà", "\u0445\u0405"])
def test_bytes_of_utf_8_that_look_like_blanks_are_none(text: str) -> None:
    as_sent = text.encode().decode("latin-1")
    with patch("botocore.auth.SigV4Auth._header_value", lambda _, value: " ".join(value.split(" "))):
        headers = signed("PUT", "/s3/b/o", {"x-amz-meta-a": text})
    check(received("PUT", "/s3/b/o", {**headers, "x-amz-meta-a": as_sent}))


@pytest.mark.parametrize(
    "header", ["x-amz-copy-source", "x-amz-meta-b", "X-Amz-Security-Token", "x-amz-decoded-content-length"]
)
def test_nobody_adds_what_changes_a_call(header: str) -> None:
    assert refused(received("PUT", "/s3/b/o", {**signed("PUT", "/s3/b/o"), header: "/b/other"})) == "AccessDenied"
    assert refused(received("PUT", presigned("PUT", "/s3/b/o"), {"Host": HOST, header: "/b/other"})) == "AccessDenied"


@pytest.mark.parametrize(
    "other", [{"Host": "other"}, {"X-Amz-Date": "{moment}"}, {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}]
)
def test_headers_are_as_signed(other: dict[str, str]) -> None:
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - 61))
    headers = {**signed("PUT", "/s3/b/o"), **{header: text.format(moment=moment) for header, text in other.items()}}
    assert len({header.lower() for header in headers}) == len(headers)
    assert refused(received("PUT", "/s3/b/o", headers)) in ("SignatureDoesNotMatch", "AccessDenied")


@pytest.mark.parametrize(
    ("late", "good"), [(0, True), (SKEW - 60, True), (60 - SKEW, True), (SKEW + 60, False), (-SKEW - 60, False)]
)
def test_clocks_may_differ_by_a_quarter_of_an_hour(late: int, good: bool) -> None:
    request = received("GET", "/s3/b/o", signed("GET", "/s3/b/o"))
    if good:
        check(request, now=time.time() + late)
    else:
        assert refused(request, now=time.time() + late) == "RequestTimeTooSkewed"


def test_a_presigned_url_lasts_as_long_as_it_says() -> None:
    request = received("GET", presigned("GET", "/s3/b/o", 3600), {"Host": HOST})
    check(request, now=time.time() + 3500)
    for late in (3700, -SKEW - 60):
        assert refused(request, now=time.time() + late) == "AccessDenied"
    longer = received(
        "GET", presigned("GET", "/s3/b/o").replace("X-Amz-Expires=60", "X-Amz-Expires=600"), {"Host": HOST}
    )
    assert refused(longer) == "SignatureDoesNotMatch"
    for expires in ("0", "-1", "604801", "x", ""):
        url = presigned("GET", "/s3/b/o").replace("X-Amz-Expires=60", f"X-Amz-Expires={expires}")
        assert refused(received("GET", url, {"Host": HOST})) == "AuthorizationQueryParametersError"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda text: text.replace("/s3/aws4_request", "/ec2/aws4_request"), "AuthorizationHeaderMalformed"),
        (lambda text: text.replace("us-east-1", "eu-west-1"), "SignatureDoesNotMatch"),
        (lambda text: text.replace("Signature=", "Signature=0"), "SignatureDoesNotMatch"),
        (lambda text: text[:-1] + "é", "SignatureDoesNotMatch"),
        (lambda text: text[:-64], "SignatureDoesNotMatch"),
        (lambda text: text.replace("SignedHeaders=host;", "SignedHeaders="), "AccessDenied"),
        (lambda text: text.replace("SignedHeaders=host;", "SignedHeaders=Host;"), "AuthorizationHeaderMalformed"),
        (lambda text: text.replace("SignedHeaders=", "SignedHeaders=z;"), "AuthorizationHeaderMalformed"),
        (lambda text: text.replace("SignedHeaders=", "SignedHeaders=\xe9;"), "AuthorizationHeaderMalformed"),
        (lambda text: text.partition(",")[0], "AuthorizationHeaderMalformed"),
        (lambda _: "AWS4-HMAC-SHA256 ", "AuthorizationHeaderMalformed"),
        (lambda _: f"AWS {KEY}:c2lnbmF0dXJl", "InvalidRequest"),
    ],
)
def test_a_signature_that_is_none_is_refused_with_the_reason(change: Callable[[str], str], code: str) -> None:
    headers = signed("GET", "/s3/b/o")
    headers["Authorization"] = change(headers["Authorization"])
    assert refused(received("GET", "/s3/b/o", headers)) == code


@pytest.mark.parametrize("payload", [None, "", "no hash", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"])
def test_the_body_is_signed_in_a_way_that_is_known(payload: str | None) -> None:
    headers = signed("PUT", "/s3/b/o")
    del headers["X-Amz-Content-SHA256"]
    if payload is not None:
        headers["X-Amz-Content-SHA256"] = payload
    assert refused(received("PUT", "/s3/b/o", headers)) in ("InvalidRequest", "InvalidArgument")


def test_requests_without_a_signature_have_none() -> None:
    assert signature_of(received("GET", "/s3/b/o", {"Host": HOST}), 0.0) is None
    assert signature_of(received("GET", "/s3/b/o", {"Host": HOST, "Authorization": "Bearer x"}), 0.0) is None


def test_a_body_is_what_was_signed() -> None:
    headers = signed("PUT", "/s3/b/o", body=b"content")
    good, bad = (received("PUT", "/s3/b/o", headers, body) for body in (b"content", b"Content"))
    for request in (good, bad):
        check(request)
    expect_checked(good)
    with pytest.raises(ApiError) as raised:
        expect_checked(bad)
    assert raised.value.tcode == "XAmzContentSHA256Mismatch"


# -- chunks --

# The example of AWS: "Signature calculations ... Transferring payload in multiple chunks".
MOMENT, SCOPE = "20130524T000000Z", "20130524/us-east-1/s3/aws4_request"
SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
OF_CHUNKS = (
    ("ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648", b"a" * 65536),
    ("0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497", b"a" * 1024),
    ("b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9", b""),
)


def example_key() -> bytes:
    key = b"AWS4wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    for part in SCOPE.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def chunked(chunks: Any = OF_CHUNKS) -> bytes:
    lines = (
        b"%x;chunk-signature=%s\r\n%s" % (len(data), given.encode(), data and data + b"\r\n") for given, data in chunks
    )
    return b"".join(lines)


def decoded(content: bytes, *, has_trailer: bool = False, step: int = 1000) -> bytes:
    decoder = AwsChunked(ChunkSignatures(example_key(), MOMENT, SCOPE, SEED, has_trailer=has_trailer))
    pieces = [piece for at in range(0, len(content), step) for piece in decoder.feed(content[at : at + step])]
    assert decoder.done
    return b"".join(map(bytes, pieces))


@pytest.mark.parametrize("step", [1, 977, 100_000])
def test_published_chunks_are_accepted(step: int) -> None:
    assert decoded(chunked() + b"\r\n", step=step) == b"a" * 66560


def refused_chunks(content: bytes, **how: Any) -> str:
    with pytest.raises(ApiError) as raised:
        decoded(content, **how)
    return raised.value.tcode


def test_chunks_that_were_changed_left_out_or_added_are_refused() -> None:
    first, second, last = OF_CHUNKS
    for chunks in (
        ((first[0], b"b" + first[1][1:]), second, last),
        (first, last),
        (second, last),
        (first, (second[0], second[1] + b"a"), last),
        (first, second, (first[0], b"")),
        (first, second, second, last),
        (first, second, ("0" * 64, b"")),
    ):
        code = refused_chunks(chunked(chunks) + b"\r\n")
        assert code in ("SignatureDoesNotMatch", "InvalidChunkSizeError")
    assert refused_chunks(chunked().replace(b";chunk-signature=", b";x=") + b"\r\n") == "InvalidRequest"
    assert refused_chunks(chunked() + b"x-amz-checksum-crc32c:AAAAAA==\r\n\r\n") == "InvalidRequest"


def test_trailers_are_signed_where_that_was_announced() -> None:
    trailer = b"x-amz-checksum-crc32c:sOO8/Q==\r\n"
    text = hashlib.sha256(b"x-amz-checksum-crc32c:sOO8/Q==\n").hexdigest()
    what = f"AWS4-HMAC-SHA256-TRAILER\n{MOMENT}\n{SCOPE}\n{OF_CHUNKS[-1][0]}\n{text}"
    given = hmac.digest(example_key(), what.encode(), "sha256").hex().encode()
    whole = chunked() + trailer + b"x-amz-trailer-signature:" + given + b"\r\n\r\n"
    assert decoded(whole, has_trailer=True) == b"a" * 66560
    for bad in (
        whole.replace(b"sOO8", b"tOO8"),
        whole.replace(trailer, b""),
        whole.replace(given, b"0" * 64),
        whole.replace(given, b"\xe9" * 64),
        chunked() + trailer + b"\r\n",
        chunked() + b"\r\n",
    ):
        assert refused_chunks(bad, has_trailer=True) == "SignatureDoesNotMatch"
