"""Google Cloud Storage: its emulator refuses uploads by the XML interface, which clients use; they are tested through a front that takes them."""

from __future__ import annotations

import http.client
import os
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from aistore import LocalCluster
from aistore.sdk.errors import AISError, ErrObjNotFound
from backends.gcs_front import GcsFront
from bench.peers import Gcs, why_missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.sdk import Bucket

NAMES = ["a", "d/x y", "d/z", "e"]


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    if reason := why_missing("gcs"):
        pytest.skip(reason)
    with Gcs() as peer, LocalCluster(backends={"gcp": peer.options}) as near, near.client() as client:
        peer.make_bucket("data")
        connection = http.client.HTTPConnection(peer.address, timeout=60)
        for name in NAMES:
            target = f"/upload/storage/v1/b/data/o?uploadType=media&name={quote(name, safe='')}"
            connection.request("POST", target, name.encode() * 1000)
            response = connection.getresponse()
            assert (response.read(), response.status)[1] == 200
        connection.close()
        yield client.bucket("data", "gcp")


def test_objects_are_listed_read_and_cached(bucket: Bucket) -> None:
    assert [entry.name for entry in bucket.list_all_objects()] == NAMES
    assert [entry.name for entry in bucket.list_all_objects(prefix="d/x")] == ["d/x y"]
    for name in NAMES:
        assert bucket.object(name).get_reader().read_all() == name.encode() * 1000
        assert bucket.object(name).head().present
    assert bucket.object("a").get_reader(byte_range="bytes=0-1").read_all() == b"aa"


def test_a_missing_object_is_told(bucket: Bucket) -> None:
    with pytest.raises(ErrObjNotFound):
        bucket.object("none").get_reader().read_all()


def test_what_is_deleted_is_gone_there_too(bucket: Bucket) -> None:
    assert bucket.object("e").get_reader().read_all()
    bucket.object("e").delete()
    with pytest.raises(ErrObjNotFound):
        bucket.object("e").get_reader().read_all()
    assert [entry.name for entry in bucket.list_all_objects()] == NAMES[:-1]


def test_what_the_backend_refuses_to_store_is_not_stored(bucket: Bucket) -> None:
    with pytest.raises(AISError):
        bucket.object("new").get_writer().put_content(b"1")
    with pytest.raises(ErrObjNotFound):
        bucket.object("new").get_reader().read_all()


@pytest.fixture(scope="module")
def written() -> Iterator[Bucket]:
    if reason := why_missing("gcs"):
        pytest.skip(reason)
    with Gcs() as peer, GcsFront(peer.address) as front:
        peer.make_bucket("data")
        backends = {"gcp": {"endpoint": f"http://{front.address}"}}
        with LocalCluster(backends=backends) as near, near.client() as client:
            yield client.bucket("data", "gcp")


@pytest.mark.parametrize("size", [0, 5, 12 << 20], ids=["empty", "small", "in parts"])
def test_what_is_put_is_there_and_comes_back(written: Bucket, size: int) -> None:
    content = os.urandom(size)
    obj = written.object("o")
    obj.get_writer().put_content(content, custom_metadata={"color": "red"})
    assert obj.head().present
    written.evict(keep_md=True)
    assert not obj.head().present
    assert obj.get_reader().read_all() == content
    assert obj.head().custom_metadata["color"] == "red"
    obj.delete()
    assert written.list_all_objects() == []


def test_an_upload_in_parts_is_written_through(written: Bucket) -> None:
    parts = [os.urandom(6 << 20), os.urandom(10)]
    upload = written.object("parts").multipart_upload().create()
    for number, part in enumerate(parts, 1):
        upload.add_part(number).put_content(part)
    upload.complete()
    written.evict(keep_md=True)
    assert written.object("parts").get_reader().read_all() == b"".join(parts)
    written.object("parts").delete()
