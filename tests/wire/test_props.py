from __future__ import annotations

import json

import pytest

from aistore.wire.errors import ApiError
from aistore.wire.messages import BadMessage
from aistore.wire.props import NATIVE_BID, BucketProps, Decimal, change_props, encode_wire, pack, unpack

PROPS = BucketProps(bid=Decimal(NATIVE_BID + 3), created=Decimal(1748217600123456789))


def test_defaults_are_those_of_the_reference() -> None:
    document = json.loads(encode_wire(PROPS))
    assert list(document)[:4] == ["backend_bck", "write_policy", "provider", "Renamed"]
    assert document["access"] == "18446744073709551615"
    assert document["bid"] == "9223372036854775811"
    assert document["chunks"] == {"objsize_limit": "0B", "max_monolithic_size": "1TiB", "chunk_size": "1GiB"}
    assert document["lru"]["dont_evict_time"] == "2h0m"
    assert document["extra"] == {"aws": {}, "gcp": {}, "oci": {}}


def change(value: object, props: BucketProps = PROPS) -> BucketProps:
    return change_props(props, value, targets=1)


def test_only_given_leaves_change_and_keys_match_in_any_case() -> None:
    new = change(
        {
            "Checksum": {"TYPE": "md5"},
            "access": "255",
            "chunks": {"chunk_size": "1.5GiB"},
            "extra": {"custom": "x"},
            "lru": None,
        }
    )
    assert (new.checksum.type, new.access, new.chunks.chunk_size, new.extra.custom) == ("md5", 255, 3 << 29, "x")
    assert new.checksum.validate_warm_get is PROPS.checksum.validate_warm_get
    assert (new.bid, new.versioning, new.lru) == (PROPS.bid, PROPS.versioning, PROPS.lru)
    assert change({}) == change(None) == PROPS
    assert change({"force": True}) == PROPS


def test_kept_form_is_exact_where_the_wire_rounds() -> None:
    new = change({"chunks": {"chunk_size": "1.5GiB"}})
    assert unpack(pack(new), BucketProps) == new
    assert json.loads(encode_wire(new))["chunks"]["chunk_size"] == "2GiB"


@pytest.mark.parametrize(
    "value",
    [
        {"provider": "aws"},
        {"bid": "1"},
        {"created": "1"},
        {"Renamed": "x"},
        {"nonsense": True},
        {"checksum": {"kind": "md5"}},
        {"checksum": "md5"},
        {"mirror": {"enabled": "true"}},
        {"access": 255},
        {"access": "many"},
        {"access": "18446744073709551616"},
        {"lru": {"dont_evict_time": "soon"}},
        {"chunks": {"chunk_size": "lots"}},
        {"force": 1},
        "text",
        [],
    ],
)
def test_what_cannot_be_decoded(value: object) -> None:
    with pytest.raises(BadMessage):
        change(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"checksum": {"type": "sha1"}},
            'invalid checksum type "sha1" (expecting [crc32c md5 sha256 sha512 xxhash xxhash2 none])',
        ),
        (
            {"mirror": {"enabled": True, "copies": 64}},
            "invalid mirror.copies: 64 (expected value in range [2, 32] or zero for default)",
        ),
        (
            {"ec": {"enabled": True, "data_slices": 77, "parity_slices": 77}},
            "invalid ec.data_slices: 77 (expected value in range [1, 32])",
        ),
        (
            {"ec": {"enabled": True, "data_slices": 1, "parity_slices": 1}},
            "not enough target nodes: EC configuration (D = 1, P = 1) requires at least 3 targets (have 1)",
        ),
        (
            {"write_policy": {"md": "sometimes"}},
            'invalid write policy "sometimes" (expecting one of [immediate delayed never])',
        ),
        ({"write_policy": {"data": "never"}}, 'invalid write policy for data: "never" not implemented yet'),
        ({"extra": {"custom": "x" * 200}}, "invalid extra.custom: too long (200 > 128)"),
        ({"extra": {"custom": "a\nb"}}, "invalid extra.custom: contains control characters"),
        (
            {"chunks": {"chunk_size": "0"}},
            "invalid chunks: chunk_size must be positive and max_monolithic_size at least 1GiB",
        ),
    ],
)
def test_what_is_refused(value: object, message: str) -> None:
    with pytest.raises(ApiError) as info:
        change(value)
    assert (info.value.status, info.value.message) == (400, message)


def test_one_copy_turns_mirroring_off_and_turning_it_on_makes_two() -> None:
    two = change_props(PROPS, {"mirror": {"enabled": True}}, targets=1)
    assert (two.mirror.enabled, two.mirror.copies) == (True, 2)
    one = change_props(two, {"mirror": {"copies": 1}}, targets=1)
    assert (one.mirror.enabled, one.mirror.copies) == (False, 1)
    again = change_props(one, {"mirror": {"enabled": True}}, targets=1)
    assert (again.mirror.enabled, again.mirror.copies) == (True, 2)
