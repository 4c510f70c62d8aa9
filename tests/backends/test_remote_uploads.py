"""Content that comes otherwise than by one PUT: uploads in parts and promoted files go through to the backend; appending does not."""

from __future__ import annotations

import http.client
import json
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from aistore.sdk.errors import AISError

if TYPE_CHECKING:
    from pathlib import Path

    from aistore.sdk import Client
    from backends.conftest import Remote

PARTS = [os.urandom(1 << 16) * 90, os.urandom(1 << 16) * 90, os.urandom(1000)]


def test_an_upload_in_parts_is_written_through_when_it_is_completed(remote: Remote) -> None:
    upload = remote.here.object("parts").multipart_upload().create()
    for number in (2, 3, 1):
        upload.add_part(number).put_content(PARTS[number - 1])
    assert remote.there("parts") is None
    upload.complete()
    assert remote.there("parts") == b"".join(PARTS)
    assert remote.cached() == {"parts"}
    assert remote.here.object("parts").head().custom_metadata["source"]
    remote.here.evict()
    assert remote.read("parts") == b"".join(PARTS)


def test_an_upload_that_the_backend_refuses_stays_open_and_changes_nothing(remote: Remote) -> None:
    remote.here.object("parts").get_writer().put_content(b"before")
    upload = remote.here.object("parts").multipart_upload().create()
    upload.add_part(1).put_content(PARTS[2])
    remote.place.relay.cut_off()
    with pytest.raises(AISError, match="unreachable"):
        upload.complete()
    assert remote.read("parts") == b"before"
    remote.place.relay.refuses = False
    assert remote.there("parts") == b"before"
    upload.complete()
    assert remote.there("parts") == remote.read("parts") == PARTS[2]


def test_an_upload_is_given_up(remote: Remote) -> None:
    upload = remote.here.object("parts").multipart_upload().create()
    upload.add_part(1).put_content(PARTS[2])
    upload.abort()
    with pytest.raises(AISError):
        upload.complete()
    assert remote.there("parts") is None


def test_files_are_promoted_into_a_remote_bucket(remote: Remote, promote_root: Path, near_client: Client) -> None:
    folder = promote_root / remote.name
    (folder / "deep").mkdir(parents=True)
    (folder / "a").write_bytes(PARTS[0])
    (folder / "deep" / "b").write_bytes(b"b")
    remote.put("p/a", b"before")
    remote.here.object("p/").promote(str(folder), recursive=True)
    assert remote.there("p/a") == b"before"
    assert remote.there("p/deep/b") == b"b"
    remote.here.object("p/").promote(str(folder), recursive=True, overwrite_dest=True, delete_source=True)
    assert remote.there("p/a") == remote.read("p/a") == PARTS[0]
    assert not (folder / "a").exists()


def test_a_file_stays_where_the_backend_does_not_take_it(remote: Remote, promote_root: Path) -> None:
    folder = promote_root / remote.name
    folder.mkdir()
    (folder / "a").write_bytes(b"a")
    remote.here.head()
    remote.place.relay.cut_off()
    with pytest.raises(AISError, match="unreachable"):
        remote.here.object("p/").promote(str(folder), overwrite_dest=True, delete_source=True)
    assert (folder / "a").read_bytes() == b"a"
    remote.place.relay.refuses = False
    assert remote.there("p/a") is None


def test_nothing_is_appended_to_a_remote_object(remote: Remote) -> None:
    remote.put("a", b"1")
    with pytest.raises(AISError, match="appended bytes to remote bucket"):
        remote.here.object("a").get_writer().append_content(b"2")
    assert remote.there("a") == b"1"


def test_remote_objects_are_not_renamed(remote: Remote) -> None:
    remote.put("a", b"1")
    url = urlsplit(remote.here.object("a").get_url())
    connection = http.client.HTTPConnection(url.netloc, timeout=60)
    try:
        connection.request("POST", f"{url.path}?{url.query}", json.dumps({"action": "rename-obj", "name": "b"}))
        answer = connection.getresponse()
        refusal = json.loads(answer.read())
    finally:
        connection.close()
    assert answer.status == 501
    assert "not supported for remote buckets" in refusal["message"]
    assert remote.there("a") == b"1"
