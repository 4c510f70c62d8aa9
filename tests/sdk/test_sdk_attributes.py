"""Attributes of objects as headers tell them."""

from __future__ import annotations

import copy
import pickle

import pytest

from aistore.http1.head import parse_response
from aistore.sdk.obj.object_attributes import ChunksInfo, ECInfo, ObjectAttributes
from aistore.sdk.obj.object_props import ObjectProps


def of(**headers: str) -> ObjectProps:
    return ObjectProps({name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("k1=v1, k2=v2", {"k1": "v1", "k2": "v2"}),
        ("a=1=2", {"a": "1=2"}),
        ("path=x,y", {"path": "x,y"}),
        ("a=x, y,b=z", {"a": "x, y", "b": "z"}),
        ("novalue", {}),
        ("empty=", {"empty": ""}),
    ],
)
def test_custom_metadata_of_one_line(line: str, expected: dict[str, str]) -> None:
    assert of(Ais_Custom_Md=line).custom_metadata == expected


def test_custom_metadata_of_repeated_lines_keep_their_commas() -> None:
    head = b"HTTP/1.1 200 OK\r\nAis-Custom-Md: a=1, b=2\r\nAis-Custom-Md: c=3\r\n\r\n"
    assert ObjectAttributes(parse_response(head).headers).custom_metadata == {"a": "1, b=2", "c": "3"}


def test_custom_metadata_is_utf8() -> None:
    head = "HTTP/1.1 200 OK\r\nAis-Custom-Md: name=日本\r\n\r\n".encode()
    assert ObjectAttributes(parse_response(head).headers).custom_metadata == {"name": "日本"}


def test_malformed_numbers_are_defaults() -> None:
    props = of(Content_Length="many", Ais_Mirror_Copies="x")
    assert (props.size, props.mirror_copies) == (0, 0)


@pytest.mark.parametrize("text", ["[/a /b]", "[/a,/b]", "/a,/b"])
def test_mirror_paths_of_both_kinds_of_head(text: str) -> None:
    assert of(Ais_Mirror_Paths=text).mirror_paths == ["/a", "/b"]


def test_how_an_object_is_stored() -> None:
    assert of().ec is None
    assert of().chunks is None
    coded = of(ais_ec_generation="5", ais_ec_data="2", ais_ec_parity="1", ais_ec_replicated="true")
    assert coded.ec == ECInfo(5, 2, 1, True)
    assert of(ais_chunks_count="3", ais_chunks_max_chunk_size="7").chunks == ChunksInfo(3, 7)


def test_props_are_a_mapping_of_the_headers() -> None:
    props = of(Ais_Version="3", ETag='"x"')
    assert props["ais-version"] == props["AIS-VERSION"] == "3"
    assert "Ais-Version" in props
    assert "none" not in props
    assert props.get("none") is None
    assert sorted(props) == ["ais-version", "etag"]
    assert props.etag == "x"
    with pytest.raises(KeyError):
        props["none"]


def test_props_of_nothing_are_still_props() -> None:
    assert of()
    assert len(of()) == 0


@pytest.mark.parametrize("duplicate", [copy.copy, lambda props: pickle.loads(pickle.dumps(props)), ObjectProps])
def test_props_can_be_copied(duplicate: object) -> None:
    head = b"HTTP/1.1 200 OK\r\nAis-Custom-Md: a=1, b\r\nAis-Custom-Md: c=3\r\nAis-Version: 2\r\n\r\n"
    props = ObjectProps(parse_response(head).headers)
    assert callable(duplicate)
    again = duplicate(props)
    assert again == props
    assert again.custom_metadata == {"a": "1, b", "c": "3"}
