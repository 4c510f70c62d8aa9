from __future__ import annotations

import json

import pytest

from aistore.wire.errors import ApiError
from aistore.wire.listing import ListRequest
from aistore.wire.messages import (
    BadMessage,
    JobArgs,
    ListRange,
    convert,
    decode_value,
    encode_action,
    parse_action,
    parse_query,
)
from aistore.wire.names import BucketId

NODE = "p[x]"


def test_envelope_keys_match_in_any_case_and_unknown_ones_are_ignored() -> None:
    message = parse_action(b'{"ACTION":"list","Value":{"PREFIX":"a"},"more":[1],"name":null}', "GET", NODE)
    assert (message.action, message.name, message.value) == ("list", "", {"PREFIX": "a"})
    assert parse_action(b"null", "GET", NODE).action == ""
    assert parse_action(b'{"action":null}', "GET", NODE).action == ""


@pytest.mark.parametrize("tail", [b" trailing", b"}", b"{}", b"\n\x00"])
def test_what_follows_the_first_document_is_ignored(tail: bytes) -> None:
    assert parse_action(b' {"action":"list","name":"\xc3\xbc"}' + tail, "GET", NODE).name == "ü"


BAD = [
    b"",
    b"{",
    b"[]",
    b"7",
    b'"text"',
    b'{"action":5}',
    b'{"action":["x"]}',
    b'{"name":5}',
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b"[" * 100_000,
    b'{"a":' * 5_000,
]


@pytest.mark.parametrize("body", BAD, ids=lambda body: repr(body[:12]))
def test_envelopes_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as info:
        parse_action(body, "POST", NODE)
    assert info.value.status == 400
    assert info.value.message.startswith("p[x]: failed to unmarshal [*apc.ActMsg] (POST), err: ")


def test_encoded_action_has_all_members() -> None:
    assert json.loads(encode_action("list")) == {"action": "list", "name": "", "value": None}


def test_values_are_strict_but_forgive_case_and_null() -> None:
    request = decode_value({"PREFIX": "a", "props": None, "hdr": None, "pagesize": None}, ListRequest, "list", NODE)
    assert request == ListRequest(prefix="a")
    assert decode_value(None, ListRequest, "list", NODE) == ListRequest()
    args = decode_value(
        {"ID": "", "Kind": "lru", "Bck": {"NAME": "b", "provider": "s3", "namespace": None}, "Buckets": None},
        JobArgs,
        "start",
        NODE,
    )
    assert args.bck is not None
    assert args.bck.bucket_id() == BucketId("aws", "", "", "b")


@pytest.mark.parametrize(
    ("value", "go_type"),
    [
        ({"nonsense": 1}, "map[string]interface {}"),
        ({"prefix": 5}, "map[string]interface {}"),
        ({"pagesize": "2"}, "map[string]interface {}"),
        ({"pagesize": 1.5}, "map[string]interface {}"),
        ({"pagesize": True}, "map[string]interface {}"),
        ({"flags": 1}, "map[string]interface {}"),
        ("text", "string"),
        ([1], "[]interface {}"),
        (7, "float64"),
    ],
)
def test_values_refused(value: object, go_type: str) -> None:
    with pytest.raises(ApiError) as info:
        decode_value(value, ListRequest, "list", NODE)
    assert info.value.message.startswith(f"p[x]: failed to unmarshal list ({go_type}), err: ")


@pytest.mark.parametrize("flags", ["x", "-1", "", "1.5", "18446744073709551616", "１"])
def test_flags_refused(flags: str) -> None:
    with pytest.raises(BadMessage):
        ListRequest(flags=flags).flag_bits()


def test_list_range_has_dashed_names() -> None:
    assert convert({"num-workers": 3, "non-recurs": True}, ListRange) == ListRange(num_workers=3, non_recurs=True)


def test_queries_ignore_unknown_keys() -> None:
    query = parse_query(b'{"ID":"abc","Kind":"lru","DaemonID":"x","Bck":null,"Buckets":null,"node":"n"}', "GET", NODE)
    assert (query.id, query.kind, query.bck, query.show_active) == ("abc", "lru", None, None)
    with pytest.raises(ApiError, match=r"\[\*xact.QueryMsg\] \(GET\), err: EOF"):
        parse_query(b"", "GET", NODE)


def test_a_million_names_are_taken() -> None:
    names = [f"{n}.jpg" for n in range(1_000_000)]
    message = parse_action(encode_action("delete-listrange", value={"objnames": names}), "DELETE", NODE)
    assert decode_value(message.value, ListRange, message.action, NODE).objnames == names


@pytest.mark.parametrize("dear", [b"[]", b"{}", b'{"a":1}', b"1", b'""', b"[[]]"])
@pytest.mark.parametrize("end", [b"", b" and more"])
def test_what_takes_long_to_decode_is_refused_unseen(dear: bytes, end: bytes) -> None:
    body = b'{"action":"x","value":[%b]}%b' % (b",".join([dear] * 1_100_000), end)
    with pytest.raises(ApiError, match="err: more than 1048576 values"):
        parse_action(body, "PUT", NODE)


def test_messages_with_too_many_members_are_refused() -> None:
    many = {f"k{n}": n for n in range(1001)}
    for document in (many, {"action": "x", "value": many}):
        with pytest.raises(ApiError, match="more than 1000 members"):
            message = parse_action(json.dumps(document).encode(), "GET", NODE)
            decode_value(message.value, JobArgs, "x", NODE)
