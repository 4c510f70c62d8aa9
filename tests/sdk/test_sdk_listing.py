"""Listing: pages, lazy handles, and what is decoded from the wire."""

from __future__ import annotations

import copy
import json
import pickle
from typing import TYPE_CHECKING

import msgspec
import pytest

from aistore.sdk import ListObjectFlag, Object
from aistore.sdk._listing import decode_page
from aistore.sdk.types import BucketEntry, BucketList
from answering import answering, client_of
from peer import Peer, Received

if TYPE_CHECKING:
    from aistore.sdk import Bucket

MSGPACK = "Content-Type: application/msgpack"


def page(token: str, *names: str) -> bytes:
    entries = [{"n": name, "s": 5, "f": 64} for name in names]
    return msgspec.msgpack.encode({"UUID": "u", "ContinuationToken": token, "Entries": entries, "Flags": 0})


def asked(received: Received) -> dict[str, object]:
    value: dict[str, object] = json.loads(received.body)["value"]
    return value


def test_a_page_is_decoded_from_the_wire() -> None:
    decoded = decode_page(
        bytes.fromhex(
            "84a455554944a94e4d51463673"
            "4a3978b1436f6e74696e756174696f6e546f6b656ea0a7456e7472696573"
            "9183a16ea161a17305a16640a5466c61677300"
        )
    )
    assert (decoded.uuid, decoded.continuation_token, decoded.flags) == ("NMQF6sJ9x", "", 0)
    (entry,) = decoded.entries
    assert (entry.name, entry.size, entry.flags, entry.is_cached(), entry.is_ok()) == ("a", 5, 64, True, True)
    assert (entry.checksum, entry.atime, entry.version, entry.location, entry.copies, entry.custom) == (
        "",
        "",
        "",
        "",
        0,
        "",
    )


@pytest.mark.parametrize(
    "bad", [b"", b"{}", page("")[:-3], msgspec.msgpack.encode({"UUID": 3, "ContinuationToken": "", "Flags": 0})]
)
def test_what_is_no_page_is_a_value_error(bad: bytes) -> None:
    with Peer(answering(lambda _: (200, bad, MSGPACK))) as peer, pytest.raises(ValueError):
        client_of(peer).bucket("b").list_objects()


def test_handles_of_entries_are_made_when_they_are_asked_for(bucket: Bucket) -> None:
    bucket.object("dir/o").get_writer().put_content(b"12345")
    (entry,) = bucket.list_all_objects()
    handle = entry.object
    assert isinstance(handle, Object)
    assert entry.object is handle
    assert (handle.name, handle.bucket_name, handle.props_cached.size) == ("dir/o", bucket.name, 5)
    assert handle.get_reader().read_all() == b"12345"


def test_entries_made_by_hand_have_no_handle() -> None:
    entry = BucketEntry(n="x", f=3)
    assert entry.object is None
    assert not entry.is_ok()
    entry.object = "anything"
    assert entry.object == "anything"


def test_entries_travel_between_processes(bucket: Bucket) -> None:
    bucket.object("o").get_writer().put_content(b"content")
    entries = bucket.list_all_objects()
    for again in (pickle.loads(pickle.dumps(entries)), copy.deepcopy(entries)):
        assert [entry.name for entry in again] == ["o"]
        assert again[0].object.get_reader().read_all() == b"content"


def test_pages_made_by_hand() -> None:
    assert BucketList(UUID="u", ContinuationToken="t", Flags=0).entries == []
    with pytest.warns(DeprecationWarning, match="entries"):
        assert BucketList("u", "t", 0, [BucketEntry("x")]).get_entries() == [BucketEntry("x")]


def test_each_page_is_asked_for_with_the_token_of_the_one_before() -> None:
    pages = {"": page("b", "a", "b"), "b": page("c", "c"), "c": page("")}
    with Peer(answering(lambda received: (200, pages[str(asked(received)["continuation_token"])], MSGPACK))) as peer:
        bucket = client_of(peer).bucket("b")
        assert [entry.name for entry in bucket.list_all_objects(start_after="0")] == ["a", "b", "c"]
        values = [asked(received) for received in peer.requests]
        assert [value["uuid"] for value in values] == ["", "u", "u"]
        assert [value.get("start_after") for value in values] == ["0", None, None]
        assert [entry.name for entry in bucket.list_objects_iter()] == ["a", "b", "c"]


def test_an_empty_page_with_a_token_is_not_the_end() -> None:
    pages = {"": page("x"), "x": page("", "y")}
    with Peer(answering(lambda received: (200, pages[str(asked(received)["continuation_token"])], MSGPACK))) as peer:
        bucket = client_of(peer).bucket("b")
        assert [entry.name for entry in bucket.list_objects_iter()] == ["y"]
        assert [entry.name for entry in bucket.list_all_objects()] == ["y"]


def test_an_iterator_asks_when_it_has_to() -> None:
    pages = {"": page("a", "a"), "a": page("", "b")}
    with Peer(answering(lambda received: (200, pages[str(asked(received)["continuation_token"])], MSGPACK))) as peer:
        iterator = client_of(peer).bucket("b").list_objects_iter()
        assert peer.requests == []
        assert next(iterator).name == "a"
        assert len(peer.requests) == 1
        assert next(iterator).name == "b"
        with pytest.raises(StopIteration):
            next(iterator)
        with pytest.raises(StopIteration):
            next(iterator)


def test_what_goes_over_the_wire() -> None:
    with Peer(answering(lambda _: (200, page(""), MSGPACK))) as peer:
        client_of(peer).bucket("b").list_objects(
            "p/", "name", 7, "", "", [ListObjectFlag.NAME_ONLY, ListObjectFlag.NOT_CACHED], "t1", "inv", "s"
        )
        (received,) = peer.requests
        assert (received.method, received.target) == ("GET", "/v1/buckets/b?provider=ais")
        assert (received.headers["accept"], received.headers["ais-inv-name"]) == ("application/msgpack", "inv")
        assert json.loads(received.body) == {
            "action": "list",
            "name": "",
            "value": {
                "prefix": "p/",
                "pagesize": 7,
                "uuid": "",
                "props": "name",
                "continuation_token": "",
                "flags": str(16 + 512 + 32768),
                "target": "t1",
                "start_after": "s",
            },
        }


def test_old_names_of_flags_mean_what_they_meant_on_the_wire() -> None:
    old, new = ("ALL", "TRY_HEAD_REMOTE", "USE_CACHE"), ("MISSING", "DONT_HEAD_REMOTE", "NOT_CACHED")
    assert [ListObjectFlag[name] for name in old] == [ListObjectFlag[name] for name in new]
    assert ListObjectFlag.join_flags([ListObjectFlag.CACHED, ListObjectFlag.CACHED]) == 1
