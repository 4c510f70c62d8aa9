"""What goes wrong with a backend is told apart, names bucket, endpoint and what to change, and leaves the cache as it was."""

from __future__ import annotations

import os
from http.client import IncompleteRead
from typing import TYPE_CHECKING

import pytest

from aistore import LocalCluster
from aistore.sdk.errors import AISError, ErrBckNotFound, ErrRemoteBckNotFound
from backends.places import CloudPlace
from backends.relay import refuse
from calling import Caller, Got

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.sdk import Bucket, Client
    from backends.conftest import Remote
    from backends.places import Place

BIG = os.urandom(1 << 16) * 60

SLOW_DOWN = refuse("503 Slow Down", b"<Error><Code>SlowDown</Code></Error>", "Retry-After: 1")
TOO_MANY = refuse("429 Too Many Requests", b"<Error><Code>TooManyRequests</Code></Error>", "Retry-After: 1")
DENIED = refuse("403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>")
BROKEN = refuse("500 Internal Server Error", b"<Error><Code>InternalError</Code></Error>")


@pytest.fixture
def cached(remote: Remote) -> Iterator[Remote]:
    """A bucket with an object that is cached, one that was cached and is another one now, and one that never was."""
    remote.put("cached", b"1")
    remote.put("other", b"2")
    remote.read("cached")
    yield remote
    remote.place.relay.restore()
    assert remote.cached() == {"cached"}  # nothing came of what failed
    assert remote.read("cached") == b"1"
    assert remote.read("other") == b"2"


def _ask(remote: Remote, method: str, name: str, body: bytes | None = None) -> Got:
    """One request, which nobody repeats."""
    path = remote.here.object(name).get_url().removeprefix(remote.near.url)
    with Caller(remote.near.url) as call:
        return call(method, path, body)


def _refusals(remote: Remote) -> list[Got]:
    """Answers to reading what is not cached, writing and deleting what is."""
    return [
        _ask(remote, "GET", "other"),
        _ask(remote, "PUT", "cached", b"new"),
        _ask(remote, "DELETE", "cached"),
    ]


@pytest.mark.parametrize("answer", [SLOW_DOWN, TOO_MANY], ids=["503", "429"])
def test_a_throttled_request_is_repeated(cached: Remote, answer: bytes) -> None:
    cached.place.relay.answers = [answer, answer]
    got = _ask(cached, "GET", "other")
    assert (got.status, got.body) == (200, b"2")
    assert cached.place.relay.answers == []
    cached.here.evict(keep_md=True)
    cached.read("cached")


def test_a_backend_that_stays_throttled_is_said_to_be(cached: Remote) -> None:
    cached.place.relay.answers_all = SLOW_DOWN
    got = _ask(cached, "GET", "other")
    assert got.status == 429
    assert got.headers["Retry-After"]
    message = str(got.error["message"])
    assert cached.here.name in message
    assert cached.place.relay.address in message
    assert "throttled" in message
    assert _ask(cached, "GET", "cached").body == b"1"


def test_what_is_forbidden_is_said_to_be(cached: Remote) -> None:
    cached.place.relay.answers_all = DENIED
    for got in _refusals(cached):
        assert got.status == 403
        message = str(got.error["message"])
        for part in (cached.here.name, cached.place.relay.address, "AccessDenied", "check the credentials"):
            assert part in message


def test_a_backend_that_fails_is_said_to(cached: Remote) -> None:
    cached.place.relay.answers_all = BROKEN
    for got in _refusals(cached):
        assert got.status in (500, 502)
        assert "InternalError" in str(got.error["message"])


def test_an_endpoint_that_is_down_is_said_to_be(cached: Remote) -> None:
    cached.place.relay.cut_off()
    for got in _refusals(cached):
        assert got.status == 410
        message = str(got.error["message"])
        for part in (cached.here.name, cached.place.relay.address, "unreachable", "check the endpoint"):
            assert part in message


def test_what_is_cached_is_served_with_a_warning_while_the_backend_is_down(cached: Remote) -> None:
    cached.place.relay.cut_off()
    path = cached.here.object("cached").get_url().removeprefix(cached.near.url)
    with Caller(cached.near.url) as call:
        got = call("GET", f"{path}&latest-ver=true")
    assert (got.status, got.body) == (200, b"1")
    assert "Revalidation Failed" in got.headers["Warning"]
    assert "Warning" not in _ask(cached, "GET", "cached").headers


def test_a_bucket_that_there_is_not_is_named_with_its_place(remote: Remote, near_client: Client) -> None:
    missing = f"x{remote.name}"
    here = remote.place.seen_from(near_client, missing)
    with pytest.raises((ErrRemoteBckNotFound, ErrBckNotFound)) as caught:
        here.object("a").get_reader().read_all()
    assert missing in str(caught.value)
    if remote.place.provider != "ais":
        assert remote.place.relay.address in str(caught.value)


def test_a_wrong_credential_changes_nothing(places: dict[str, Place]) -> None:
    place = places.get("s3")
    if not isinstance(place, CloudPlace):
        pytest.skip("no S3 server")
    name = place.new_bucket()
    place.put(name, "a", b"1")
    options = {**place.options, "secret_access_key": "wrong"}
    with LocalCluster(backends={"aws": options}) as near, near.client() as client:
        here: Bucket = client.bucket(name, "aws")
        for refused in (
            lambda: here.object("a").get_reader().read_all(),
            lambda: here.object("a").get_writer().put_content(b"2"),
            lambda: here.object("a").delete(),
            lambda: here.list_all_objects(),
        ):
            with pytest.raises(AISError, match="SignatureDoesNotMatch") as caught:
                refused()
            assert caught.value.status_code == 403
    assert place.get(name, "a") == b"1"


def test_a_body_that_never_comes_whole_leaves_the_cached_version(remote: Remote) -> None:
    remote.put("a", b"small")
    remote.read("a")
    remote.put("a", BIG)
    remote.place.relay.drop()  # what went over a connection before counts
    remote.place.relay.cuts_all = 1000  # enough for the answer to a HEAD
    path = remote.here.object("a").get_url().removeprefix(remote.near.url)
    with Caller(remote.near.url) as call:
        try:
            status = call("GET", f"{path}&latest-ver=true").status
        except IncompleteRead:  # the answer had begun
            status = 502
    assert status in (410, 502)
    assert _ask(remote, "GET", "a").body == b"small"
    remote.place.relay.restore()
    assert remote.read("a", latest=True) == BIG


def test_a_backend_that_answers_ranges_with_status_200(remote: Remote) -> None:
    if not isinstance(remote.place, CloudPlace):
        pytest.skip("clusters answer ranges")
    remote.put("x", b"0123456789")
    remote.here.head()  # the bucket is known from now on
    remote.place.relay.answers_all = refuse(
        "200 OK", b"0123", 'ETag: "1"', "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT", "Content-Range: bytes 0-3/10"
    )
    try:
        path = remote.here.object("x").get_url().removeprefix(remote.near.url)
        with Caller(remote.near.url) as call:
            got = call("GET", path, None, {"Range": "bytes=0-3"})
    finally:
        remote.place.relay.restore()
    assert got.status == 501
    assert b'set ranges = \\"cache\\" in [backends.' in got.body
