"""Archives that others made: what is found in them."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import zipfile
from contextlib import nullcontext
from typing import TYPE_CHECKING

import lz4.frame
import pytest

from aistore.server.archive.formats import Format, by_mime, by_name, detect
from aistore.server.archive.index import MemoryIndex, Stop, build
from aistore.server.archive.reading import content_of, in_one_piece, selected
from aistore.server.archive.source import BytesSource
from aistore.wire.errors import ApiError
from archives import EXTENSIONS, MEMBERS, packed, tar, unpacked, zipped

if TYPE_CHECKING:
    from collections.abc import Iterable


def index_of(data: bytes, form: Format) -> MemoryIndex:
    return build(BytesSource(data), form, Stop())


def read(data: bytes, form: Format, name: str) -> bytes:
    source = BytesSource(data)
    index = index_of(data, form)
    assert index.damage == ""
    member = index.find(name)
    assert member is not None
    offset = in_one_piece(source, form, member)
    return source.read_at(offset, member.size) if offset >= 0 else b"".join(content_of(source, form, member))


def everything(data: bytes, form: Format) -> dict[str, bytes]:
    return {member.name: read(data, form, member.name) for member in index_of(data, form).after("")}


def form_of(extension: str) -> Format:
    form = by_name("x" + extension)
    assert form is not None
    return form


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_member_is_found_and_read(extension: str) -> None:
    assert everything(packed(extension), form_of(extension)) == dict(MEMBERS)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_kind_of_tar_header(form: int) -> None:
    members = [(f"{'d' * 60}/{'e' * 60}/{i}", bytes([i]) * i) for i in range(200)]
    if form != tarfile.USTAR_FORMAT:
        members += [("x" * length, b"long") for length in (99, 100, 101, 255, 256, 257, 1000)]
    assert everything(tar(members, form), Format.TAR) == dict(members)


def test_members_are_listed_in_the_order_of_their_bytes() -> None:
    names = ["b", "a/b", "a.b", "a", "a-b", "\u00e9", "z", "\U0001f600", "\uffff"]
    random.Random(1).shuffle(names)
    listed = [member.name for member in index_of(tar([(name, b"") for name in names]), Format.TAR).after("")]
    assert listed == sorted(names, key=str.encode)


def test_a_listing_goes_on_behind_any_name() -> None:
    names = [f"{i:05}" for i in range(0, 2000, 2)]
    index = index_of(tar((name, b"") for name in names), Format.TAR)
    for after in ("", "00000", "00001", "00998", "01999", "x"):
        assert [member.name for member in index.after(after)] == [name for name in names if name > after]


@pytest.mark.parametrize("make", [tar, zipped])
def test_of_members_that_share_a_name_the_first_counts(make: type) -> None:
    form = Format.ZIP if make is zipped else Format.TAR
    with pytest.warns(UserWarning, match="Duplicate name") if make is zipped else nullcontext():
        data = make([("x", b"first"), ("y", b""), ("x", b"second")])
    assert everything(data, form) == {"x": b"first", "y": b""}


def test_what_is_no_regular_file_is_no_member() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for kind, name in (
            (tarfile.DIRTYPE, "d"),
            (tarfile.SYMTYPE, "s"),
            (tarfile.LNKTYPE, "l"),
            (tarfile.CHRTYPE, "c"),
            (tarfile.FIFOTYPE, "f"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        archive.addfile(tarfile.TarInfo("regular"))
    assert everything(out.getvalue(), Format.TAR) == {"regular": b""}


def test_names_are_cleaned_and_those_that_lead_out_are_left_out() -> None:
    names = ["./a", "b//c", "/d", "../e", "f/../../g", "..", ".", "./h/./i"]
    assert sorted(everything(tar([(name, name.encode()) for name in names]), Format.TAR).items()) == [
        ("a", b"./a"),
        ("b/c", b"b//c"),
        ("d", b"/d"),
        ("h/i", b"./h/./i"),
    ]


def test_several_compressed_streams_are_one_archive() -> None:
    data = tar()
    half = len(data) // 2
    assert everything(gzip.compress(data[:half]) + gzip.compress(data[half:]), Format.TGZ) == dict(MEMBERS)
    assert everything(gzip.compress(data) + bytes(5000), Format.TGZ) == dict(MEMBERS)
    frames = lz4.frame.compress(data[:half]) + lz4.frame.compress(data[half:])
    assert everything(frames, Format.LZ4) == dict(MEMBERS)


def test_a_zip_behind_something_else() -> None:
    assert everything(b"#!/bin/sh\n" * 100 + zipped(), Format.ZIP) == dict(MEMBERS)


def test_a_zip_with_a_long_comment() -> None:
    out = io.BytesIO(zipped())
    with zipfile.ZipFile(out, "a") as archive:
        archive.comment = b"PK\5\6" + b"c" * 60_000
    assert everything(out.getvalue(), Format.ZIP) == dict(MEMBERS)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_selected_members_become_a_tar(extension: str) -> None:
    data = b"".join(selected(BytesSource(packed(extension)), form_of(extension), lambda name: "b" in name))
    assert unpacked(".tar", data) == [one for one in MEMBERS if "b" in one[0]]


def test_nothing_selected_is_nothing() -> None:
    assert list(selected(BytesSource(tar()), Format.TAR, lambda name: False)) == []


def sources() -> Iterable[tuple[str, str, bytes, Format]]:
    yield "x.tar", "", b"", Format.TAR
    yield "x.tar", "zip", b"", Format.ZIP
    yield "x.TAR", "", tar(), Format.TAR
    yield "x", "", zipped(), Format.ZIP
    yield "x", "", gzip.compress(b""), Format.TGZ
    yield "x", "", lz4.frame.compress(b""), Format.LZ4


def test_the_format_is_that_of_mime_type_name_or_content() -> None:
    for name, mime, content, form in sources():
        assert detect(name, mime, BytesSource(content)) is form
    assert [by_mime(mime) for mime in ("application/x-tar", "tar.gz", "application/gzip", ".tar.lz4")] == [
        Format.TAR,
        Format.TGZ,
        Format.ZIP,
        Format.LZ4,
    ]
    for name, mime in (("x.txt", ""), ("x.tar", "text/plain")):
        with pytest.raises(ApiError):
            detect(name, mime, BytesSource(b"text"))
