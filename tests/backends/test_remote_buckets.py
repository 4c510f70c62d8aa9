"""Remote buckets as a whole: known or not, compared with what is there, behind a native bucket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from aistore.sdk.errors import AISError
from aistore.sdk.list_object_flag import ListObjectFlag

if TYPE_CHECKING:
    from aistore.sdk import Client
    from backends.conftest import Remote

CHANGED = 1 << 10


def known(client: Client, remote: Remote) -> bool:
    """Whether the cluster has registered the bucket (its clouds may tell of others)."""
    try:
        head = remote.here.make_request("HEAD", "", params={**remote.here.qparam, "presence": "2"})
    except AISError as error:
        assert error.status_code == 404
        return False
    bid: str = json.loads(head.headers["Ais-Bucket-Props"])["bid"]
    return bid != "0"


@pytest.mark.parametrize("props", ["name,custom", "name,size,version,custom"])
def test_a_listing_tells_what_has_changed_there(remote: Remote, props: str) -> None:
    for name in ("same", "other", "longer", "uncached"):
        remote.put(name, b"12345")
    for name in ("same", "other", "longer"):
        remote.read(name)
    remote.put("other", b"54321")
    remote.put("longer", b"123456")
    remote.put("uncached", b"new")
    found = remote.here.list_all_objects(props=props, flags=[ListObjectFlag.DIFF])
    assert [entry.name for entry in found if entry.flags & CHANGED] == ["longer", "other"]
    for refused in ("name,size", ""):
        with pytest.raises(AISError) as caught:
            remote.here.list_all_objects(props=refused, flags=[ListObjectFlag.DIFF])
        assert caught.value.status_code == 400


def test_a_bucket_becomes_known_by_what_is_asked_of_it_and_not_otherwise(remote: Remote, near_client: Client) -> None:
    remote.put("a", b"1")
    assert not known(near_client, remote)
    with pytest.raises(AISError) as caught:
        remote.here.list_objects(flags=[ListObjectFlag.BCK_PRESENT])
    assert caught.value.status_code == 404
    listed = remote.here.list_all_objects(props="name", flags=[ListObjectFlag.DONT_ADD_REMOTE])
    assert [entry.name for entry in listed] == ["a"]
    looked = remote.here.make_request("HEAD", "", params={**remote.here.qparam, "dont_add_remote_bck_md": "true"})
    assert json.loads(looked.headers["Ais-Bucket-Props"])["bid"] == "0"
    assert not known(near_client, remote)
    remote.here.head()
    assert known(near_client, remote)
    remote.here.evict(keep_md=True)
    assert known(near_client, remote)
    remote.here.evict()
    assert not known(near_client, remote)
    remote.here.evict()  # one that is not known: nothing


def test_only_buckets_elsewhere_are_cloud_buckets(remote: Remote, near_client: Client) -> None:
    remote.here.verify_cloud_bucket()
    from aistore.sdk.errors import InvalidBckProvider

    for call in (near_client.bucket("plain").verify_cloud_bucket, near_client.bucket("plain").evict):
        with pytest.raises(InvalidBckProvider):
            call()


def test_urls_of_a_remote_bucket_can_be_read(remote: Remote) -> None:
    import urllib.request

    for name in ("d/a b", "d/ä", "e"):
        remote.put(name, name.encode())
    urls = list(remote.here.list_urls("d/"))
    assert sorted(urllib.request.urlopen(url).read().decode() for url in urls) == ["d/a b", "d/ä"]


def test_a_native_bucket_in_front_of_a_remote_one(remote: Remote, near_client: Client) -> None:
    remote.put("a", b"far")
    front = near_client.bucket(f"front-{remote.name}").create()
    own = remote.here
    behind = {"name": remote.name, "provider": own.provider.value}
    if own.namespace is not None:
        behind["namespace"] = {"uuid": own.namespace.uuid, "name": ""}  # type: ignore[assignment]  # a document
    try:
        front.object("mine").get_writer().put_content(b"near")
        front.make_request("PATCH", "set-bprops", {"backend_bck": behind})
        assert front.object("a").get_reader().read_all() == b"far"
        assert front.object("mine").get_reader().read_all() == b"near"
        with pytest.raises(AISError, match="detach it"):
            front.make_request("PATCH", "reset-bprops")
        front.make_request("DELETE", "evict-remote-bck")
        assert [entry.name for entry in front.list_all_objects(flags=[ListObjectFlag.CACHED])] == ["mine"]
        front.make_request("PATCH", "set-bprops", {"backend_bck": {"name": "", "provider": ""}})
        assert [entry.name for entry in front.list_all_objects()] == ["mine"]
        assert remote.there("a") == b"far"
        with pytest.raises(AISError) as caught:
            front.make_request("PATCH", "set-bprops", {"backend_bck": {**behind, "name": "no-such-bucket-1"}})
        assert caught.value.status_code == 404
    finally:
        front.delete()
