from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistore.wire.errors import ApiError
from aistore.wire.names import (
    BucketId,
    check_object_name,
    check_prefix,
    parse_bucket,
    parse_namespace,
    parse_provider,
    parse_uname,
)


@pytest.mark.parametrize(
    ("text", "provider"), [("", "ais"), ("s3", "aws"), ("gs", "gcp"), ("az", "azure"), ("oc", "oci"), ("ais", "ais")]
)
def test_provider_aliases(text: str, provider: str) -> None:
    assert parse_provider(text) == provider


@pytest.mark.parametrize("text", ["xyz", "ht", "AIS"])
def test_unknown_provider_is_refused(text: str) -> None:
    with pytest.raises(ApiError) as info:
        parse_provider(text)
    assert (info.value.status, info.value.tcode) == (400, "ErrInvalidBackendProvider")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("@#", ("", "")),
        ("@u#n", ("u", "n")),
        ("u", ("u", "")),
        ("#n", ("", "n")),
        ("@u#", ("u", "")),
        ("@@#", ("@", "")),
    ],
)
def test_namespace(text: str, parts: tuple[str, str]) -> None:
    assert parse_namespace(text) == parts


@pytest.mark.parametrize("name", ["a", "a.b", "-a", "A_b", "9", "x" * 64, ".sys-inventory"])
def test_bucket_names_accepted(name: str) -> None:
    assert parse_bucket(name).name == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "bucket name is missing"),
        ("x" * 65, "bucket name is too long: 65 > 64(max length)"),
        ("a..b", "bucket name is invalid"),
        ("a b", "bucket name is invalid"),
        ("a\n", "bucket name is invalid"),
        ("ü", "bucket name is invalid"),
        (".x", 'reserved bucket name ".x" (unknown system bucket)'),
    ],
)
def test_bucket_names_refused(name: str, message: str) -> None:
    with pytest.raises(ApiError, match=r"^400: ") as info:
        parse_bucket(name)
    assert info.value.message.startswith(message)


@pytest.mark.parametrize("namespace", ["@-x#", "@" + "u" * 33 + "#", "@#a b", "@#a..b", "@@#"])
def test_namespaces_refused(namespace: str) -> None:
    with pytest.raises(ApiError):
        parse_bucket("b", "ais", namespace)


@pytest.mark.parametrize(
    ("bucket", "uname", "cname"),
    [
        (BucketId("ais", "", "", "data"), "ais/@#/data/", "ais://data"),
        (BucketId("aws", "", "", "data"), "aws/@#/data/", "s3://data"),
        (BucketId("ais", "u", "n", "data"), "ais/@u#n/data/", "ais://@u#n/data"),
        (BucketId("ais", "u", "", "data"), "ais/@u#/data/", "ais://@u/data"),
        (BucketId("ais", "", "n", "data"), "ais/@#n/data/", "ais://#n/data"),
    ],
)
def test_unique_and_printable_names(bucket: BucketId, uname: str, cname: str) -> None:
    assert (bucket.uname, bucket.cname) == (uname, cname)
    assert parse_uname(uname) == (bucket, "")
    assert parse_uname(uname + "dir/x.tar") == (bucket, "dir/x.tar")


def test_bucket_uname_needs_its_final_slash() -> None:
    with pytest.raises(ApiError, match="bucket name is missing"):
        parse_uname("ais/@#/data")


ROUND_TRIP = [
    " lead",
    "#hash",
    "*star",
    "...",
    ".hidden",
    "100%",
    "a..b",
    "d/..x",
    "dir/.hidden",
    "a/...",
    "~tilde",
    "ü",
    "a\nb",
    "x" * 1024,
]


@pytest.mark.parametrize("name", ROUND_TRIP)
def test_object_names_kept(name: str) -> None:
    assert check_object_name(name) == name


@pytest.mark.parametrize(("name", "stored"), [("/x", "x"), ("//x", "x"), ("a//b", "a/b"), ("/a///b/.c", "a/b/.c")])
def test_object_names_cleaned(name: str, stored: str) -> None:
    assert check_object_name(name) == stored


REFUSED = [
    "",
    "a/",
    "a//",
    "~/a",
    ".",
    "..",
    "a/./b",
    "a/../b",
    "../x",
    "x/..",
    "./x",
    "x/.",
    "/..",
    "a\0b",
    "\0",
    "\udcff",
    "x" * 1025,
    "ä" * 600,
]


@pytest.mark.parametrize("name", [*REFUSED, "/".join(["x" * 1000] * 9)])
def test_object_names_refused(name: str) -> None:
    with pytest.raises(ApiError) as info:
        check_object_name(name)
    assert (info.value.status, info.value.tcode) == (400, "errInvalidPath")


def test_head_may_probe_a_directory() -> None:
    assert check_object_name("a/", directory=True) == "a/"


@given(st.text(max_size=40))
def test_cleaning_is_stable_and_never_leaves_a_path_out_of_the_bucket(name: str) -> None:
    try:
        stored = check_object_name(name)
    except ApiError:
        return
    assert check_object_name(stored) == stored
    segments = stored.split("/")
    assert "" not in segments
    assert ".." not in segments
    assert "." not in segments


def test_prefix_loses_one_star() -> None:
    assert check_prefix("a**", "bad list-objects request") == "a*"
    with pytest.raises(ApiError, match=r"invalid prefix \"\.\./x"):
        check_prefix("../x", "bad list-objects request")
