"""What is read from a remote bucket comes once, whole, and stays; what cannot be had is told apart."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from aistore.sdk import BlobDownloadConfig
from aistore.sdk.errors import AISError, ErrRemoteBckNotFound
from waiting import until

if TYPE_CHECKING:
    from aistore.sdk import Client
    from backends.conftest import Remote

BIG = os.urandom(1 << 16) * 80  # 5 MiB: sent while it comes


def test_what_was_read_once_is_cached_and_needs_its_backend_no_more(remote: Remote) -> None:
    remote.put("small", b"content")
    remote.put("big", BIG)
    before = remote.here.object("small").head()
    assert (before.size, before.present) == (7, False)
    assert remote.read("small") == b"content"
    assert remote.read("big") == BIG
    assert remote.here.object("small").head().present
    remote.place.relay.cut_off()
    assert remote.read("small") == b"content"
    assert remote.read("big") == BIG
    assert remote.read("big", byte_range="bytes=100-199") == BIG[100:200]


def damage(remote: Remote) -> None:
    for path in (remote.near.path / "content").glob("*/*"):
        with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:  # others are removed meanwhile
            if file.seek(0, os.SEEK_END) in (50_000, len(BIG)):
                file.seek(40_000)
                file.write(b"\0" if BIG[40_000] else b"\1")


def test_what_is_damaged_on_the_disk_is_fetched_again(remote: Remote) -> None:
    contents = {"medium": BIG[:50_000], "big": BIG}
    for name, content in contents.items():
        remote.put(name, content)
        assert remote.read(name) == content
    damage(remote)
    for name, content in contents.items():
        before = remote.place.relay.requests("GET", name)
        assert remote.read(name) == content
        assert remote.place.relay.requests("GET", name) > before


@pytest.mark.parametrize("latest", [False, True])
@pytest.mark.parametrize("length", [100, 200_000])
def test_a_part_that_is_damaged_is_fetched_again(remote: Remote, length: int, *, latest: bool) -> None:
    remote.put("big", BIG)
    assert remote.read("big") == BIG
    damage(remote)
    asked = f"bytes=40000-{40_000 + length - 1}"
    assert remote.read("big", latest=latest, byte_range=asked) == BIG[40_000 : 40_000 + length]


def test_an_unreachable_backend_is_said_to_be_and_what_is_cached_is_served(remote: Remote) -> None:
    remote.put("cached", b"1")
    remote.put("not", b"2")
    assert remote.read("cached") == b"1"
    remote.place.relay.cut_off()
    with pytest.raises(AISError) as caught:
        remote.read("not")
    assert caught.value.status_code == 410
    assert remote.place.relay.address in str(caught.value)
    assert "unreachable" in str(caught.value)
    reader = remote.here.object("cached").get_reader(latest=True)
    assert reader.read_all() == b"1"


def test_64_readers_of_one_object_cause_one_download(remote: Remote) -> None:
    remote.put("shared", BIG)
    remote.here.head()
    before = remote.place.relay.requests("GET", "shared")
    with ThreadPoolExecutor(64) as readers:
        digests = set(readers.map(lambda _: hashlib.sha256(remote.read("shared")).digest(), range(64)))
    assert digests == {hashlib.sha256(BIG).digest()}
    assert remote.place.relay.requests("GET", "shared") - before == 1


@pytest.mark.parametrize(
    ("asked", "start", "end"), [("bytes=5-9", 5, 10), ("bytes=-3", -3, None), ("bytes=4000000-", 4000000, None)]
)
def test_a_range_of_an_uncached_object_reads_that_range_only(
    remote: Remote, asked: str, start: int, end: int | None
) -> None:
    remote.put("ranged", BIG)
    assert remote.read("ranged", byte_range=asked) == BIG[start:end]
    assert remote.cached() == set()


def test_a_range_beyond_an_uncached_object_is_refused(remote: Remote) -> None:
    remote.put("short", b"12345")
    with pytest.raises(AISError) as caught:
        remote.read("short", byte_range="bytes=10-20")
    assert caught.value.status_code == 416


def test_a_download_that_breaks_off_is_resumed(remote: Remote) -> None:
    remote.put("broken", BIG)
    remote.here.head()
    remote.place.relay.cuts = [2_000_000, 1_500_000]
    assert remote.read("broken") == BIG
    assert remote.place.relay.cuts == []
    assert remote.cached() == {"broken"}


def test_a_download_that_never_gets_through_leaves_nothing_behind(remote: Remote) -> None:
    remote.put("hopeless", BIG)
    remote.here.head()
    files = _content_files(remote)
    remote.place.relay.cuts_all = 1000
    assert _read_once(remote, "hopeless") != BIG
    remote.place.relay.cuts_all = 0
    assert remote.cached() == set()
    until(lambda: _content_files(remote) <= files)
    assert remote.read("hopeless") == BIG


def _read_once(remote: Remote, name: str) -> bytes:
    """What one GET brings, cut off or refused, without the retries of a client."""
    url = urlsplit(remote.here.object(name).get_url())
    connection = http.client.HTTPConnection(url.netloc, timeout=60)
    try:
        connection.request("GET", f"{url.path}?{url.query}")
        return connection.getresponse().read()
    except http.client.IncompleteRead as cut:
        return cut.partial
    finally:
        connection.close()


def _content_files(remote: Remote) -> set[str]:
    return {path.name for path in (remote.near.path / "content").rglob("*") if path.is_file()}


def test_missing_objects_and_buckets_are_told_apart(remote: Remote, near_client: Client) -> None:
    with pytest.raises(remote.not_found) as missing:
        remote.read("none")
    assert missing.value.status_code == 404
    gone = remote.place.seen_from(near_client, "no-such-bucket")
    with pytest.raises(AISError) as caught:
        gone.object("x").get_reader().read_all()
    assert caught.value.status_code == 404
    if remote.place.provider != "ais":
        assert isinstance(caught.value, ErrRemoteBckNotFound) or remote.place.provider == "azure"


def test_the_latest_version_is_read_when_asked_for(remote: Remote) -> None:
    remote.put("changing", b"one")
    assert remote.read("changing") == b"one"
    remote.put("changing", b"other")
    assert remote.read("changing") == b"one"
    assert remote.read("changing", latest=True) == b"other"
    assert remote.read("changing") == b"other"
    remote.place.delete(remote.name, "changing")
    assert remote.read("changing") == b"other"
    with pytest.raises(remote.not_found) as missing:
        remote.read("changing", latest=True)
    assert missing.value.status_code == 404


def test_a_blob_read_comes_in_ranges_and_is_cached(remote: Remote) -> None:
    remote.put("blob", BIG)
    config = BlobDownloadConfig(chunk_size="1MiB", num_workers="4")
    assert remote.read("blob", blob_download_config=config) == BIG
    assert remote.cached() == {"blob"}
    assert remote.read("blob", blob_download_config=config) == BIG


def test_an_empty_object_is_cached_too(remote: Remote) -> None:
    remote.put("empty", b"")
    assert remote.read("empty") == b""
    assert remote.cached() == {"empty"}
