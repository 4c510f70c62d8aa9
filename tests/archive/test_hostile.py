"""Archives that lie: a clear error, or what can be read of them, within bounded memory."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from typing import TYPE_CHECKING

import lz4.frame
import pytest

from aistore.server.archive import source as sources
from aistore.server.archive import zip as zips
from aistore.server.archive.errors import BadArchive
from aistore.server.archive.formats import Format, by_name
from aistore.server.archive.index import Stop, build
from aistore.server.archive.reading import content_of, in_one_piece, selected
from aistore.server.archive.source import BytesSource
from archives import EXTENSIONS, MEMBERS, packed, tar, zipped

if TYPE_CHECKING:
    from aistore.server.archive.index import MemoryIndex


def index_of(data: bytes, form: Format) -> MemoryIndex:
    return build(BytesSource(data), form, Stop())


def header(name: bytes = b"x", size: bytes = b"%011o\0" % 0, kind: bytes = b"0", *, more_holes: bool = False) -> bytes:
    """A TAR header with a right checksum and whatever in it."""
    block = bytearray(
        name.ljust(100, b"\0") + bytes(24) + size + bytes(20) + kind + bytes(100) + b"ustar\x0000" + bytes(247)
    )
    assert len(block) == 512
    if more_holes:
        block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    return header(b"pax", b"%011o\0" % len(records), kind) + records + bytes(-len(records) % 512)


def record(key: bytes, value: bytes) -> bytes:
    """A record of a pax header."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while length != len(body) + len(b"%d" % length):
        length += 1
    return b"%d" % length + body


END = bytes(1024)
TARS = {
    "negative size": header(size=b"\xff" * 12) + END,
    "size beyond all": header(size=b"\x80" + b"\xff" * 11) + END,
    "size beyond the archive": header(size=b"%011o\0" % 5000) + bytes(512),
    "size that is no number": header(size=b"99999999999\0") + END,
    "signed size": header(size=b"-0000000001\0") + END,
    "pax size that is no number": pax(record(b"size", b"-10")) + header() + END,
    "pax size beyond all": pax(record(b"size", b"9" * 30)) + header() + END,
    "pax record without end": pax(b"9999 path=x\n") + header() + END,
    "pax record of length 0": pax(b"0 path=x\n") + header() + END,
    "pax record without equals": pax(b"8 pathx\n") + header() + END,
    "huge pax header": header(size=b"%011o\0" % (1 << 30), kind=b"x") + bytes(4096),
    "huge long name": header(size=b"%011o\0" % (1 << 30), kind=b"L") + bytes(4096),
    "endless extended headers": pax(record(b"a", b"b")) * 100 + header() + END,
    "extended header and nothing behind it": pax(record(b"a", b"b")),
    "long name and nothing behind it": header(size=b"%011o\0" % 3, kind=b"L") + b"abc".ljust(512, b"\0") + END,
    "cut in a header": header()[:300],
    "wrong checksum": header().replace(b"x", b"y", 1) + END,
    "text": b"not a tar" * 200,
    "holes without end": header(kind=b"S", more_holes=True) + (bytes(504) + b"\1" + bytes(7)) * 5000,
}


@pytest.mark.parametrize("what", TARS)
def test_a_tar_that_lies_is_damaged(what: str) -> None:
    data = TARS[what]
    damaged = index_of(data, Format.TAR)
    assert damaged.damage
    assert list(damaged.after("")) == []
    with pytest.raises(BadArchive):
        list(selected(BytesSource(data), Format.TAR, lambda name: True))


def test_what_comes_before_the_damage_can_be_read() -> None:
    good = tar([("a", b"alpha"), ("b", b"beta")], tarfile.USTAR_FORMAT)[: 4 * 512]
    index = index_of(good + b"garbage" * 1000, Format.TAR)
    assert index.damage == "tar: invalid header"
    # That the last one is whole only what follows would show.
    assert [member.name for member in index.after("")] == ["a"]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_an_archive_that_was_cut_short_anywhere(extension: str) -> None:
    data, form = packed(extension), by_name("x" + extension)
    assert form is not None
    for cut in sorted(random.Random(2).sample(range(len(data) - 1), 60)):
        index = index_of(data[:cut], form)
        source = BytesSource(data[:cut])
        for member in index.after(""):
            # What is listed can be read, and is right.
            offset = in_one_piece(source, form, member)
            content = source.read_at(offset, member.size) if offset >= 0 else b"".join(content_of(source, form, member))
            assert content == dict(MEMBERS)[member.name]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_flipped_bits_never_do_worse_than_an_error(extension: str) -> None:
    data, form = packed(extension), by_name("x" + extension)
    assert form is not None
    dice = random.Random(3)
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            broken[dice.randrange(len(broken))] ^= 1 << dice.randrange(8)
        source = BytesSource(bytes(broken))
        for member in index_of(bytes(broken), form).after(""):
            try:
                if in_one_piece(source, form, member) < 0:
                    content = b"".join(content_of(source, form, member))
                    assert len(content) == member.size
            except BadArchive:
                pass
        try:
            for _ in selected(source, form, lambda name: True):
                pass
        except BadArchive:
            pass


@pytest.mark.parametrize(("form", "pack"), [(Format.TGZ, gzip.compress), (Format.LZ4, lz4.frame.compress)])
def test_a_compressed_bomb_is_given_up(monkeypatch: pytest.MonkeyPatch, form: Format, pack: type) -> None:
    monkeypatch.setattr(sources, "_ALWAYS_ALLOWED", 1 << 20)
    monkeypatch.setattr(sources, "_RATIO", 20)
    bomb = pack(tar([("zeros", bytes(64 << 20))]))
    tracemalloc.start()
    index = index_of(bomb, form)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "becomes more than" in index.damage
    assert peak < 4 << 20


def test_a_bomb_in_a_zip_is_known_by_its_directory() -> None:
    content = bytes(10 << 20)
    data = bytearray(zipped([("zeros", content)]))
    at = data.index(b"PK\1\2")
    struct.pack_into("<L", data, at + 24, 3_000_000_000)
    assert "claims to become 3000000000 bytes" in index_of(bytes(data), Format.ZIP).damage
    # A directory that tells less than the truth: not a byte more comes out.
    struct.pack_into("<L", data, at + 24, 1000)
    source = BytesSource(bytes(data))
    member = index_of(bytes(data), Format.ZIP).find("zeros")
    assert member is not None
    with pytest.raises(BadArchive, match="not 1000 bytes long"):
        list(content_of(source, Format.ZIP, member))


def test_a_zip_whose_content_was_damaged() -> None:
    data = bytearray(zipped([("a", b"alpha" * 100)], zipfile.ZIP_DEFLATED))
    at = data.index(b"PK\1\2")
    data[at + 16] ^= 1  # the checksum in the directory
    member = index_of(bytes(data), Format.ZIP).find("a")
    assert member is not None
    with pytest.raises(BadArchive, match="checksum"):
        list(content_of(BytesSource(bytes(data)), Format.ZIP, member))


def test_what_cannot_be_decompressed_is_listed_but_not_read() -> None:
    data = bytearray(zipped([("secret", b"alpha" * 100)]))
    at = data.index(b"PK\1\2")
    data[at + 8] |= 1  # encrypted
    member = index_of(bytes(data), Format.ZIP).find("secret")
    assert member is not None
    with pytest.raises(BadArchive, match="encrypted"):
        in_one_piece(BytesSource(bytes(data)), Format.ZIP, member)
    packed_otherwise = zipped([("x", b"alpha" * 100)], zipfile.ZIP_LZMA)
    member = index_of(packed_otherwise, Format.ZIP).find("x")
    assert member is not None
    assert member.method == zips.UNREADABLE
    with pytest.raises(BadArchive, match="not supported"):
        list(selected(BytesSource(packed_otherwise), Format.ZIP, lambda name: True))


ZIPS = {
    "a directory before the archive": struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 46, 4_000_000_000, 0),
    "more members than the directory has room for": struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, 0, 0, 0),
    "several disks": struct.pack("<4s4H2LH", b"PK\5\6", 1, 1, 0, 0, 0, 0, 0),
    "text": b"not a zip" * 200,
    "nothing": b"",
}


@pytest.mark.parametrize("what", ZIPS)
def test_a_zip_that_lies_is_damaged(what: str) -> None:
    index = index_of(ZIPS[what], Format.ZIP)
    assert index.damage == "zip: not a valid zip file"


def test_a_member_outside_of_its_zip() -> None:
    data = bytearray(zipped([("x", b"alpha")]))
    at = data.index(b"PK\1\2")
    struct.pack_into("<L", data, at + 42, 10_000_000)
    assert "lies outside" in index_of(bytes(data), Format.ZIP).damage


def test_sparse_members_are_listed_with_their_size_but_not_read() -> None:
    records = record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.realsize", b"10000")
    data = pax(records) + header(b"holes", b"%011o\0" % 512) + bytes(512) + END
    member = index_of(data, Format.TAR).find("holes")
    assert member is not None
    assert member.size == 10_000
    with pytest.raises(BadArchive, match="sparse"):
        in_one_piece(BytesSource(data), Format.TAR, member)


def test_a_header_of_the_whole_archive_is_none_of_a_member() -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x" * 100}) as archive:
        archive.addfile(tarfile.TarInfo("a"))
    data = made.getvalue()
    assert data[156:157] == b"g"
    assert [member.name for member in index_of(data, Format.TAR).after("")] == ["a"]


def test_too_many_members_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aistore.server.archive.index._MEMBERS_MAX", 10)
    index = index_of(tar([(str(i), b"") for i in range(20)]), Format.TAR)
    assert "too many members" in index.damage
    assert list(index.after("")) == []


def test_raw_deflate_that_never_ends() -> None:
    endless = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = endless.compress(bytes(1 << 20)) + endless.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(BadArchive, match="unexpected EOF"):
        list(zips.inflate(BytesSource(data), 0, len(data), 1 << 21, 0))
