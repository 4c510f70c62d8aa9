"""Requests that clients sign, against clusters where that counts: presigned URLs, bodies in chunks, keys that have expired."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import io
import time
import urllib.error
import urllib.request
import uuid
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from aistore.server.api.s3.signature import ALGORITHM
from aistore.wire import access
from guarding import Guarded, token
from s3.conftest import boto_client, with_key
from s3.test_boto3 import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(params=["guarded", "guarded3"])
def there(request: pytest.FixtureRequest) -> Guarded:
    found: Guarded = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def bucket(there: Guarded) -> Iterator[str]:
    name = f"signed-{uuid.uuid4().hex[:8]}"
    with there.admin as root:
        root.make_bucket(name)
    yield name
    with there.admin as root:
        root.action("DELETE", f"/v1/buckets/{name}", "destroy-bck")


def signing_with(there: Guarded, bearer: str) -> Any:
    """A client of boto3 with a key that may what a token says."""
    return contextlib.closing(boto_client(f"{there.url}/s3", *with_key(there, bearer), signature_version="s3v4"))


def test_large_objects_and_presigned_urls(there: Guarded, bucket: str) -> None:
    rights = token(there.uuid, 0, {bucket: access.WRITE})
    with signing_with(there, rights) as s3:
        content = bytes(range(256)) * (9 << 12)
        s3.upload_fileobj(io.BytesIO(content), bucket, "large")
        back = io.BytesIO()
        s3.download_fileobj(bucket, "large", back)
        assert back.getvalue() == content
        key = "dir//ä b+c&'%2F"
        put = s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": key})
        get = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": key})
        assert said(put, b"by url", "PUT") == (200, b"")
        assert said(get) == (200, b"by url")
        for url, method in (
            (get, "PUT"),
            (put, "GET"),
            (get.replace("dir//", "dir/"), "GET"),
            (f"{get}&versionId=1", "GET"),
        ):
            status, body = said(url, b"x" if method == "PUT" else None, method)
            assert (status, b"<Code>SignatureDoesNotMatch</Code>" in body) == (403, True), url
        form = s3.generate_presigned_post(bucket, "form")
        assert said(form["url"], b"--x--", "POST", {"Content-Type": "multipart/form-data; boundary=x"})[0] == 501


def said(
    url: str, body: bytes | None = None, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    request = urllib.request.Request(url, body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_an_expired_key_and_a_url_of_version_2_say_so(there: Guarded, bucket: str) -> None:
    until = int(time.time()) + 3
    with signing_with(there, token(admin=True, exp=until)) as s3:
        while time.time() <= until:
            time.sleep(0.05)
        assert refusal(s3.get_object, Bucket=bucket, Key="o") == ("ExpiredToken", 403)
    url = f"{there.url}/s3/{bucket}/o?AWSAccessKeyId=x&Signature=y&Expires=1"
    status, body = said(url)
    assert status == 400
    assert b"AWS4-HMAC-SHA256" in body


class Chunks:
    """A PUT in chunks, each signed, as the SDKs of AWS send streams."""

    def __init__(self, there: Guarded, key: str, secret: str, *, trailer: bool) -> None:
        self._there, self._key, self._trailer = there, key, trailer
        self._moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self._scope = f"{self._moment[:8]}/here/s3/aws4_request"
        self._signing = f"AWS4{secret}".encode()
        for part in self._scope.split("/"):
            self._signing = self._digest(part)

    def _digest(self, text: str) -> bytes:
        return hmac.digest(self._signing, text.encode(), "sha256")

    def put(
        self, path: str, chunks: list[bytes], change: Callable[[bytes], bytes] = lambda body: body
    ) -> tuple[int, bytes]:
        """Status and body of the answer; `change` is done to the body on its way."""
        content = b"".join(chunks)
        payload = f"STREAMING-{ALGORITHM}-PAYLOAD" + "-TRAILER" * self._trailer
        headers = {
            "host": urlsplit(self._there.url).netloc,
            "x-amz-content-sha256": payload,
            "x-amz-date": self._moment,
            "x-amz-decoded-content-length": str(len(content)),
            **({"x-amz-trailer": "x-amz-checksum-sha256"} if self._trailer else {}),
        }
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        canonical = f"PUT\n{path}\n\n{lines}\n{names}\n{payload}"
        last = self._digest(f"{ALGORITHM}\n{self._moment}\n{self._scope}\n{_hash(canonical)}").hex()
        headers["authorization"] = (
            f"{ALGORITHM} Credential={self._key}/{self._scope},SignedHeaders={names},Signature={last}"
        )
        body = b""
        for chunk in (*chunks, b""):
            what = f"{ALGORITHM}-PAYLOAD\n{self._moment}\n{self._scope}\n{last}\n{_hash(b'')}\n{_hash(chunk)}"
            last = self._digest(what).hex()
            body += b"%x;chunk-signature=%s\r\n" % (len(chunk), last.encode()) + (chunk and chunk + b"\r\n")
        if self._trailer:
            trailer = b"x-amz-checksum-sha256:" + b64encode(hashlib.sha256(content).digest())
            what = f"{ALGORITHM}-TRAILER\n{self._moment}\n{self._scope}\n{last}\n{_hash(trailer + bytes([10]))}"
            body += trailer + b"\r\nx-amz-trailer-signature:" + self._digest(what).hex().encode() + b"\r\n"
        connection = http.client.HTTPConnection(urlsplit(self._there.url).netloc)
        try:
            connection.request("PUT", path, change(body + b"\r\n"), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def _hash(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


@pytest.mark.parametrize("trailer", [False, True])
@pytest.mark.parametrize("size", [10, 40_000])
def test_bodies_in_signed_chunks_are_stored_whole_or_not_at_all(
    there: Guarded, bucket: str, size: int, trailer: bool
) -> None:
    chunks = Chunks(there, *with_key(there, token(admin=True)), trailer=trailer)
    pieces = [b"1" * max(size, 8192)] * (size // 1000) + [b"2" * size]
    path = f"/s3/{bucket}/chunks-{size}-{trailer}"
    for change in (
        lambda body: body.replace(b"2222222", b"2222223"),
        lambda body: body.replace(b"chunk-signature=", b"chunk-signature=0" * 0 + b"chunk-signaturf="),
        lambda body: body[:-20],
    ):
        status, _ = chunks.put(path, pieces, change)
        assert status in (400, 403)
        with there.admin as root:
            assert root("GET", path).status == 404
    assert chunks.put(path, pieces)[0] == 200
    with there.admin as root:
        assert root("GET", path).body == b"".join(pieces)
